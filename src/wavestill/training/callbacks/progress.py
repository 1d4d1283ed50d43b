"""A bar on the terminal: the share of the run that is over, nats and speed."""

import math

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from wavestill.training.callbacks.budget import Budget
from wavestill.training.data import Batch
from wavestill.training.history import History
from wavestill.training.module import Task


class ProgressLine(pl.Callback):
    """Shows how a run goes, on standard error.

    Arguments:
        title: What is being trained.
        budget: The run's clock.
        history: Its figures.
    """

    def __init__(self, title: str, budget: Budget, history: History) -> None:
        self.budget = budget
        self.history = history
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(title, total=1.0, figures="")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        self._bar.start()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Move the bar; the figures are those of the newest row."""
        assert isinstance(pl_module, Task)
        figures = ""
        if self.history.rows:
            row = self.history.rows[-1]
            nats = row.get(pl_module.headline, float("nan"))
            speed = row["samples_per_second"] / 1000
            figures = f"{pl_module.headline} {nats:.4f} · {speed:.1f} k samples/s"
            for name in ("valid_nats", "valid_kl_nats"):
                if not math.isnan(self.history.last(name)):
                    figures += f" · held out {self.history.last(name):.4f}"
        self._bar.update(self._task, completed=self.budget.share(pl_module.step), figures=figures)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self._bar.stop()

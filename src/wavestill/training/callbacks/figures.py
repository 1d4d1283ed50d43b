"""Rows of figures: means over the last steps, validation, speed."""

import math
import time

import lightning.pytorch as pl
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from wavestill.training.callbacks.budget import Budget
from wavestill.training.callbacks.guard import Guard
from wavestill.training.callbacks.validation import Validation
from wavestill.training.config import TrainingConfig
from wavestill.training.data import Batch
from wavestill.training.feeding import Steps
from wavestill.training.hardware import mean_over_processes, num_processes
from wavestill.training.history import History
from wavestill.training.module import Task


class Figures(pl.Callback):
    """Writes a row of the history every so many steps, and validates.

    Figures of training steps are means over those made since the last row, and over all
    processes; those of validation begin with `valid_`. `waiting_share` is the share of the time
    since the last row in which the model waited for its input, in [0, 1]; `skipped_steps` counts
    all those of the run, and `damaged_clips` the clips that could not be read.

    Arguments:
        history: Where the rows go.
        budget: The run's clock.
        guard: Counts the steps that were skipped.
        steps: The run's batches.
        validation: Held-out losses; None: no validation.
        config: Says how often; the last step is always validated.
        writer: TensorBoard's writer; None: none.
    """

    def __init__(
        self,
        history: History,
        budget: Budget,
        guard: Guard,
        steps: Steps,
        validation: Validation | None,
        config: TrainingConfig,
        writer: SummaryWriter | None = None,
    ) -> None:
        self.history = history
        self.budget = budget
        self.guard = guard
        self.steps = steps
        self.validation = validation
        self.config = config
        self.writer = writer
        self._clear()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Rows after the step of a checkpoint are written again."""
        assert isinstance(pl_module, Task)
        self.history.forget_after(pl_module.step)
        self._clear()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Add the step's figures; write a row when it is time."""
        assert isinstance(pl_module, Task)
        if pl_module.accepted:
            for name, value in pl_module.values.items():
                self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._num_steps += 1
        self._num_samples += math.prod(batch.shape) * num_processes()
        step, last = pl_module.step, trainer.should_stop
        validate = self.validation is not None and (
            last or step % self.config.validate_every_steps == 0
        )
        if last or validate or step % self.config.log_every_steps == 0:
            self._write_row(pl_module, validate=validate)

    def _write_row(self, task: Task, *, validate: bool) -> None:
        step, passed_s = task.step, max(1e-9, time.monotonic() - self._since_s)
        row = {"step": float(step), "elapsed_s": self.budget.elapsed_s}
        row["samples_per_second"] = self._num_samples / passed_s
        row["waiting_share"] = min(1.0, (self.steps.waited_s - self._waited_s) / passed_s)
        row["learning_rate"] = self.budget.learning_rate(step - 1)
        row |= {
            name: float(value) / self._num_steps
            for name, value in mean_over_processes(self._sums).items()
        }
        row["skipped_steps"] = float(self.guard.num_skipped)
        if damaged := getattr(self.steps.source, "damaged", None):
            row["damaged_clips"] = float(len(damaged))
            for reason in list(damaged.values()):
                self.steps.note(f"{reason}; other crops take its place")
        if validate and self.validation is not None:
            row |= {f"valid_{name}": value for name, value in self.validation(task).items()}
        self.history.append(row)
        if self.writer is not None:
            for name, value in row.items():
                if name != "step":
                    self.writer.add_scalar(name, value, step)
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._num_steps = 0
        self._num_samples = 0
        self._since_s = time.monotonic()
        self._waited_s = self.steps.waited_s

"""Rows of figures: means over the last steps, validation, speed."""

import math
import time

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from wavestill.training.callbacks.budget import Budget
from wavestill.training.callbacks.validation import Validation
from wavestill.training.config import TrainingConfig
from wavestill.training.data import Batch
from wavestill.training.history import History
from wavestill.training.module import Task


class TrainingDivergedError(ValueError):
    """The loss is no longer finite."""


class Figures(pl.Callback):
    """Writes a row of the history every so many steps, and validates.

    Figures of training steps are means since the last row; those of validation begin with
    `valid_`.

    Arguments:
        history: Where the rows go.
        budget: The run's clock.
        validation: Held-out losses; None: no validation.
        config: Says how often; the last step is always validated.
        writer: TensorBoard's writer; None: none.
    """

    def __init__(
        self,
        history: History,
        budget: Budget,
        validation: Validation | None,
        config: TrainingConfig,
        writer: SummaryWriter | None = None,
    ) -> None:
        self.history = history
        self.budget = budget
        self.validation = validation
        self.config = config
        self.writer = writer
        self._clear()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Rows after the step of a checkpoint are written again."""
        self.history.forget_after(trainer.global_step)
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
        for name, value in pl_module.values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._num_steps += 1
        self._num_samples += math.prod(batch.shape) * trainer.world_size
        step = trainer.global_step
        last = trainer.should_stop or step == trainer.max_steps
        validate = self.validation is not None and (
            last or step % self.config.validate_every_steps == 0
        )
        if last or validate or step % self.config.log_every_steps == 0:
            self._write_row(trainer, pl_module, validate=validate)

    def _write_row(self, trainer: pl.Trainer, task: Task, *, validate: bool) -> None:
        step = trainer.global_step
        row = {"step": float(step), "elapsed_s": self.budget.elapsed_s}
        row["samples_per_second"] = self._num_samples / max(1e-9, time.monotonic() - self._since_s)
        row["learning_rate"] = self.budget.learning_rate(step - 1)
        row |= {name: float(value) / self._num_steps for name, value in self._sums.items()}
        if not torch.isfinite(torch.tensor(row[task.headline])):
            raise TrainingDivergedError(
                f"'{task.headline}' is {row[task.headline]} by step {step}; "
                f"lower 'learning_rate' (it is {task.config.learning_rate:g}) or check the data"
            )
        if validate and self.validation is not None:
            row |= {f"valid_{name}": value for name, value in self.validation(task).items()}
        if trainer.is_global_zero:
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

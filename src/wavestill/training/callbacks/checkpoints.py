"""The state of a run on disk, so that nothing is lost when it is interrupted."""

import time

import lightning.pytorch as pl

from wavestill.training.callbacks.guard import Guard
from wavestill.training.checkpoint import CheckpointFiles
from wavestill.training.data import Batch
from wavestill.training.module import Task


class Checkpoints(pl.Callback):
    """Writes `last.ckpt` every so many minutes, at the end, and when the run is interrupted.

    The one before stays beside it as `previous.ckpt`. While steps are being skipped nothing is
    written: a state in doubt does not take a good one's place.

    Arguments:
        files: Where it goes.
        every_minutes: Minutes between checkpoints.
        guard: Knows of states in doubt.
    """

    def __init__(self, files: CheckpointFiles, every_minutes: float, guard: Guard) -> None:
        self.files = files
        self.every_minutes = every_minutes
        self.guard = guard
        self._written_s = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._written_s = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Write when it is time."""
        due = time.monotonic() - self._written_s >= 60 * self.every_minutes
        due = due and not self.guard.in_doubt
        if trainer.strategy.reduce_boolean_decision(due or trainer.should_stop, all=False):
            self.write(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Keep an interrupted or terminated run; a diverged one keeps its last checkpoint."""
        assert isinstance(pl_module, Task)
        if isinstance(exception, KeyboardInterrupt | SystemExit) and pl_module.step > 0:
            self.write(trainer)

    def write(self, trainer: pl.Trainer) -> None:
        """Write the checkpoint; the first process does, the others wait for it."""
        trainer.save_checkpoint(self.files.last)
        self._written_s = time.monotonic()

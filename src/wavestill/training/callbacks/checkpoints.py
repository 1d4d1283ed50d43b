"""The state of a run on disk, so that nothing is lost when it is interrupted."""

import time
from pathlib import Path

import lightning.pytorch as pl

from wavestill.training.data import Batch


class Checkpoints(pl.Callback):
    """Writes `last.ckpt` every so many minutes, at the end, and when the run is interrupted.

    The file is written beside its place and moved there whole; a run killed while writing keeps
    the one before.

    Arguments:
        folder: Where it goes.
        every_minutes: Minutes between checkpoints.
    """

    def __init__(self, folder: Path, every_minutes: float) -> None:
        self.path = folder / "last.ckpt"
        self.every_minutes = every_minutes
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
        # Divergence is told by the next row of figures; until then the last good state stays.
        due = due and all(bool(p.isfinite().all()) for p in pl_module.parameters())
        last = trainer.should_stop or trainer.global_step == trainer.max_steps
        if trainer.strategy.reduce_boolean_decision(due or last, all=False):
            self.write(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Keep an interrupted run; a diverged one keeps its last good checkpoint."""
        if isinstance(exception, KeyboardInterrupt) and trainer.global_step > 0:
            self.write(trainer)

    def write(self, trainer: pl.Trainer) -> None:
        """Write the checkpoint."""
        partial = self.path.with_suffix(".partial")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            partial.replace(self.path)
        self._written_s = time.monotonic()

"""A request to end: the step is finished, the state is kept, and then the run ends."""

import signal
import threading
from types import FrameType

import lightning.pytorch as pl

from wavestill.training.data import Batch


class Signals(pl.Callback):
    """Notes SIGTERM and the first Ctrl-C while a run is in training; a second Ctrl-C ends at once.

    It stands in the list before what writes the last checkpoint (`Checkpoints`), and after what
    measures at the end of a run.

    Attributes:
        received: The signal that came; None: none.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen; Lightning has set its own handlers by now, which lose the run's place."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Let the run end after this step; all processes at the same one."""
        if trainer.strategy.reduce_boolean_decision(self.received is not None, all=False):
            self.received = self.received or signal.SIGTERM  # or another process was told to
            trainer.should_stop = True

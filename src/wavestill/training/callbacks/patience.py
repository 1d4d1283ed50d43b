"""Early stopping: a run ends when held-out figures have ceased to fall, and keeps the best."""

import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from wavestill.training.callbacks.averaging import Averaging
from wavestill.training.data import Batch
from wavestill.training.history import History
from wavestill.training.module import Task


class Patience(pl.Callback):
    """Remembers the averaged weights of the best validation, and ends a run that improves no more.

    It follows `Figures` in the list of callbacks: it reads the row that a validation has written.

    Arguments:
        patience: Validations without improvement after which the run ends.
        criterion: The held-out figure that should fall, a column of the history.
        history: The run's figures.
        averaging: Where the averaged weights are.
    """

    def __init__(
        self, patience: int, criterion: str, history: History, averaging: Averaging
    ) -> None:
        self.patience = patience
        self.criterion = criterion
        self.history = history
        self.averaging = averaging
        self._best = math.inf
        self._best_weights: list[Tensor] | None = None
        self._num_since = 0

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Look at the newest validation, if this step has had one."""
        assert isinstance(pl_module, Task)
        row = self.history.rows[-1] if self.history.rows else {}
        if row.get("step") == pl_module.step and self.criterion in row:
            if row[self.criterion] < self._best:
                self._best, self._num_since = row[self.criterion], 0
                self._best_weights = [average.clone() for average in self.averaging.averages]
            else:
                self._num_since += 1
        over = trainer.should_stop or self._num_since >= self.patience
        trainer.should_stop = trainer.strategy.reduce_boolean_decision(over, all=False)

    @torch.no_grad()
    def restore(self) -> None:
        """Make the best averages the current ones; where none was finite they stay."""
        if self._best_weights is not None:
            torch._foreach_copy_(self.averaging.averages, self._best_weights)

    def state_dict(self) -> dict[str, Any]:
        """The best validation so far."""
        return {"best": self._best, "weights": self._best_weights, "since": self._num_since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a checkpoint's best validation."""
        self._best, self._num_since = state_dict["best"], state_dict["since"]
        self._best_weights = state_dict["weights"]

"""Averaged weights: those that are validated, heard and kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from wavestill.training.data import Batch
from wavestill.training.module import Task


class Averaging(pl.Callback):
    r"""An exponential moving average of the weights in training.

    .. math:: \bar w_n = d_n \bar w_{n-1} + (1 - d_n) w_n, \quad
        d_n = \min(d, \tfrac{1 + n}{10 + n})

    The warm-up of :math:`d_n` forgets the random start within a few steps.

    Arguments:
        decay: :math:`d` in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._averages: list[Tensor] | None = None

    @property
    def averages(self) -> list[Tensor]:
        """The averages of the parameters in training, in their order."""
        assert self._averages is not None, "averages begin with the run"
        return self._averages

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the weights as they are, unless a checkpoint brought averages."""
        assert isinstance(pl_module, Task)
        weights = pl_module.trained()
        known = self._averages or [weight.detach().clone() for weight in weights]
        self._averages = [
            average.to(weight.device) for average, weight in zip(known, weights, strict=True)
        ]

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Move the averages towards the new weights."""
        assert isinstance(pl_module, Task)
        if not pl_module.accepted:
            return
        step = pl_module.step
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.averages, [w.detach() for w in pl_module.trained()], 1 - decay)

    @contextmanager
    def applied(self, task: Task) -> Iterator[None]:
        """Within it the model runs in evaluation mode on its averaged weights."""
        weights = task.trained()
        current = [weight.detach().clone() for weight in weights]
        was_training = task.model.training
        self.keep(task)
        task.model.eval()
        try:
            yield
        finally:
            task.model.train(was_training)
            with torch.no_grad():
                torch._foreach_copy_(list[Tensor](weights), current)

    @torch.no_grad()
    def keep(self, task: Task) -> None:
        """Write the averages into the model."""
        torch._foreach_copy_(list[Tensor](task.trained()), self.averages)

    def state_dict(self) -> dict[str, Any]:
        """The averages."""
        return {"averages": self._averages}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a checkpoint's averages."""
        self._averages = state_dict["averages"]

"""Steps that must not be made: skipped and counted; a run that keeps failing goes back."""

import copy
import math
import statistics
from collections import deque
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from wavestill.training.callbacks.averaging import Averaging
from wavestill.training.callbacks.budget import Budget
from wavestill.training.config import TrainingConfig
from wavestill.training.data import Batch
from wavestill.training.module import Task

IN_A_ROW = 10
"""Skipped steps in a row after which it is not the batches that are at fault."""

RATE_AFTER = 0.5
"""What a restored run's learning rate is multiplied by."""

RESTORATIONS_MAX = 3
"""Restorations after which a run that fails again stops."""

KEEP_EVERY = 100
"""Steps between the states that a run can be restored to; it goes back to the older of two."""

_NORMS = 100
_NORMS_MIN = 20  # before that there is no usual norm


class TrainingDivergedError(ValueError):
    """The loss is no longer finite, and going back did not help."""


class Guard(pl.Callback):
    r"""Judges every step by its loss and the norm of its gradients, before the weights move.

    A step is skipped if either is not finite, or if with the median over the last 100 steps made

    .. math:: \lVert g \rVert > k \; \mathrm{median}(\lVert g \rVert)

    A skipped step leaves weights, optimiser and averages as they were; the next batch follows.
    After 10 in a row the run goes back to the state of 100 to 200 steps before (it is kept in
    memory), at half the learning rate, with the batches that come next. The fourth time it stops.

    Arguments:
        config: Its `explosion` is :math:`k`.
        averaging: The averaged weights, which go back too.
        budget: Its rate is lowered.
        note: What to call with a line for the user.

    Attributes:
        num_skipped: Steps skipped in the run so far.
    """

    def __init__(
        self,
        config: TrainingConfig,
        averaging: Averaging,
        budget: Budget,
        note: Callable[[str], None],
    ) -> None:
        self.config = config
        self.averaging = averaging
        self.budget = budget
        self.note = note
        self.num_skipped = 0
        self._num_in_row = 0
        self._num_restored = 0
        self._norms: deque[float] = deque(maxlen=_NORMS)
        self._states: list[dict[str, Any]] = []

    @property
    def in_doubt(self) -> bool:
        """Whether the newest step was skipped: no state to be kept."""
        return self._num_in_row > 0

    def allows(self, step: int, loss: float, gradient_norm: float) -> bool:
        """Whether the optimiser may follow these gradients."""
        reason = self._reason(loss, gradient_norm)
        if reason is None:
            self._norms.append(gradient_norm)
            self._num_in_row = 0
            return True
        self.num_skipped += 1
        self._num_in_row += 1
        if self._num_in_row == 1:
            self.note(f"step {step + 1} was skipped: {reason}")
        return False

    def _reason(self, loss: float, gradient_norm: float) -> str | None:
        if not math.isfinite(loss):
            return f"its loss is {loss}"
        if not math.isfinite(gradient_norm):
            return f"the norm of its gradients is {gradient_norm}"
        if len(self._norms) < _NORMS_MIN:
            return None
        usual = statistics.median(self._norms)
        if gradient_norm > self.config.explosion * usual > 0:
            return (
                f"the norm of its gradients is {gradient_norm:.3g}, more than "
                f"{self.config.explosion:g} times the usual {usual:.3g}"
            )
        return None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The state that the run begins with is the first to go back to."""
        assert isinstance(pl_module, Task)
        pl_module.judge = self
        self._states = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the state that the run begins with."""
        self._keep(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Keep a good state now and then; go back to one when steps keep failing.

        Raises:
            TrainingDivergedError: If that has been tried often enough, or the run ends so.
        """
        assert isinstance(pl_module, Task)
        if not self.in_doubt:
            if pl_module.step % KEEP_EVERY == 0:
                self._keep(trainer, pl_module)
            return
        if self._num_in_row >= IN_A_ROW and self._num_restored < RESTORATIONS_MAX:
            self._go_back(trainer, pl_module)
        elif self._num_in_row >= min(IN_A_ROW, pl_module.step) and (
            trainer.should_stop or self._num_in_row >= IN_A_ROW
        ):
            raise TrainingDivergedError(
                f"'{pl_module.headline}' cannot be descended at step {pl_module.step}: "
                f"{self._num_in_row} steps in a row were skipped, after {self._num_restored} "
                f"restorations; lower 'learning_rate' (it is {self.config.learning_rate:g}) or "
                "check the data"
            )

    def _keep(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        assert isinstance(task, Task)
        state: dict[str, Any] = {"state_dict": task.state_dict()}
        task.on_save_checkpoint(state)
        state["optimizers"] = [optimizer.state_dict() for optimizer in trainer.optimizers]
        state["averages"] = self.averaging.averages
        self._states = [*self._states[-1:], _on_cpu(state)]

    @torch.no_grad()
    def _go_back(self, trainer: pl.Trainer, task: Task) -> None:
        state = copy.deepcopy(self._states[0])
        step, since = task.step, state["global_step"]
        task.on_load_checkpoint(state)
        task.load_state_dict(state["state_dict"])
        task.step = step  # the batches go on
        for optimizer, own in zip(trainer.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        for average, own in zip(self.averaging.averages, state["averages"], strict=True):
            average.copy_(own)
        del self._states[1:]
        self._norms.clear()
        self._num_in_row = 0
        self._num_restored += 1
        self.budget.factor *= RATE_AFTER
        self.note(
            f"{IN_A_ROW} steps in a row were skipped up to step {step}: the run goes on from the "
            f"state of step {since} at {self.budget.factor:g} times the learning rate"
        )

    def state_dict(self) -> dict[str, Any]:
        """What its judgement rests on."""
        return {
            "skipped": self.num_skipped,
            "in_row": self._num_in_row,
            "restored": self._num_restored,
            "norms": list(self._norms),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a checkpoint's judgement."""
        self.num_skipped = state_dict["skipped"]
        self._num_in_row = state_dict["in_row"]
        self._num_restored = state_dict["restored"]
        self._norms = deque(state_dict["norms"], maxlen=_NORMS)


def _on_cpu(value: Any) -> Any:  # noqa: ANN401  (any tree of states)
    """A copy that holds on to nothing of the original."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on_cpu(item) for item in value)
    return copy.deepcopy(value)

"""How much of the run is over: the learning rate follows it, and the run ends with it."""

import math
import time
from typing import Any

import lightning.pytorch as pl

from wavestill.training.config import TrainingConfig
from wavestill.training.data import Batch
from wavestill.training.hardware import of_first
from wavestill.training.module import Task


class Budget(pl.Callback):
    r"""Spends the steps or minutes of a run.

    With :math:`a \in [0, 1]` the share of the run that is over, the larger of steps/`max_steps`
    and elapsed/`minutes`,

    .. math:: \eta = \eta_{max} \, \min(1, \tfrac{n + 1}{n_{warm}}) \,
        \bigl(r + (1 - r) \tfrac{1 + \cos \pi a}{2}\bigr)

    Elapsed time counts everything from the first step on and is stored in checkpoints. A group of
    parameters may have a `rate_share` of this rate.

    Arguments:
        config: The run's settings.

    Attributes:
        factor: On the rate: below 1 after a run was restored (`Guard`).
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.factor = 1.0
        self._elapsed_before_s = 0.0
        self._started_s: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds spent training, those before an interruption included."""
        now = 0.0 if self._started_s is None else time.monotonic() - self._started_s
        return self._elapsed_before_s + now

    def share(self, step: int) -> float:
        """The share of the run that is over after `step` steps, in [0, 1]."""
        by_steps = step / self.config.max_steps if self.config.max_steps else 0.0
        by_time = self.elapsed_s / (60 * self.config.minutes) if self.config.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def learning_rate(self, step: int) -> float:
        """The rate of step `step`, the first being 0."""
        final = self.config.final_rate_share
        cosine = 0.5 * (1 + math.cos(math.pi * self.share(step)))
        warmup = min(1.0, (step + 1) / max(1, self.config.warmup_steps))
        return self.factor * self.config.learning_rate * warmup * (final + (1 - final) * cosine)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started_s = time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Set the rate of this step."""
        assert isinstance(pl_module, Task)
        rate = self.learning_rate(pl_module.step)
        if self.config.minutes is not None:  # clocks differ, but replicas must not
            rate = of_first(rate, pl_module.device)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("rate_share", 1.0)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """End the run when its budget is spent; all processes at the same step."""
        assert isinstance(pl_module, Task)
        over = self.share(pl_module.step) >= 1.0
        trainer.should_stop = trainer.strategy.reduce_boolean_decision(over, all=False)

    def state_dict(self) -> dict[str, Any]:
        """Elapsed time, and the factor on the rate."""
        return {"elapsed_s": self.elapsed_s, "factor": self.factor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the clock stood."""
        self._elapsed_before_s = state_dict["elapsed_s"]
        self.factor = state_dict.get("factor", 1.0)

"""Weights that change with the steps of training."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from wavestill.distillation.balance.base import Balanced, weighted_sum
from wavestill.distillation.trial import Trial

Schedule = Sequence[tuple[int, float]]
"""Weights at steps, in order; on a line between them, constant before the first and after the
last."""


class ScheduledWeights(nn.Module):
    """Weights on piecewise linear schedules.

    Arguments:
        weights: The weight of each term.
        schedules: Factors on some of them, by step of training.

    Raises:
        ValueError: If a schedule is of no term, empty, or its steps do not rise.

    Example:
        >>> balance = ScheduledWeights({"kl": 1.0}, {"kl": [(0, 0.0), (100, 1.0)]})
        >>> balance.factor("kl", 25)
        0.25
    """

    step: Tensor

    def __init__(self, weights: Mapping[str, float], schedules: Mapping[str, Schedule]) -> None:
        super().__init__()
        for name, schedule in schedules.items():
            if name not in weights:
                raise ValueError(
                    f"there is a schedule for '{name}' but the terms are {sorted(weights)}; "
                    "name one of them"
                )
            steps = [step for step, _ in schedule]
            if not steps or any(late <= early for early, late in pairwise(steps)):
                raise ValueError(
                    f"the schedule of '{name}' has steps {steps}; give one or more, rising"
                )
        self.weights = dict(weights)
        self.schedules = {name: list(schedule) for name, schedule in schedules.items()}
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def factor(self, name: str, step: int) -> float:
        """The factor on a term's weight at a step; 1 without a schedule."""
        if name not in self.schedules:
            return 1.0
        schedule = self.schedules[name]
        right = bisect_right([point for point, _ in schedule], step)
        if right in (0, len(schedule)):
            return schedule[max(0, right - 1)][1]
        (begin, low), (end, high) = schedule[right - 1], schedule[right]
        return low + (high - low) * (step - begin) / (end - begin)

    def __call__(self, terms: Mapping[str, Tensor], trial: Trial) -> Balanced:
        """The sum under this step's weights; counts the step."""
        del trial
        step = int(self.step)
        self.step += 1
        weights = {name: weight * self.factor(name, step) for name, weight in self.weights.items()}
        return weighted_sum(terms, weights)

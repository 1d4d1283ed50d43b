"""How the terms of an objective are weighted against one another."""

import math
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Balance(Protocol):
    """Gives each term its weight."""

    def __call__(self, loudness: Tensor | None) -> dict[str, float | Tensor]:
        """The weights by name; `loudness` is the student's std over the data's, where known."""
        ...


class FixedWeights:
    """Constant weights.

    Arguments:
        weights: The weight of each term.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)

    def __call__(self, loudness: Tensor | None) -> dict[str, float | Tensor]:
        """The constants."""
        del loudness
        return dict(self.weights)


class LoudnessBalance(nn.Module):
    r"""Weights that rise while the student is quieter than the data, and fall while it is louder.

    .. math:: w_i = w_i^{(0)} e^k, \qquad
        k \leftarrow k + \eta \, (\log \sigma_\mathrm{data} - \log \sigma_\mathrm{student})

    for every term but the first, the divergence, whose weight is constant. Reverse KL pulls the
    student's level down: at weight 1 of a magnitude loss a student came out 10 dB too quiet, and
    no constant cures every teacher. The integral `k` finds the weight at which the levels agree.

    Note:
        Equal gradient norms would not do: where two terms pull against each other their gradients
        are equal at any balance point, and off it the divergence's is mostly noise.

    Arguments:
        weights: The weights to begin with, the divergence's first.
        rate: `eta`, per step.
        reach: Limit of `|k|`, in nats.
    """

    push: Tensor

    def __init__(
        self, weights: Mapping[str, float], *, rate: float = 0.01, reach: float = math.log(20)
    ) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.rate = rate
        self.reach = reach
        self.register_buffer("push", torch.zeros(()))

    @torch.no_grad()
    def __call__(self, loudness: Tensor | None) -> dict[str, float | Tensor]:
        """The weights of this step, after the integral has taken the loudness in."""
        if loudness is not None:
            # The student begins at a twentieth of the level, and one batch may be silent: neither
            # must wind the integral up.
            error = loudness.clamp(0.75, 1.33).log()
            self.push.copy_((self.push - self.rate * error).clamp(-self.reach, self.reach))
        first = next(iter(self.weights))
        return {
            name: weight if name == first else weight * self.push.exp()
            for name, weight in self.weights.items()
        }

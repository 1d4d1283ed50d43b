"""How the terms of an objective are weighted against one another."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from wavestill.distillation.trial import Trial


class Balanced(NamedTuple):
    """The terms brought together.

    Arguments:
        total: What is descended, a scalar.
        weights: The weight that each term had in it.
    """

    total: Tensor
    weights: dict[str, Tensor]


@runtime_checkable
class Balance(Protocol):
    """A policy that gives each term its weight. Called once in every step of training."""

    def __call__(self, terms: Mapping[str, Tensor], trial: Trial) -> Balanced:
        """The weighted sum of the terms of a trial."""
        ...


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float | Tensor]) -> Balanced:
    """The sum of the terms under weights that no gradient reaches."""
    held = {
        name: torch.as_tensor(weights[name], dtype=term.dtype, device=term.device).detach()
        for name, term in terms.items()
    }
    return Balanced(torch.stack([held[name] * term for name, term in terms.items()]).sum(), held)


class FixedWeights:
    """Constant weights.

    Arguments:
        weights: The weight of each term.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)

    def __call__(self, terms: Mapping[str, Tensor], trial: Trial) -> Balanced:
        """The sum under the constants."""
        del trial
        return weighted_sum(terms, self.weights)

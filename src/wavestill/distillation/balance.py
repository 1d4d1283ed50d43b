"""How the terms of an objective are weighted against one another."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Gradient = tuple[Tensor, ...]


@runtime_checkable
class Balance(Protocol):
    """Gives each term its weight, from the terms' gradients at the student's output."""

    def __call__(
        self, gradients: Mapping[str, Gradient], loudness: Tensor | None
    ) -> dict[str, Tensor]:
        """The weights by name; `loudness` is the student's std over the data's, where known."""
        ...


class FixedWeights:
    """Constant weights.

    Arguments:
        weights: The weight of each term.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)

    def __call__(
        self, gradients: Mapping[str, Gradient], loudness: Tensor | None
    ) -> dict[str, Tensor]:
        """The constants."""
        del loudness
        return {
            name: next(iter(g)).new_tensor(self.weights[name]) for name, g in gradients.items()
        }


class GradientBalance(nn.Module):
    r"""Weights by shares of the gradient, those of the spectral terms following the level.

    With :math:`\bar g_i` the running norm of term `i`'s gradient at the student's output and `r_i`
    its share,

    .. math:: w_i = r_i \, e^{k_i} \, \bar g_\mathrm{first} / \bar g_i, \qquad
        k \leftarrow k + \eta \, (\log \sigma_\mathrm{data} - \log \sigma_\mathrm{student})

    The first term (the divergence) has weight 1. The integral `k` acts on the others and is what
    cures the whisper: reverse KL pulls the student's level down, and no constant weight is right
    for every teacher.

    Arguments:
        shares: Gradient norm of each term relative to the first one's.
        decay: Of the running norms, per step.
        loudness_rate: `eta`, per step; 0 leaves the shares alone.
        loudness_range: Limits of `exp(k)`.
    """

    norms: Tensor
    push: Tensor

    def __init__(
        self,
        shares: Mapping[str, float],
        *,
        decay: float = 0.98,
        loudness_rate: float = 0.01,
        loudness_range: tuple[float, float] = (0.25, 16.0),
    ) -> None:
        super().__init__()
        self.shares = dict(shares)
        self.decay = decay
        self.loudness_rate = loudness_rate
        self.loudness_range = loudness_range
        self.register_buffer("norms", torch.zeros(len(shares)))
        self.register_buffer("push", torch.zeros(()))

    @torch.no_grad()
    def __call__(
        self, gradients: Mapping[str, Gradient], loudness: Tensor | None
    ) -> dict[str, Tensor]:
        """The weights of this step, after the running norms and the loudness have been updated."""
        fresh = torch.stack([_norm(gradients[name]) for name in self.shares])
        first_call = bool((self.norms == 0).all())
        self.norms.copy_(
            fresh if first_call else self.decay * self.norms + (1 - self.decay) * fresh
        )
        if loudness is not None and self.loudness_rate:
            low, high = self.loudness_range
            error = loudness.clamp(
                0.1, 10.0
            ).log()  # one silent or bursting batch must not wind the integral up
            self.push.copy_((self.push - self.loudness_rate * error).clamp(_log(low), _log(high)))
        names = list(self.shares)
        # A term at its minimum has no gradient; its weight is then bounded, not infinite.
        relative = self.norms[0] / self.norms.clamp_min(1e-6 * float(self.norms[0]) + 1e-30)
        return {
            name: torch.ones_like(relative[0])
            if i == 0
            else self.shares[name] * self.push.exp() * relative[i]
            for i, name in enumerate(names)
        }


def _norm(gradient: Gradient) -> Tensor:
    return torch.stack([part.square().sum() for part in gradient]).sum().sqrt()


def _log(value: float) -> float:
    return float(torch.tensor(value).log())

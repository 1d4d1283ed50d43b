"""Several laws of one step as one: their mixture, exactly, in the classes at hand."""

import math
from collections.abc import Sequence

import torch

from wavestill.distributions.base import Distribution
from wavestill.distributions.discretized import Discretized
from wavestill.distributions.location_scale import LocationScale
from wavestill.distributions.mixture import Mixture
from wavestill.distributions.mulaw import MuLaw


def pooled(laws: Sequence[Distribution], weights: Sequence[float]) -> Distribution:
    r"""The mixture :math:`\sum_k w_k \, p_k` of laws of one kind.

    Mixtures of one shape (a single law counts as one) become one mixture of all their components;
    on a grid, those before rounding do; categorical laws mix their probabilities.

    Arguments:
        laws: Laws of one batch shape.
        weights: Of each, > 0, with sum 1.

    Raises:
        ValueError: If the laws are of different kinds, shapes or grids.

    Example:
        >>> from wavestill.distributions import Normal
        >>> zero = torch.zeros(3)
        >>> law = pooled([Normal(zero - 1, zero), Normal(zero + 1, zero)], [0.25, 0.75])
        >>> law.mean
        tensor([0.5000, 0.5000, 0.5000])
    """
    if all(isinstance(law, Discretized) for law in laws):
        return _pooled_on_grid([law for law in laws if isinstance(law, Discretized)], weights)
    log_weights = [math.log(weight) for weight in weights]
    if all(isinstance(law, MuLaw) for law in laws):
        logits = [
            law.logits.log_softmax(-1) + log_weight
            for law, log_weight in zip(laws, log_weights, strict=True)
            if isinstance(law, MuLaw)
        ]
        return MuLaw(torch.logsumexp(torch.stack(logits), 0))
    parts = [_components(law) for law in laws]
    kinds = {type(components) for _, components in parts}
    if len(kinds) > 1:
        names = sorted(kind.__name__ for kind in kinds)
        raise ValueError(
            f"the laws to pool are of different shapes ({', '.join(names)}); "
            "give teachers with the same head"
        )
    logits = [
        logits.log_softmax(-1) + log_weight
        for (logits, _), log_weight in zip(parts, log_weights, strict=True)
    ]
    kind = kinds.pop()
    return Mixture(
        torch.cat(logits, -1),
        kind(
            torch.cat([components.loc for _, components in parts], -1),
            torch.cat([components.log_scale for _, components in parts], -1),
        ),
    )


def _pooled_on_grid(laws: Sequence[Discretized], weights: Sequence[float]) -> Discretized:
    """The mixture of laws before rounding, on the grid they share."""
    grids = {(float(law.low), float(law.high), float(law.bin_width)) for law in laws}
    if len(grids) > 1:
        raise ValueError(
            f"the laws to pool lie on {len(grids)} different grids; "
            "give teachers of the same 'bits'"
        )
    low, high, bin_width = grids.pop()
    continuous = pooled([law.continuous for law in laws], weights)
    assert isinstance(continuous, Mixture)
    return Discretized(continuous, bin_width, low, high)


def _components(law: Distribution) -> tuple[torch.Tensor, LocationScale]:
    """Logits and components of a mixture; a single law is a mixture of one."""
    if isinstance(law, Mixture):
        return law.logits, law.components
    if isinstance(law, LocationScale):
        components = law[..., None]
        return torch.zeros_like(components.loc), components
    raise ValueError(
        f"a {type(law).__name__} cannot be pooled with other laws; give location-scale laws, "
        "mixtures of them, or categorical ones"
    )

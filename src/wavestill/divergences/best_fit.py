"""The floor of a student's divergence: the best location-scale law at each step."""

import torch
from torch import Tensor

from wavestill.distributions import (
    Base,
    Distribution,
    LocationScale,
    Logistic,
    Normal,
    noise_quadrature,
)


def best_location_scale(
    p: Distribution, base: Base, *, num_points: int = 33, num_steps: int = 40
) -> tuple[LocationScale, Tensor]:
    r"""Fit to each step of ``p`` the location–scale law nearest in KL: the floor of its students.

    .. math:: \min_{\mu, s} KL(q_{\mu, s} \| p)

    A student without a last spline is one such law per step however many flows it has, so its KL
    cannot be lower than this. The start is the best of the moments of ``p`` and a
    grid over its quantiles, for KL(q‖p) has a local minimum at each mode; then Rprop, elementwise,
    over a fixed quadrature (:func:`noise_quadrature`). The KL returned is taken with four times
    its nodes, so that a fit to the gaps between them is not rewarded.

    Arguments:
        p: The teacher's conditionals, continuous or discretised.
        base: Noise of the student.
        num_points: Nodes of the quadrature.
        num_steps: Steps of the optimiser; each evaluates ``num_points`` densities an element.

    Returns:
        The law q and its KL in nats, both in the batch shape of ``p``, without gradients.

    References:
        | A direct adaptive method for faster backpropagation learning: the RPROP algorithm
          (Riedmiller and Braun, 1993), https://doi.org/10.1109/ICNN.1993.298623
    """
    p = p.detach()
    law = Logistic if base == "logistic" else Normal

    def kl_at(loc: Tensor, log_scale: Tensor, num_points: int = num_points) -> Tensor:
        return _kl_by_nodes(law(loc, log_scale), p.density, num_points)

    with torch.no_grad():
        starts = _starts(p)
        kl, loc, log_scale = kl_at(*starts[0]), *starts[0]
        for start in starts[1:]:
            kl, loc, log_scale = _lesser((kl, loc, log_scale), (kl_at(*start), *start))

    loc_0, log_scale_0 = loc, log_scale
    offset, log_stretch = torch.zeros_like(loc_0), torch.zeros_like(log_scale_0)
    offset.requires_grad_(), log_stretch.requires_grad_()
    optimiser = torch.optim.Rprop([offset, log_stretch], lr=0.05, step_sizes=(1e-7, 0.5))
    for _ in range(num_steps):
        with torch.enable_grad():
            tried = loc_0 + log_scale_0.exp() * offset, log_scale_0 + log_stretch
            kl_tried = kl_at(*tried)
            parameters = (offset, log_stretch)
            offset.grad, log_stretch.grad = torch.autograd.grad(kl_tried.sum(), parameters)
        optimiser.step()
        kl, loc, log_scale = (
            value.detach() for value in _lesser((kl, loc, log_scale), (kl_tried, *tried))
        )
    with torch.no_grad():
        return law(loc, log_scale), kl_at(loc, log_scale, 4 * num_points)


def _kl_by_nodes(q: LocationScale, p: Distribution, num_points: int) -> Tensor:
    """Return KL(q‖p) by the trapezoidal rule on the noise of q: no randomness, smooth in q."""
    z, weights = noise_quadrature(q.base, num_points, device=q.device, dtype=q.dtype)
    z, weights = (value.view(-1, *(1 for _ in p.batch_shape)) for value in (z, weights))
    x = q.from_noise(z)
    return (weights * (q.log_prob(x) - p.log_prob(x))).sum(0)


def _starts(p: Distribution) -> list[tuple[Tensor, Tensor]]:
    """Return candidate (loc, log_scale): the moments of p, and a grid over its quantiles."""
    mean, std = p.density.mean, p.density.variance.sqrt()
    low, *locs, high = (p.from_noise(torch.full_like(mean, z)) for z in range(-3, 4))
    # A discretised law's quantiles may coincide; its density still spreads over a bin.
    spread = (0.2 * (high - low)).clamp(min=0.01 * std)
    return [(mean, std.log())] + [
        (loc, spread.log() + log_shrink) for loc in locs for log_shrink in (0.0, -1.5, -3.0)
    ]


def _lesser(
    left: tuple[Tensor, Tensor, Tensor], right: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, ...]:
    """Return, elementwise, the triple whose first entry is the smaller."""
    is_right = right[0] < left[0]
    return tuple(torch.where(is_right, new, old) for old, new in zip(left, right, strict=True))

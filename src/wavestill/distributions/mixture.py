"""Mixtures of one location-scale shape: the teacher's head, and the one map from noise to it."""

from collections.abc import Callable

import torch
from torch import Tensor
from typing_extensions import Self, override

from wavestill.distributions.base import (
    Continuous,
    Index,
    before_last,
    log_cdf_to_noise,
    noise_to_log_odds,
)
from wavestill.distributions.location_scale import LocationScale

# Newton with its fallback takes at most 10 iterations on heads like those of speech; should it
# linger, bisection alone, which is certain, narrows what is left to rounding.
MAX_NEWTON = 30
MAX_ITERATIONS = 100


class Mixture(Continuous):
    r"""The law :math:`p(x) = \sum_k \pi_k\, p_k(x)`, :math:`\pi = \mathrm{softmax}(logits)`.

    ``from_noise`` solves :math:`\log F(x) - \log(1 - F(x)) = \log F_{base}(z) - \log(1 -
    F_{base}(z))`: in log-odds both tails are exact and close to straight lines, so Newton's method
    takes 3 to 5 steps on the head of a vocoder. The root lies between the smallest and the
    largest of :math:`\mu_k + s_k z`; a step longer than half the bracket around it is replaced by
    bisection.

    Arguments:
        logits: Unnormalised log-weights, (..., K).
        components: The K laws as the last batch dimension, (..., K).

    Raises:
        ValueError: If ``logits`` and ``components`` differ in shape.

    References:
        | PixelCNN++ (Salimans et al., 2017), section 2.1, https://arxiv.org/abs/1701.05517
        | Implicit Reparameterization Gradients (Figurnov et al., 2018), section 3, for the
          gradient of ``from_noise``, https://arxiv.org/abs/1805.08498

    Example:
        >>> from wavestill.distributions import Logistic
        >>> mixture = Mixture(torch.zeros(2, 5, 3), Logistic(torch.zeros(3), torch.zeros(2, 5, 3)))
        >>> mixture.batch_shape, mixture.from_noise(torch.tensor(-30.0))[0, 0]
        (torch.Size([2, 5]), tensor(-30.))
    """

    def __init__(self, logits: Tensor, components: LocationScale) -> None:
        if logits.shape != components.batch_shape:
            raise ValueError(
                f"'logits' has shape {tuple(logits.shape)} but 'components' "
                f"{tuple(components.batch_shape)}; give both as (..., K)"
            )
        self.logits = logits
        self.components = components
        self.base = components.base

    @property
    @override
    def batch_shape(self) -> torch.Size:
        return self.logits.shape[:-1]

    @property
    def _parameter(self) -> Tensor:
        return self.logits

    @property
    def weights(self) -> Tensor:
        r""":math:`\pi`, (..., K)."""
        return self.logits.softmax(-1)

    def _log_pool(self, x: Tensor, log_term: Callable[[LocationScale], Tensor]) -> Tensor:
        r"""Return :math:`\log \sum_k \pi_k \exp(t_k)` for a log-term of each component at ``x``.

        Components come first in memory here: reducing and broadcasting over the leading dimension
        vectorises, over a last one of ten it does not (30 ms against 51 ms for the KL of 24,000
        steps, forward and backward).
        """
        ahead = (1,) * max(0, x.dim() - len(self.batch_shape))
        shape = (self.logits.shape[-1], *ahead, *self.batch_shape)
        log_weights = self.logits.movedim(-1, 0).contiguous().log_softmax(0).view(shape)
        components = self.components.movedim(-1, 0).view(shape)
        return torch.logsumexp(log_weights + log_term(components), 0)

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        return self._log_pool(x, lambda components: components.log_prob(x))

    @override
    def log_cdf(self, x: Tensor) -> Tensor:
        return self._log_pool(x, lambda components: components.log_cdf(x))

    @override
    def log_survival(self, x: Tensor) -> Tensor:
        return self._log_pool(x, lambda components: components.log_survival(x))

    @override
    def log_mass(self, x: Tensor, half_width: float | Tensor) -> Tensor:
        return self._log_pool(x, lambda components: components.log_mass(x, half_width))

    @override
    def from_noise(self, z: Tensor) -> Tensor:
        log_odds = noise_to_log_odds(self.base, z)
        with torch.no_grad():
            x = self._invert(z, log_odds)
        parameters = (z, self.logits, self.components.loc, self.components.log_scale)
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters):
            # One more Newton step, of length zero, carries the implicit gradient; that of the
            # slope would be multiplied by the zero.
            log_cdf, log_survival = self.log_cdf(x), self.log_survival(x)
            slope = torch.exp(self.log_prob(x) - log_cdf - log_survival).detach()
            x = x - (log_cdf - log_survival - log_odds) / slope
        return x

    def _invert(self, z: Tensor, log_odds: Tensor) -> Tensor:
        """Solve log F(x) - log(1 - F(x)) = log_odds by bracketed Newton (see the class).

        Sums over components are taken in the linear domain, which costs a third of logsumexp at a
        sampler's batch of one; each tail keeps its digits because both tails are summed. They
        underflow beyond a log-odds of 700 in float64, 80 in float32.
        """
        loc, scale, weights = self.components.loc, self.components.scale, self.weights
        inverse_scale = 1 / scale
        density_weights = weights * inverse_scale
        ends = loc + scale * z.unsqueeze(-1)
        low, high = torch.aminmax(ends, dim=-1)
        x = (weights * ends).sum(-1)
        # Newton squares its error in units of the scale: a step of sqrt(eps) scales is the last.
        # Nor can x be better than its own rounding, or the log-odds than theirs.
        eps = torch.finfo(x.dtype).eps
        step_max = 0.3 * eps**0.5 * scale.amin(-1) + 4 * eps * torch.maximum(low.abs(), high.abs())
        residual_max = 4 * eps * (1 + log_odds.abs())
        for iteration in range(MAX_ITERATIONS):
            cdfs, survivals, densities = self.components._standard_cdf_survival_density(
                (x.unsqueeze(-1) - loc) * inverse_scale
            )
            cdf, survival = (weights * cdfs).sum(-1), (weights * survivals).sum(-1)
            residual = torch.log(cdf / survival) - log_odds
            is_above = residual > 0
            low, high = torch.where(is_above, low, x), torch.where(is_above, x, high)
            width = high - low
            step = residual * cdf * survival / (density_weights * densities).sum(-1)
            size = step.abs()
            # x is one end of the bracket: a longer step leaves it, or halves it too slowly.
            size_max = torch.fmax(0.5 * width, step_max) if iteration < MAX_NEWTON else step_max
            x_next = torch.where(size <= size_max, x - step, 0.5 * (low + high))
            is_solved = residual.abs() <= residual_max
            x = torch.where(is_solved, x, x_next)
            # fmin, for the step is NaN where the tails underflow far from the root.
            if bool((is_solved | (torch.fmin(size, width) <= step_max)).all()):
                break
        return x

    @override
    def to_noise(self, x: Tensor) -> Tensor:
        return log_cdf_to_noise(self.base, self.log_cdf(x), self.log_survival(x))

    @property
    @override
    def mean(self) -> Tensor:
        return (self.weights * self.components.mean).sum(-1)

    @property
    @override
    def variance(self) -> Tensor:
        offset = self.components.mean - self.mean.unsqueeze(-1)
        return (self.weights * (self.components.variance + offset**2)).sum(-1)

    @override
    def affine(self, scale: float | Tensor, shift: float | Tensor = 0.0) -> Self:
        scale, shift = (
            value.unsqueeze(-1) if isinstance(value, Tensor) and value.dim() else value
            for value in (scale, shift)
        )
        return type(self)(self.logits, self.components.affine(scale, shift))

    @override
    def floored(self, log_scale_min: float) -> Self:
        return type(self)(self.logits, self.components.floored(log_scale_min))

    def __getitem__(self, index: Index) -> Self:
        index = before_last(index)
        return type(self)(self.logits[index], self.components[index])

    @override
    def detach(self) -> Self:
        return type(self)(self.logits.detach(), self.components.detach())

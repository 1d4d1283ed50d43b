"""Laws on a grid of samples, 16-bit audio above all, and their continuous relaxation."""

import copy
from collections.abc import Callable
from typing import ClassVar, NoReturn

import torch
from torch import Tensor
from typing_extensions import Self, override

from wavestill.distributions.base import Continuous, Distribution, Index
from wavestill.distributions.stable import log_of

# Sums over the grid run in parts of this many levels, to bound memory.
LEVELS_AT_ONCE = 256


class Discretized(Distribution):
    r"""A continuous law X rounded to the grid ``low, low + w, ..., high``.

    .. math:: P(x) = F(x + w/2) - F(x - w/2), \qquad
        P(low) = F(low + w/2), \quad P(high) = 1 - F(high - w/2)

    The end bins take the open tails, so the masses sum to 1. Every argument ``x`` stands for the
    grid point nearest to it. ``sample`` is the continuous sample rounded and clamped. ``density``
    is what a student is distilled against.

    References:
        | PixelCNN++ (Salimans et al., 2017), section 2.1, https://arxiv.org/abs/1701.05517
        | Parallel WaveNet (van den Oord et al., 2018), section 2.1, for 16-bit audio,
          https://arxiv.org/abs/1711.10433

    Arguments:
        continuous: The law before rounding.
        bin_width: Grid spacing w in units of x; 2^-15 for 16-bit samples in [-1, 1).
        low: Lowest grid point.
        high: Highest grid point, a whole number of widths above ``low``.

    Raises:
        ValueError: If the grid has fewer than two points or is not a whole number of widths.

    Example:
        >>> from wavestill.distributions import Logistic
        >>> law = Discretized(Logistic(torch.zeros(1), torch.zeros(1)), 1.0, -1.0, 1.0)
        >>> law.log_prob(torch.tensor([-1.0, 0.0, 1.0])).exp()
        tensor([0.3775, 0.2449, 0.3775])
    """

    is_discrete: ClassVar[bool] = True

    def __init__(self, continuous: Continuous, bin_width: float, low: float, high: float) -> None:
        num_widths = (high - low) / bin_width
        if not (num_widths >= 1 and abs(num_widths - round(num_widths)) < 1e-6 * num_widths):
            raise ValueError(
                f"'high' - 'low' is {high - low} but 'bin_width' {bin_width}; the grid must span "
                "a whole number of widths, at least one"
            )
        self.continuous = continuous
        self.base = continuous.base
        self.num_levels = round(num_widths) + 1
        self.bin_width: float | Tensor = bin_width
        self.low: float | Tensor = low

    @property
    def high(self) -> float | Tensor:
        """Highest grid point."""
        return self.low + (self.num_levels - 1) * self.bin_width

    @property
    @override
    def batch_shape(self) -> torch.Size:
        return self.continuous.batch_shape

    @property
    def _parameter(self) -> Tensor:
        return self.continuous._parameter

    @property
    @override
    def density(self) -> "Smoothed":
        return Smoothed(self.continuous, self.bin_width)

    def level(self, x: Tensor) -> Tensor:
        """Return the number of the grid point nearest to ``x``, 0 to ``num_levels`` - 1."""
        return ((x - self.low) / self.bin_width).round().clamp(0, self.num_levels - 1)

    def _on_grid(self, level: Tensor) -> Tensor:
        return self.low + level * self.bin_width

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        level = self.level(x)
        centre, half_width = self._on_grid(level), 0.5 * self.bin_width
        below = self.continuous.log_cdf(centre + half_width)
        inside = self.continuous.log_mass(centre, half_width)
        above = self.continuous.log_survival(centre - half_width)
        return torch.where(
            level == 0, below, torch.where(level == self.num_levels - 1, above, inside)
        )

    @override
    def log_cdf(self, x: Tensor) -> Tensor:
        level = self.level(x)
        log_cdf = self.continuous.log_cdf(self._on_grid(level) + 0.5 * self.bin_width)
        return torch.where(level == self.num_levels - 1, 0.0, log_cdf)

    @override
    def log_survival(self, x: Tensor) -> Tensor:
        level = self.level(x)
        log_survival = self.continuous.log_survival(self._on_grid(level) + 0.5 * self.bin_width)
        return torch.where(level == self.num_levels - 1, -torch.inf, log_survival)

    @override
    def from_noise(self, z: Tensor) -> Tensor:
        return self._on_grid(self.level(self.continuous.from_noise(z)))

    @override
    def to_noise(self, x: Tensor) -> NoReturn:
        raise ValueError(
            "a discretised law has no noise for a sample: a whole interval maps to it; "
            "use the noise it was drawn from, or .continuous.to_noise"
        )

    @override
    def expectation(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the expectation exactly, by the sum over all ``num_levels`` grid points.

        On the 16-bit grid that is 65,536 evaluations per element: for a few steps, not for clips.
        """
        shape = (-1, *(1 for _ in self.batch_shape))
        result = torch.zeros(self.batch_shape, device=self.device, dtype=self.dtype)
        for first in range(0, self.num_levels, LEVELS_AT_ONCE):
            last = min(first + LEVELS_AT_ONCE, self.num_levels)
            levels = torch.arange(first, last, device=self.device, dtype=self.dtype)
            x = self._on_grid(levels).view(shape)
            result = result + (self.log_prob(x).exp() * function(x)).sum(0)
        return result

    def _with(
        self, continuous: Continuous, scale: float | Tensor = 1.0, shift: float | Tensor = 0.0
    ) -> Self:
        """Return a copy with another law, its grid moved along."""
        law = copy.copy(self)
        law.continuous = continuous
        law.bin_width = scale * self.bin_width
        law.low = scale * self.low + shift
        return law

    @override
    def affine(self, scale: float | Tensor, shift: float | Tensor = 0.0) -> Self:
        for name, value in (("scale", scale), ("shift", shift)):
            if isinstance(value, Tensor) and value.dim():
                raise ValueError(
                    f"'{name}' has shape {tuple(value.shape)} but all laws share one grid; "
                    "give a scalar, or move '.continuous'"
                )
        return self._with(self.continuous.affine(scale, shift), scale, shift)

    @override
    def floored(self, log_scale_min: float) -> Self:
        return self._with(self.continuous.floored(log_scale_min))

    def __getitem__(self, index: Index) -> Self:
        return self._with(self.continuous[index])

    @override
    def detach(self) -> Self:
        return self._with(self.continuous.detach())


class Smoothed(Distribution):
    r"""The continuous relaxation of a :class:`Discretized` law: X plus a uniform of one bin width.

    .. math:: p(x) = \frac{1}{w} P(x - w/2 < X < x + w/2)

    On the grid it equals mass / width, but for the two end bins; between, it is smooth in x.
    """

    is_discrete: ClassVar[bool] = False

    def __init__(self, continuous: Continuous, bin_width: float | Tensor) -> None:
        self.continuous = continuous
        self.base = continuous.base
        self.bin_width = bin_width

    @property
    @override
    def batch_shape(self) -> torch.Size:
        return self.continuous.batch_shape

    @property
    def _parameter(self) -> Tensor:
        return self.continuous._parameter

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        return self.continuous.log_mass(x, 0.5 * self.bin_width) - log_of(self.bin_width)

    @property
    @override
    def mean(self) -> Tensor:
        return self.continuous.mean

    @property
    @override
    def variance(self) -> Tensor:
        return self.continuous.variance + self.bin_width**2 / 12

    @override
    def entropy(self) -> NoReturn:
        self._refuse("entropy")

    @override
    def log_cdf(self, x: Tensor) -> NoReturn:
        self._refuse("log_cdf")

    @override
    def log_survival(self, x: Tensor) -> NoReturn:
        self._refuse("log_survival")

    @override
    def from_noise(self, z: Tensor) -> NoReturn:
        self._refuse("from_noise")

    @override
    def to_noise(self, x: Tensor) -> NoReturn:
        self._refuse("to_noise")

    def _refuse(self, name: str) -> NoReturn:
        raise NotImplementedError(
            f"the relaxation of a discretised law scores samples but has no '{name}'; "
            "use the discretised law's, or its '.continuous'"
        )

    @override
    def affine(self, scale: float | Tensor, shift: float | Tensor = 0.0) -> Self:
        return type(self)(self.continuous.affine(scale, shift), scale * self.bin_width)

    @override
    def floored(self, log_scale_min: float) -> Self:
        return type(self)(self.continuous.floored(log_scale_min), self.bin_width)

    def __getitem__(self, index: Index) -> Self:
        return type(self)(self.continuous[index], self.bin_width)

    @override
    def detach(self) -> Self:
        return type(self)(self.continuous.detach(), self.bin_width)

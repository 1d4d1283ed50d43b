r"""Monotone rational-quadratic splines, and the laws that they bend.

Between two knots the spline is a quotient of quadratics with given values and slopes at both,

.. math:: g(y) = y_0 + h\,\frac{s \xi^2 + d_0\, \xi (1 - \xi)}
    {s + (d_0 + d_1 - 2 s)\, \xi (1 - \xi)}, \qquad \xi = \frac{y - x_0}{w}, \quad s = h / w

and beyond the outermost knots the identity. Its inverse is the root of a quadratic.

References:
    | Neural Spline Flows (Durkan et al., 2019), section 3.1, https://arxiv.org/abs/1906.04032
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import Self, override

from wavestill.distributions.base import Continuous, Index, before_last
from wavestill.distributions.stable import log_of


class Knots(NamedTuple):
    """The knots of a batch of splines; at the outermost ones value and place agree, slope 1.

    Arguments:
        places: Where they are, increasing, `(..., K + 1)`.
        values: The spline's values there, increasing, `(..., K + 1)`.
        slopes: Its slopes there, positive, `(..., K + 1)`.
    """

    places: Tensor
    values: Tensor
    slopes: Tensor


def soft_clip(value: Tensor, bound: float) -> Tensor:
    r""":math:`v / (1 + |v| / b)`: the same for small values, and never beyond the bound."""
    return value / (1 + value.abs() / bound)


def knots_of(
    widths: Tensor, heights: Tensor, slopes: Tensor, *, bound: float = 5.0, slope_min: float = 1e-3
) -> Knots:
    """Knots from parameters that may have any value; zeros give the identity.

    As in zuko (`MonotonicRQSTransform`), so that its weights serve here.

    Arguments:
        widths: Logits of the bins' widths, `(..., K)`.
        heights: Logits of the bins' heights, `(..., K)`.
        slopes: Logarithms of the inner knots' slopes before the clip, `(..., K - 1)`.
        bound: The spline lives on `[-bound, bound]`.
        slope_min: Slopes at knots lie between it and its inverse.
    """
    reach = -math.log(slope_min)
    shares = soft_clip(torch.stack([widths, heights]), reach / 2).softmax(-1)
    places, values = (pad(shares.cumsum(-1), (1, 0)) * (2 * bound) - bound).unbind(0)
    return Knots(places, values, pad(soft_clip(slopes, reach), (1, 1)).exp())


def spline(y: Tensor, knots: Knots) -> tuple[Tensor, Tensor]:
    """Values of the splines and the logarithms of their slopes, both in the shape of `y`."""
    inside, y_held, (x0, x1, y0, y1, d0, d1) = _bins(y, knots.places, knots)
    width, height = x1 - x0, y1 - y0
    s, xi = height / width, (y_held - x0) / width
    rest = xi * (1 - xi)
    below = s + (d0 + d1 - 2 * s) * rest
    value = y0 + height * (s * xi.square() + d0 * rest) / below
    return torch.where(inside, value, y), _log_slope(inside, s, xi, rest, below, d0, d1)


def spline_inverse(x: Tensor, knots: Knots) -> tuple[Tensor, Tensor]:
    """Where the splines take the values `x`, and the logarithms of their slopes *there*."""
    inside, x_held, (x0, x1, y0, y1, d0, d1) = _bins(x, knots.values, knots)
    width, height, risen = x1 - x0, y1 - y0, x_held - y0
    s = height / width
    bend = (d0 + d1 - 2 * s) * risen
    a, b, c = height * (s - d0) + bend, height * d0 - bend, -s * risen
    # Rounding may take a root of nought below nought.
    xi = 2 * c / (-b - (b.square() - 4 * a * c).clamp_min(0).sqrt())
    rest = xi * (1 - xi)
    below = s + (d0 + d1 - 2 * s) * rest
    place = x0 + xi * width
    return torch.where(inside, place, x), _log_slope(inside, s, xi, rest, below, d0, d1)


def _bins(y: Tensor, edges: Tensor, knots: Knots) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Which `y` lie within the knots, `y` held there, and its bin: places, values, slopes.

    Held, so that the branch not taken has a finite gradient.
    """
    low, high = edges[..., 0], edges[..., -1]
    inside = (y > low) & (y < high)
    held = torch.minimum(torch.maximum(y, low), high)
    index = (y.unsqueeze(-1) >= edges[..., 1:-1]).sum(-1)[..., None, None]
    index = torch.cat([index, index + 1], -1).expand(*index.shape[:-2], 3, 2)
    table = torch.stack(knots, -2).expand(*index.shape[:-2], 3, edges.shape[-1])
    return inside, held, table.gather(-1, index).flatten(-2).unbind(-1)


def _log_slope(
    inside: Tensor, s: Tensor, xi: Tensor, rest: Tensor, below: Tensor, d0: Tensor, d1: Tensor
) -> Tensor:
    above = 2 * s * rest + d0 * (1 - xi).square() + d1 * xi.square()
    return torch.where(inside, ((s / below).square() * above).log(), 0.0)


class Splined(Continuous):
    r"""The law of :math:`X = \mu + e^a\, g(Y)`, `Y` of another law and `g` a monotone spline.

    .. math:: \log p(x) = \log p_Y(y) - \log g'(y) - a, \qquad y = g^{-1}((x - \mu) e^{-a})

    What a step of a spline flow is, given the steps before it; `Y` may be splined itself. Shapes
    as multimodal as there are bins.

    Arguments:
        inner: The law of `Y`, in the same batch shape.
        knots: Of `g`, each `(*batch_shape, K + 1)`.
        loc: :math:`\mu`, in the batch shape.
        log_scale: :math:`a`, in nats.
        is_inverse: Whether the knots are those of :math:`g^{-1}`.

    Example:
        >>> from wavestill.distributions import Normal
        >>> zero = torch.zeros(2, 3)
        >>> knots = knots_of(torch.randn(2, 3, 8), torch.randn(2, 3, 8), torch.randn(2, 3, 7))
        >>> law = Splined(Normal(zero, zero), knots, zero, zero)
        >>> law.log_prob(torch.zeros(5, 2, 3)).shape
        torch.Size([5, 2, 3])
    """

    def __init__(
        self,
        inner: Continuous,
        knots: Knots,
        loc: Tensor,
        log_scale: Tensor,
        *,
        is_inverse: bool = False,
    ) -> None:
        self.inner = inner
        self.places, self.values, self.slopes = knots
        self.loc, self.log_scale = loc, log_scale
        self.is_inverse = is_inverse
        self.base = inner.base

    @property
    def knots(self) -> Knots:
        """The knots of the spline, or of its inverse."""
        return Knots(self.places, self.values, self.slopes)

    @property
    @override
    def batch_shape(self) -> torch.Size:
        return self.inner.batch_shape

    @property
    def _parameter(self) -> Tensor:
        return self.loc

    def _unbent(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`y` and the logarithm of `dx / dy` there."""
        unmoved = (x - self.loc) * torch.exp(-self.log_scale)
        if self.is_inverse:
            y, log_slope = spline(unmoved, self.knots)
            return y, self.log_scale - log_slope
        y, log_slope = spline_inverse(unmoved, self.knots)
        return y, self.log_scale + log_slope

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        y, log_slope = self._unbent(x)
        return self.inner.log_prob(y) - log_slope

    @override
    def log_cdf(self, x: Tensor) -> Tensor:
        return self.inner.log_cdf(self._unbent(x)[0])

    @override
    def log_survival(self, x: Tensor) -> Tensor:
        return self.inner.log_survival(self._unbent(x)[0])

    @override
    def log_mass(self, x: Tensor, half_width: float | Tensor) -> Tensor:
        lower, upper = (self._unbent(edge)[0] for edge in (x - half_width, x + half_width))
        return self.inner.log_mass(0.5 * (lower + upper), 0.5 * (upper - lower))

    @override
    def from_noise(self, z: Tensor) -> Tensor:
        bend = spline_inverse if self.is_inverse else spline
        bent, _ = bend(self.inner.from_noise(z), self.knots)
        return self.loc + self.log_scale.exp() * bent

    @override
    def to_noise(self, x: Tensor) -> Tensor:
        return self.inner.to_noise(self._unbent(x)[0])

    @override
    def affine(self, scale: float | Tensor, shift: float | Tensor = 0.0) -> Self:
        loc, log_scale = scale * self.loc + shift, self.log_scale + log_of(scale)
        return type(self)(self.inner, self.knots, loc, log_scale, is_inverse=self.is_inverse)

    @override
    def floored(self, log_scale_min: float) -> Self:
        """The law itself: slopes of splines are bounded, and no single scale says how narrow."""
        return self

    def __getitem__(self, index: Index) -> Self:
        inner = before_last(index)
        knots = Knots(*(part[inner] for part in self.knots))
        return type(self)(
            self.inner[index],
            knots,
            self.loc[index],
            self.log_scale[index],
            is_inverse=self.is_inverse,
        )

    @override
    def detach(self) -> Self:
        knots = Knots(*(part.detach() for part in self.knots))
        return type(self)(
            self.inner.detach(),
            knots,
            self.loc.detach(),
            self.log_scale.detach(),
            is_inverse=self.is_inverse,
        )

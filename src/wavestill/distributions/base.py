"""The interface of every law, and the base noises they are all driven by."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import EllipsisType
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor
from typing_extensions import Self

from wavestill.distributions.stable import log_ndtr

Base = Literal["logistic", "normal"]
IndexPart: TypeAlias = int | slice | EllipsisType | Tensor | None
Index: TypeAlias = IndexPart | tuple[IndexPart, ...]


def standard_noise(
    base: Base,
    shape: tuple[int, ...],
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""Draw base noise: Logistic(0, 1), as :math:`\log u - \log(1 - u)`, or N(0, 1).

    The draw is made in float64 and rounded once, so one seed gives the same noise in every
    precision and a float32 logistic has its tails. It is made where the generator is, so one on
    the CPU gives the same noise on every device.
    """
    dtype = dtype or torch.get_default_dtype()
    source = device if generator is None else generator.device
    if base == "normal":
        z = torch.randn(shape, generator=generator, device=source, dtype=torch.float64)
        return z.to(device, dtype)
    u = torch.rand(shape, generator=generator, device=source, dtype=torch.float64)
    # rand is in [0, 1) in steps of 2^-53: half a step up, 0 has a finite logit.
    return torch.logit(u.clamp(min=2.0**-54)).to(device, dtype)


def noise_to_log_odds(base: Base, z: Tensor) -> Tensor:
    r"""Return :math:`\log F(z) - \log(1 - F(z))` of the base law; exact in both tails."""
    if base == "logistic":
        return z
    return log_ndtr(z) - log_ndtr(-z)


def log_cdf_to_noise(base: Base, log_cdf: Tensor, log_survival: Tensor) -> Tensor:
    r"""Return :math:`z = F^{-1}(u)` of the base law from :math:`\log u` and :math:`\log(1 - u)`.

    The smaller of the two carries the digits. A normal z is held where the density underflows:
    \|z\| <= 12.9 in float32, 37.5 in float64.
    """
    if base == "logistic":
        return log_cdf - log_survival
    log_tiny = math.log(torch.finfo(log_cdf.dtype).tiny)
    tail = torch.exp(torch.minimum(log_cdf, log_survival).clamp(min=log_tiny))
    z = torch.special.ndtri(tail)
    return torch.where(log_cdf < log_survival, z, -z)


def same_quantile(z: Tensor, base: Base, other: Base) -> Tensor:
    """Return the noise of the other base law at the same quantiles."""
    if base == other:
        return z
    log_odds = noise_to_log_odds(base, z)
    logsigmoid = torch.nn.functional.logsigmoid
    return log_cdf_to_noise(other, logsigmoid(log_odds), logsigmoid(-log_odds))


def noise_quadrature(
    base: Base,
    num_points: int = 241,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Nodes and weights of the trapezoidal rule for :math:`E_{z \sim base}\, g(z)`, both (N,).

    .. math:: E\, g(z) = \int g(2 \sinh t)\, p(2 \sinh t)\, 2 \cosh t\, dt

    On the whole line the rule converges geometrically in 1 / step for smooth ``g``, and the
    substitution puts the nodes where the mass is: 33 give the moments of both bases to 1e-6, 65 to
    1e-9. The tails left out weigh under 1e-12.

    References:
        | The exponentially convergent trapezoidal rule (Trefethen and Weideman, 2014), section 5,
          https://doi.org/10.1137/130932132
    """
    reach = math.asinh(0.5 * (30.0 if base == "logistic" else 8.0))
    t = torch.linspace(-reach, reach, num_points, dtype=torch.float64)
    z = 2 * torch.sinh(t)
    log_density = -0.5 * z**2 if base == "normal" else -z - 2 * torch.nn.functional.softplus(-z)
    weights = (log_density + torch.cosh(t).log()).softmax(0)
    dtype = dtype or torch.get_default_dtype()
    return z.to(device, dtype), weights.to(device, dtype)


def before_last(index: Index) -> tuple[IndexPart, ...]:
    """Return ``index`` such that it leaves a further last dimension alone, also after a `...`."""
    parts = index if isinstance(index, tuple) else (index,)
    return (*parts, slice(None)) if any(part is Ellipsis for part in parts) else parts


class Distribution(ABC):
    r"""A batch of univariate laws, elementwise independent, driven by one base noise.

    Arguments broadcast against ``batch_shape`` from the right, so extra leading dimensions of
    ``x`` or ``z`` are independent evaluations. Scales are parametrised by their logarithm.

    Attributes:
        base: The noise that :meth:`from_noise` takes: Logistic(0, 1) or N(0, 1).
        is_discrete: Whether :meth:`log_prob` is a log mass rather than a log density.
    """

    base: Base
    is_discrete: ClassVar[bool]

    @property
    @abstractmethod
    def batch_shape(self) -> torch.Size:
        """Shape of the batch, commonly (B, T)."""

    @property
    @abstractmethod
    def _parameter(self) -> Tensor:
        """Any parameter: its dtype and device are the law's."""

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the parameters."""
        return self._parameter.dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self._parameter.device

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density, or for a discrete law the log mass, at ``x``, in nats."""

    @abstractmethod
    def log_cdf(self, x: Tensor) -> Tensor:
        r"""Return :math:`\log P(X \le x)`."""

    @abstractmethod
    def log_survival(self, x: Tensor) -> Tensor:
        r"""Return :math:`\log P(X > x)`."""

    @abstractmethod
    def from_noise(self, z: Tensor) -> Tensor:
        r"""Map base noise to samples, :math:`x = F^{-1}(F_{base}(z))`: increasing in z.

        Every sampler draws through this one map, so they agree draw by draw.
        """

    @abstractmethod
    def to_noise(self, x: Tensor) -> Tensor:
        r"""Invert :meth:`from_noise`: :math:`z = F_{base}^{-1}(F(x))`.

        Raises:
            ValueError: If the law is discrete, where the map has no inverse.
        """

    def entropy(self) -> Tensor:
        r"""Return :math:`-E \log p(X)` in nats: by :meth:`expectation` where no form is known."""
        return -self.expectation(self.log_prob)

    @property
    def mean(self) -> Tensor:
        r""":math:`E X`."""
        return self.expectation(lambda x: x)

    @property
    def variance(self) -> Tensor:
        r""":math:`E (X - E X)^2`."""
        mean = self.mean
        return self.expectation(lambda x: (x - mean) ** 2)

    @abstractmethod
    def affine(self, scale: float | Tensor, shift: float | Tensor = 0.0) -> Self:
        """Return the law of ``scale * X + shift``; ``scale`` must be positive."""

    @abstractmethod
    def floored(self, log_scale_min: float) -> Self:
        """Return the law with its log-scales clamped from below; for losses only."""

    @abstractmethod
    def __getitem__(self, index: Index) -> Self:
        """Return the laws at ``index`` of the batch shape."""

    @abstractmethod
    def detach(self) -> Self:
        """Return the law with its parameters cut from the graph."""

    @property
    def density(self) -> "Distribution":
        """A continuous law whose ``log_prob`` is differentiable in x: what distillation scores."""
        return self

    def cdf(self, x: Tensor) -> Tensor:
        r"""Return :math:`P(X \le x)`."""
        return self.log_cdf(x).exp()

    def icdf(self, u: Tensor) -> Tensor:
        """Return the quantile at ``u`` in (0, 1)."""
        is_logistic = self.base == "logistic"
        return self.from_noise(torch.logit(u) if is_logistic else torch.special.ndtri(u))

    @torch.no_grad()
    def sample(
        self, sample_shape: tuple[int, ...] = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw samples of shape ``sample_shape + batch_shape``, without gradients."""
        z = standard_noise(
            self.base,
            (*sample_shape, *self.batch_shape),
            generator=generator,
            device=self.device,
            dtype=self.dtype,
        )
        return self.from_noise(z)

    def expectation(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        r"""Return :math:`E\, g(X)` by :func:`noise_quadrature` through :meth:`from_noise`.

        ``function`` sees all 241 points of every element at once.
        """
        z, weights = noise_quadrature(self.base, device=self.device, dtype=self.dtype)
        shape = (-1, *(1 for _ in self.batch_shape))
        values = function(self.from_noise(z.view(shape).expand(-1, *self.batch_shape)))
        return (weights.view(shape) * values).sum(0)


class Continuous(Distribution):
    """A law with a density and, for :class:`Discretized`, the exact mass of an interval."""

    is_discrete: ClassVar[bool] = False

    @abstractmethod
    def log_mass(self, x: Tensor, half_width: float | Tensor) -> Tensor:
        r"""Return :math:`\log P(|X - x| \le h)` for a scalar half-width h > 0."""

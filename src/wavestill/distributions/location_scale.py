"""What Logistic and Normal share: a fixed shape, moved and stretched."""

from abc import abstractmethod

import torch
from torch import Tensor
from typing_extensions import Self, override

from wavestill.distributions.base import Continuous, Index
from wavestill.distributions.stable import log_of


class LocationScale(Continuous):
    r"""The law of :math:`X = \mu + s Z` for a base noise Z.

    .. math:: \log p(x) = \log p_Z((x - \mu) / s) - \log s

    Arguments:
        loc: Location :math:`\mu`, broadcast against ``log_scale`` to the batch shape.
        log_scale: :math:`\log s`, in nats.

    Example:
        >>> from wavestill.distributions import Logistic
        >>> Logistic(torch.tensor(1.0), torch.tensor(0.0)).from_noise(torch.tensor(2.0))
        tensor(3.)
    """

    loc: Tensor
    log_scale: Tensor

    def __init__(self, loc: Tensor, log_scale: Tensor) -> None:
        self.loc, self.log_scale = torch.broadcast_tensors(loc, log_scale)  # type: ignore[no-untyped-call]

    # The standard law, Z. Subclasses are these few equations.

    @staticmethod
    @abstractmethod
    def _standard_log_prob(z: Tensor) -> Tensor: ...

    @staticmethod
    @abstractmethod
    def _standard_log_cdf(z: Tensor) -> Tensor: ...

    @staticmethod
    @abstractmethod
    def _standard_log_mass(c: Tensor, h: Tensor) -> Tensor:
        """Return log P(c - h < Z < c + h)."""

    @staticmethod
    @abstractmethod
    def _standard_cdf_survival_density(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return F(z), 1 - F(z) and p(z), each to its own relative precision."""

    # The moved law, X.

    @property
    def scale(self) -> Tensor:
        r""":math:`s`."""
        return self.log_scale.exp()

    @property
    @override
    def batch_shape(self) -> torch.Size:
        return self.loc.shape

    @property
    def _parameter(self) -> Tensor:
        return self.loc

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        return self._standard_log_prob(self.to_noise(x)) - self.log_scale

    @override
    def log_cdf(self, x: Tensor) -> Tensor:
        return self._standard_log_cdf(self.to_noise(x))

    @override
    def log_survival(self, x: Tensor) -> Tensor:
        return self._standard_log_cdf(-self.to_noise(x))  # both shapes are symmetric

    @override
    def log_mass(self, x: Tensor, half_width: float | Tensor) -> Tensor:
        inverse_scale = torch.exp(-self.log_scale)
        return self._standard_log_mass((x - self.loc) * inverse_scale, half_width * inverse_scale)

    @override
    def from_noise(self, z: Tensor) -> Tensor:
        return self.loc + self.scale * z

    @override
    def to_noise(self, x: Tensor) -> Tensor:
        return (x - self.loc) * torch.exp(-self.log_scale)

    @property
    @override
    def mean(self) -> Tensor:
        return self.loc

    @override
    def affine(self, scale: float | Tensor, shift: float | Tensor = 0.0) -> Self:
        return type(self)(scale * self.loc + shift, self.log_scale + log_of(scale))

    @override
    def floored(self, log_scale_min: float) -> Self:
        return type(self)(self.loc, self.log_scale.clamp(min=log_scale_min))

    def __getitem__(self, index: Index) -> Self:
        return type(self)(self.loc[index], self.log_scale[index])

    @override
    def detach(self) -> Self:
        return type(self)(self.loc.detach(), self.log_scale.detach())

    def movedim(self, source: int, destination: int) -> Self:
        """Return the laws with one batch dimension moved, contiguous in memory."""
        loc, log_scale = (
            parameter.movedim(source, destination).contiguous()
            for parameter in (self.loc, self.log_scale)
        )
        return type(self)(loc, log_scale)

    def view(self, shape: tuple[int, ...]) -> Self:
        """Return the same laws in another batch shape."""
        return type(self)(self.loc.view(shape), self.log_scale.view(shape))

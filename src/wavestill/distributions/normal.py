"""The normal law: Gaussian heads and students."""

import math

import torch
from torch import Tensor
from typing_extensions import override

from wavestill.distributions.base import Base
from wavestill.distributions.location_scale import LocationScale
from wavestill.distributions.stable import log1mexp, log_ndtr

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
# Below this width times density slope the normal mass is taken by Gauss-Legendre, above it by a
# difference of tails. Either errs by under 1e-12 in float64 here (1e-6 in float32).
NARROW = 0.05


class Normal(LocationScale):
    r"""Normal law, :math:`F(x) = \Phi((x - \mu) / s)`.

    .. math:: \log p(x) = -\tfrac12 z^2 - \log s - \tfrac12 \log 2\pi, \qquad
        H = \log s + \tfrac12 \log 2 \pi e

    With c ≥ 0 the standardised centre of an interval (by symmetry) and h its half-width, the mass
    of a wide one is the difference of two upper tails, :math:`\Phi(h - c) - \Phi(-h - c)`, in
    logarithms. In a narrow one, where this cancels, it is the density times three-point
    Gauss–Legendre:

    .. math:: \log 2h + \log\varphi(c) +
        \log \tfrac19 \left(4 + 5 e^{-0.3 h^2} \cosh(\sqrt{0.6}\, h c)\right)

    whose relative error is at most :math:`((1 + c) h)^6 / 2100`, and is used for
    (1 + c) h < 0.05.

    References:
        | ClariNet (Ping et al., 2018), section 3, https://arxiv.org/abs/1807.07281
        | Handbook of Mathematical Functions (Abramowitz and Stegun, 1964), 25.4.29
    """

    base: Base = "normal"

    @staticmethod
    def _standard_log_prob(z: Tensor) -> Tensor:
        return -0.5 * z * z - HALF_LOG_2PI

    @staticmethod
    def _standard_log_cdf(z: Tensor) -> Tensor:
        return log_ndtr(z)

    @staticmethod
    def _standard_log_mass(c: Tensor, h: Tensor) -> Tensor:
        c = c.abs()
        is_narrow = (1 + c) * h < NARROW
        # In each branch the arguments of the other are replaced by harmless ones, so that neither
        # overflows and puts NaN into the gradient.
        hc = torch.where(is_narrow, h * c, 0.0)
        mean_ratio = (4 + 5 * torch.exp(-0.3 * h * h) * torch.cosh(math.sqrt(0.6) * hc)) / 9
        narrow = torch.log(2 * h) - 0.5 * c * c - HALF_LOG_2PI + mean_ratio.log()

        h = torch.where(is_narrow, 1.0, h)
        log_upper = log_ndtr(h - c)
        # d log Phi(-t) / dt < -t, so the difference of the tails is at least 2hc. Where rounding
        # of their huge logarithms says less, the bound is the better value.
        drop = torch.maximum(log_upper - log_ndtr(-h - c), 2 * h * c)
        return torch.where(is_narrow, narrow, log_upper + log1mexp(drop))

    @staticmethod
    def _standard_cdf_survival_density(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Not torch.special.ndtr, which loses the lower tail (2 % off at -8, 0 at -10).
        y = z * math.sqrt(0.5)
        density = torch.exp(-y * y - HALF_LOG_2PI)
        return 0.5 * torch.erfc(-y), 0.5 * torch.erfc(y), density

    @override
    def entropy(self) -> Tensor:
        return self.log_scale + HALF_LOG_2PI + 0.5

    @property
    @override
    def variance(self) -> Tensor:
        return torch.exp(2 * self.log_scale)

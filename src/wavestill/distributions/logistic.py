"""The logistic law: the student's step, and the component of the teacher's mixture."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from typing_extensions import override

from wavestill.distributions.base import Base
from wavestill.distributions.location_scale import LocationScale
from wavestill.distributions.stable import log1mexp


class Logistic(LocationScale):
    r"""Logistic law, :math:`F(x) = \sigma((x - \mu) / s)`.

    .. math::
        p(x) = \sigma(z)\, \sigma(-z) / s, \quad z = (x - \mu) / s, \qquad
        H = \log s + 2, \qquad \operatorname{Var} X = \pi^2 s^2 / 3

    The mass of an interval, with a and b its standardised ends, is

    .. math:: \log[\sigma(b) - \sigma(a)] = \log\sigma(b) + \log\sigma(-a) + \log(1 - e^{a - b})

    where b - a = width / s is known without a subtraction: exact in both tails, with no
    thresholds (relative error under 1e-12 out to \|z\| = 1e4, checked in 64 bit).

    References:
        | Parallel WaveNet (van den Oord et al., 2018), section 4, for the entropy,
          https://arxiv.org/abs/1711.10433
        | PixelCNN++ (Salimans et al., 2017), section 2.1, for the mass (whose code needs
          thresholds), https://arxiv.org/abs/1701.05517
    """

    base: Base = "logistic"

    @staticmethod
    def _standard_log_prob(z: Tensor) -> Tensor:
        return 2 * logsigmoid(z) - z  # log sigma(-z) = log sigma(z) - z

    @staticmethod
    def _standard_log_cdf(z: Tensor) -> Tensor:
        return logsigmoid(z)

    @staticmethod
    def _standard_log_mass(c: Tensor, h: Tensor) -> Tensor:
        return logsigmoid(h + c) + logsigmoid(h - c) + log1mexp(2 * h)

    @staticmethod
    def _standard_cdf_survival_density(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cdf, survival = torch.sigmoid(z), torch.sigmoid(-z)
        return cdf, survival, cdf * survival

    @override
    def entropy(self) -> Tensor:
        return self.log_scale + 2

    @property
    @override
    def variance(self) -> Tensor:
        return math.pi**2 / 3 * torch.exp(2 * self.log_scale)

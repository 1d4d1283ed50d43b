"""Renyi divergence of order below one."""

import math

import torch
from torch import Tensor

from wavestill.distributions import Distribution
from wavestill.divergences.base import Divergence, common_shape
from wavestill.divergences.quadrature import stratified_points


class Renyi(Divergence):
    r"""Rényi divergence of order :math:`\alpha \in (0, 1)`, in nats.

    .. math:: D_\alpha(q \| p) = \frac{1}{\alpha - 1} \log
        E_q \left( \frac{p(x)}{q(x)} \right)^{1 - \alpha}

    It grows with α, to KL(q‖p) as α goes to 1, and does not mind modes that q lacks less than
    that: smaller orders look at where the laws overlap. At α = 1/2 it is twice the Bhattacharyya
    distance.

    Note:
        The logarithm of a mean of n points is biased upwards by about their variance / 2 n; points
        in strata make this small (a 1/n^3 term for smooth integrands).

    References:
        | Rényi Divergence and Kullback-Leibler Divergence (van Erven and Harremoës, 2014),
          equation 9, https://arxiv.org/abs/1206.2459

    Arguments:
        order: α, in (0, 1).
        num_points: Points per step.
        log_scale_min: As in :class:`Divergence`.

    Raises:
        ValueError: If the order is not between 0 and 1.
    """

    def __init__(
        self,
        order: float = 0.5,
        *,
        num_points: int = 16,
        log_scale_min: float | None = None,
    ) -> None:
        super().__init__(log_scale_min=log_scale_min)
        if not 0 < order < 1:
            raise ValueError(f"the order of Renyi's divergence is {order}; give one in (0, 1)")
        self.order = order
        self.num_points = num_points

    def _evaluate(
        self, q: Distribution, p: Distribution, generator: torch.Generator | None
    ) -> Tensor:
        x = stratified_points(q, self.num_points, common_shape(q, p), generator=generator)
        log_ratio = (1 - self.order) * (p.log_prob(x) - q.log_prob(x))
        log_mean = torch.logsumexp(log_ratio, 0) - math.log(self.num_points)
        return log_mean / (self.order - 1)

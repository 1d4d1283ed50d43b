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

    It grows with α, to KL(q‖p) as α goes to 1. At α = 1/2 it is symmetric, twice the Bhattacharyya
    distance. The integral is taken by stratified points of both laws,

    .. math:: \int q^\alpha p^{1-\alpha} \approx \frac1n \sum_{x \in X_q \cup X_p}
        \frac{q(x)^\alpha \, p(x)^{1-\alpha}}{q(x) + p(x)}

    whose summands lie in [0, 1]: under q alone a mode that it lacks, where p / q has no bound,
    would be seen by hardly any point and count for much.

    Note:
        The logarithm of a mean makes the estimate too large, by about the relative variance of
        the mean over 2 (1 - α); with points in strata that is little.

    References:
        | Optimally combining sampling techniques for Monte Carlo rendering (Veach and Guibas,
          1995), section 3.2 (the balance heuristic), https://doi.org/10.1145/218380.218498
        | Rényi Divergence and Kullback-Leibler Divergence (van Erven and Harremoës, 2014),
          equation 9, https://arxiv.org/abs/1206.2459

    Arguments:
        order: α, in (0, 1).
        num_points: Points per step under each law.
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
        shape = common_shape(q, p)
        x = torch.cat(
            [stratified_points(law, self.num_points, shape, generator=generator) for law in (q, p)]
        )
        log_q, log_p = q.log_prob(x), p.log_prob(x)
        log_summand = self.order * log_q + (1 - self.order) * log_p - torch.logaddexp(log_q, log_p)
        log_mean = torch.logsumexp(log_summand, 0) - math.log(self.num_points)
        return log_mean / (self.order - 1)

"""Jensen-Shannon divergence, weighted."""

import math

import torch
from torch import Tensor

from wavestill.distributions import Distribution
from wavestill.divergences.base import Divergence, common_shape
from wavestill.divergences.quadrature import stratified_points


class JensenShannon(Divergence):
    r"""Weighted Jensen–Shannon divergence, in nats; at most the entropy of its weights.

    .. math:: JS_w(q, p) = w \, KL(q \| m) + (1 - w) \, KL(p \| m), \qquad m = w q + (1 - w) p

    Each part by stratified quadrature under its own law, where its integrand is bounded from above
    by :math:`-\log w` and :math:`-\log(1 - w)`. As w goes to 0, JS / w tends to KL(q‖p); as it
    goes to 1, JS / (1 - w) tends to KL(p‖q).

    References:
        | Divergence measures based on the Shannon entropy (Lin, 1991), section IV,
          https://doi.org/10.1109/18.61115

    Arguments:
        weight: w, in (0, 1), of the student.
        num_points: Points per step under each law.
        log_scale_min: As in :class:`Divergence`.

    Raises:
        ValueError: If the weight is not between 0 and 1.
    """

    def __init__(
        self,
        weight: float = 0.5,
        *,
        num_points: int = 16,
        log_scale_min: float | None = None,
    ) -> None:
        super().__init__(log_scale_min=log_scale_min)
        if not 0 < weight < 1:
            raise ValueError(
                f"the weight of the student in Jensen-Shannon is {weight}; give one in (0, 1)"
            )
        self.weight = weight
        self.num_points = num_points

    def _evaluate(
        self, q: Distribution, p: Distribution, generator: torch.Generator | None
    ) -> Tensor:
        log_w, log_rest = math.log(self.weight), math.log1p(-self.weight)

        def excess(x: Tensor, log_own: Tensor) -> Tensor:
            log_m = torch.logaddexp(log_w + q.log_prob(x), log_rest + p.log_prob(x))
            return (log_own - log_m).mean(0)

        shape = common_shape(q, p)
        x_q = stratified_points(q, self.num_points, shape, generator=generator)
        x_p = stratified_points(p, self.num_points, shape, generator=generator)
        own = excess(x_q, q.log_prob(x_q)), excess(x_p, p.log_prob(x_p))
        return self.weight * own[0] + (1 - self.weight) * own[1]

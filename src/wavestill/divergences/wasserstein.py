"""The squared Wasserstein distance, which looks at how far mass has to move."""

import torch
from torch import Tensor

from wavestill.distributions import Distribution, Normal, Smoothed, same_quantile
from wavestill.divergences.base import Divergence, common_shape
from wavestill.divergences.quadrature import stratified_noise


class SquaredWasserstein(Divergence):
    r"""Squared Wasserstein distance :math:`W_2^2` of each step, in squared units of x.

    .. math:: W_2^2(q, p) = \int_0^1 \big( F_q^{-1}(u) - F_p^{-1}(u) \big)^2 \, du

    in one dimension the quantiles are the optimal coupling, so it is one stratified integral over
    the noise that both laws share; in closed form, :math:`(\mu_q - \mu_p)^2 + (s_q - s_p)^2`, when
    both are normal. It is finite whatever the supports, and blind to density: a student may put
    mass where the teacher has none, so long as it is near. Squared, because the distance itself
    has no gradient at equality.

    Note:
        Of a discretised teacher the continuous law is compared: half a bin is all that this can
        be off in :math:`W_2`.

    References:
        | Computational Optimal Transport (Peyré and Cuturi, 2019), remark 2.30,
          https://arxiv.org/abs/1803.00567

    Arguments:
        num_points: Points per step.
        log_scale_min: As in :class:`Divergence`.
    """

    def __init__(self, num_points: int = 16, *, log_scale_min: float | None = None) -> None:
        super().__init__(log_scale_min=log_scale_min)
        self.num_points = num_points

    def _evaluate(
        self, q: Distribution, p: Distribution, generator: torch.Generator | None
    ) -> Tensor:
        if isinstance(p, Smoothed):
            p = p.continuous
        if isinstance(q, Normal) and isinstance(p, Normal):
            return (q.loc - p.loc) ** 2 + (q.scale - p.scale) ** 2
        z = stratified_noise(
            q.base,
            self.num_points,
            common_shape(q, p),
            generator=generator,
            device=q.device,
            dtype=q.dtype,
        )
        return ((q.from_noise(z) - p.from_noise(same_quantile(z, q.base, p.base))) ** 2).mean(0)

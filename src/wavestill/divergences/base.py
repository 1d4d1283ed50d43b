"""The interface of every per-step divergence, and the integral that most of them are."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from wavestill.distributions import Distribution
from wavestill.divergences.quadrature import stratified_points


class Divergence(ABC):
    r"""A divergence D(q‖p) of each step.

    Both laws are conditioned on the same past; q is the student's and p the teacher's, which is
    scored through ``p.density``. Gradients flow into q and p alike: detach what is frozen.

    Arguments:
        log_scale_min: Floor of the log-scales of both laws, in nats of x's unit; for training
            only, so that no step of vanishing scale dominates. None reports the laws as they are.
    """

    def __init__(self, *, log_scale_min: float | None = None) -> None:
        self.log_scale_min = log_scale_min

    def __call__(
        self, q: Distribution, p: Distribution, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return D(q‖p) of each step, in the common batch shape of ``q`` and ``p``.

        Raises:
            ValueError: If ``q`` is discrete, or ``p`` has no continuous density.
        """
        if q.is_discrete:
            raise ValueError(
                f"'q' is a discrete {type(q).__name__}, but a divergence is taken under a "
                "continuous law; give its '.continuous' law or a student's conditionals"
            )
        p = p.density
        if self.log_scale_min is not None:
            q, p = q.floored(self.log_scale_min), p.floored(self.log_scale_min)
        return self._evaluate(q, p, generator)

    @abstractmethod
    def _evaluate(
        self, q: Distribution, p: Distribution, generator: torch.Generator | None
    ) -> Tensor: ...


def common_shape(q: Distribution, p: Distribution) -> tuple[int, ...]:
    """Return the batch shape that both laws broadcast to."""
    return tuple(torch.broadcast_shapes(q.batch_shape, p.batch_shape))  # type: ignore[no-untyped-call]


class QuantileDivergence(Divergence):
    r"""A divergence :math:`E_q\, f(\log q(x) - \log p(x))`, by stratified quadrature under q.

    .. math:: D \approx \frac1n \sum_{i=0}^{n-1} f(\log q(x_i) - \log p(x_i)), \qquad
        x_i = F_q^{-1}((i + U_i) / n)

    Both densities are taken at the same points, so q = p gives zero without noise. The points are
    reparametrised: the gradient reaches q through them as well.

    Arguments:
        num_points: Points n per step.
        log_scale_min: As in :class:`Divergence`.
    """

    def __init__(self, num_points: int, *, log_scale_min: float | None = None) -> None:
        super().__init__(log_scale_min=log_scale_min)
        self.num_points = num_points

    @abstractmethod
    def _integrand(self, log_ratio: Tensor) -> Tensor:
        """Return f of log q - log p."""

    def _evaluate(
        self, q: Distribution, p: Distribution, generator: torch.Generator | None
    ) -> Tensor:
        x = stratified_points(q, self.num_points, common_shape(q, p), generator=generator)
        return self._integrand(q.log_prob(x) - p.log_prob(x)).mean(0)

r"""Divergences D(q‖p) of each step, as one-dimensional integrals over known densities."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from wavestill.distributions import (
    Base,
    Distribution,
    LocationScale,
    Logistic,
    Normal,
    noise_quadrature,
)


def stratified_noise(
    base: Base,
    num_points: int,
    shape: tuple[int, ...],
    *,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""Draw base noise, one point in each of ``num_points`` strata of equal mass, (n, *shape).

    .. math:: z_i = F_{base}^{-1}(u_i), \quad u_i = (i + U_i) / n, \quad U_i \sim U(0, 1)

    The jitter U is independent for every element and stratum: the mean of g(z_i) is unbiased for
    E g(z), and errors of different steps do not add up in a gradient.

    References:
        | Monte Carlo theory, methods and examples (Owen, 2013), section 8.4,
          https://artowen.su.domains/mc/
    """
    # Drawn where the generator is: one on the CPU serves every device.
    source = device if generator is None else generator.device
    jitter = torch.rand((num_points, *shape), generator=generator, device=source, dtype=dtype)
    jitter = jitter.to(device)
    # rand is in [0, 1) in steps of eps / 2 or less: half of that keeps the quantile finite.
    jitter = jitter.clamp(min=torch.finfo(jitter.dtype).eps / 4)
    i = torch.arange(num_points, device=device, dtype=dtype).view(-1, *(1 for _ in shape))
    # n u and n (1 - u), each from its own end, so that neither tail is rounded away.
    below, above = i + jitter, (num_points - 1 - i) + (1 - jitter)
    if base == "logistic":
        return below.log() - above.log()
    z = torch.special.ndtri(torch.minimum(below, above) / num_points)
    return torch.where(below < above, z, -z)


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
        shapes = q.batch_shape, p.batch_shape
        shape = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
        z = stratified_noise(
            q.base,
            self.num_points,
            shape,
            generator=generator,
            device=q.device,
            dtype=q.dtype,
        )
        x = q.from_noise(z)
        return self._integrand(q.log_prob(x) - p.log_prob(x)).mean(0)


class KL(QuantileDivergence):
    r"""Kullback–Leibler divergence, in nats: of all divergences the one that sums over steps.

    .. math:: KL(q \| p) = E_q \log \frac{q(x)}{p(x)} = H(q, p) - H(q)

    In closed form when both laws are normal:

    .. math:: \log \frac{s_p}{s_q} + \frac{s_q^2 - s_p^2 + (\mu_q - \mu_p)^2}{2 s_p^2}

    and by stratified quadrature otherwise. Eight points for a logistic student
    (off the best fit by a tenth of a scale in location, and of a nat in log-scale) and mixtures of
    ten logistics have a variance, against eight iid draws, 4 times smaller in value, 35 times in
    the gradient of the location and 6 times in that of the log-scale; 32 points against 32 draws,
    10, 460 and 36 times (summed over 200 steps; tests/test_divergences.py measures it).

    References:
        | Parallel WaveNet (van den Oord et al., 2018), section 4, https://arxiv.org/abs/1711.10433
        | ClariNet (Ping et al., 2018), section 3, https://arxiv.org/abs/1807.07281

    Arguments:
        num_points: Points per step.
        log_scale_min: As in :class:`Divergence`.

    Example:
        >>> q = Normal(torch.zeros(2, 5), torch.zeros(2, 5))
        >>> KL()(q, q.affine(1.0, 1.0))[0, 0]
        tensor(0.5000)
    """

    def __init__(self, num_points: int = 8, *, log_scale_min: float | None = None) -> None:
        super().__init__(num_points, log_scale_min=log_scale_min)

    def _integrand(self, log_ratio: Tensor) -> Tensor:
        return log_ratio

    def _evaluate(
        self, q: Distribution, p: Distribution, generator: torch.Generator | None
    ) -> Tensor:
        if isinstance(q, Normal) and isinstance(p, Normal):
            return kl_normal(q, p)
        return super()._evaluate(q, p, generator)


def kl_normal(q: Normal, p: Normal) -> Tensor:
    """Return KL(q‖p) of normal laws in closed form; the equation stands in :class:`KL`."""
    log_ratio = q.log_scale - p.log_scale  # log (s_q / s_p)
    offset = p.to_noise(q.loc)  # (mu_q - mu_p) / s_p
    return 0.5 * (torch.expm1(2 * log_ratio) + offset**2) - log_ratio


class TotalVariation(QuantileDivergence):
    r"""Total variation, in [0, 1]: the rejection rate of draft-and-verify sampling.

    .. math:: TV(q, p) = \tfrac12 \int |q - p| = E_q \left(1 - p(x) / q(x)\right)_+

    A draft from q is kept with probability min(1, p / q), so this is the share not kept. It does
    not sum to the total variation of sequences: it is reported per step.

    References:
        | Fast Inference from Transformers via Speculative Decoding (Leviathan et al., 2023),
          section 3, https://arxiv.org/abs/2211.17192

    Arguments:
        num_points: Points per step.
        log_scale_min: As in :class:`Divergence`.
    """

    def __init__(self, num_points: int = 32, *, log_scale_min: float | None = None) -> None:
        super().__init__(num_points, log_scale_min=log_scale_min)

    def _integrand(self, log_ratio: Tensor) -> Tensor:
        return torch.relu(-torch.expm1(-log_ratio))


def best_location_scale(
    p: Distribution, base: Base, *, num_points: int = 33, num_steps: int = 40
) -> tuple[LocationScale, Tensor]:
    r"""Fit to each step of ``p`` the location–scale law nearest in KL: the floor of its students.

    .. math:: \min_{\mu, s} KL(q_{\mu, s} \| p)

    A student without a last spline is one such law per step however many flows it has, so its KL
    cannot be lower than this. The start is the best of the moments of ``p`` and a
    grid over its quantiles, for KL(q‖p) has a local minimum at each mode; then Rprop, elementwise,
    over a fixed quadrature (:func:`noise_quadrature`). The KL returned is taken with four times
    its nodes, so that a fit to the gaps between them is not rewarded.

    Arguments:
        p: The teacher's conditionals, continuous or discretised.
        base: Noise of the student.
        num_points: Nodes of the quadrature.
        num_steps: Steps of the optimiser; each evaluates ``num_points`` densities an element.

    Returns:
        The law q and its KL in nats, both in the batch shape of ``p``, without gradients.

    References:
        | A direct adaptive method for faster backpropagation learning: the RPROP algorithm
          (Riedmiller and Braun, 1993), https://doi.org/10.1109/ICNN.1993.298623
    """
    p = p.detach()
    law = Logistic if base == "logistic" else Normal

    def kl_at(loc: Tensor, log_scale: Tensor, num_points: int = num_points) -> Tensor:
        return _kl_by_nodes(law(loc, log_scale), p.density, num_points)

    with torch.no_grad():
        starts = _starts(p)
        kl, loc, log_scale = kl_at(*starts[0]), *starts[0]
        for start in starts[1:]:
            kl, loc, log_scale = _lesser((kl, loc, log_scale), (kl_at(*start), *start))

    loc_0, log_scale_0 = loc, log_scale
    offset, log_stretch = torch.zeros_like(loc_0), torch.zeros_like(log_scale_0)
    offset.requires_grad_(), log_stretch.requires_grad_()
    optimiser = torch.optim.Rprop([offset, log_stretch], lr=0.05, step_sizes=(1e-7, 0.5))
    for _ in range(num_steps):
        with torch.enable_grad():
            tried = loc_0 + log_scale_0.exp() * offset, log_scale_0 + log_stretch
            kl_tried = kl_at(*tried)
            parameters = (offset, log_stretch)
            offset.grad, log_stretch.grad = torch.autograd.grad(kl_tried.sum(), parameters)
        optimiser.step()
        kl, loc, log_scale = (
            value.detach() for value in _lesser((kl, loc, log_scale), (kl_tried, *tried))
        )
    with torch.no_grad():
        return law(loc, log_scale), kl_at(loc, log_scale, 4 * num_points)


def _kl_by_nodes(q: LocationScale, p: Distribution, num_points: int) -> Tensor:
    """Return KL(q‖p) by the trapezoidal rule on the noise of q: no randomness, smooth in q."""
    z, weights = noise_quadrature(q.base, num_points, device=q.device, dtype=q.dtype)
    z, weights = (value.view(-1, *(1 for _ in p.batch_shape)) for value in (z, weights))
    x = q.from_noise(z)
    return (weights * (q.log_prob(x) - p.log_prob(x))).sum(0)


def _starts(p: Distribution) -> list[tuple[Tensor, Tensor]]:
    """Return candidate (loc, log_scale): the moments of p, and a grid over its quantiles."""
    mean, std = p.density.mean, p.density.variance.sqrt()
    low, *locs, high = (p.from_noise(torch.full_like(mean, z)) for z in range(-3, 4))
    # A discretised law's quantiles may coincide; its density still spreads over a bin.
    spread = (0.2 * (high - low)).clamp(min=0.01 * std)
    return [(mean, std.log())] + [
        (loc, spread.log() + log_shrink) for loc in locs for log_shrink in (0.0, -1.5, -3.0)
    ]


def _lesser(
    left: tuple[Tensor, Tensor, Tensor], right: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, ...]:
    """Return, elementwise, the triple whose first entry is the smaller."""
    is_right = right[0] < left[0]
    return tuple(torch.where(is_right, new, old) for old, new in zip(left, right, strict=True))

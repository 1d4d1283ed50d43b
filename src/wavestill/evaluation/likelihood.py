"""Nats: how well the teacher predicts recordings, and how far the student is from the teacher."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from wavestill.density import Autoregressive, Context, InverseAutoregressive
from wavestill.distributions import Discretized, Distribution, MuLaw, mu_law_decode, mu_law_encode
from wavestill.divergences import KL, Divergence, TotalVariation, best_location_scale

GRID_WIDTH = 2.0**-15
"""Distance of two samples on the 16-bit grid over [-1, 1)."""

_STEPS_AT_ONCE = (
    4096  # a quadrature holds points x components numbers per step: some 30 MB at a time
)


def nats_on_grid(law: Distribution, x: Tensor) -> Tensor:
    r"""Nats that each sample of `x` costs on the 16-bit grid, whatever grid the law itself has.

    .. math:: -\log p(x_t \mid x_{<t}) - \log \Delta \quad \text{(densities)}, \qquad
        -\log P(\text{cell of } x_t) - \log (\Delta / w(x_t)) \quad \text{(grids of cell width } w)

    with :math:`\Delta = 2^{-15}`: a coarser law spreads the mass of a cell evenly over the samples
    in it, so models of 8 bits, of 16 and continuous ones are compared in one currency.
    """
    if isinstance(law, Discretized):
        width = torch.as_tensor(law.bin_width, dtype=x.dtype, device=x.device)
    elif isinstance(law, MuLaw):
        width = _mu_law_cell_width(law, x)
    elif law.is_discrete:
        raise ValueError(
            f"the values of {type(law).__name__} are no samples in [-1, 1]; "
            "its nats have no 16-bit grid"
        )
    else:
        width = torch.ones((), dtype=x.dtype, device=x.device)  # a density: mass per unit
    return -law.log_prob(x) + (width / GRID_WIDTH).log()


def _mu_law_cell_width(law: MuLaw, x: Tensor) -> Tensor:
    """Width of the cell that each sample falls in, between the places where the level changes."""
    level = mu_law_encode((x - law.shift) / law.scale, law.num_levels).to(x.dtype)
    top = law.num_levels - 1
    upper, lower = (level + 0.5).clamp(max=top), (level - 0.5).clamp(min=0)
    cell = mu_law_decode(upper, law.num_levels, dtype=x.dtype) - mu_law_decode(
        lower, law.num_levels, dtype=x.dtype
    )
    return law.scale * cell


@torch.no_grad()
def teacher_nats(teacher: Autoregressive, wave: Float[Tensor, "1 T"], context: Context) -> float:
    """Mean negative log-likelihood of one recording, nats per sample of the 16-bit grid.

    The clip stands alone: before its first sample the model hears silence, and those steps count.
    """
    return float(nats_on_grid(teacher.conditionals(wave, context), wave).double().mean())


@dataclass(frozen=True)
class Closeness:
    """One sample of the student and how far it is from the teacher: means over the steps.

    Arguments:
        x: The sample, `(T,)`; what follows is None where there is no teacher.
        kl_nats: KL(student || teacher), nats per sample.
        kl_floor_nats: The least KL that any one location-scale step reaches, under the same pasts.
        tv: Total variation: the share of steps that draft-and-verify would reject.
    """

    x: Float[Tensor, " T"]
    kl_nats: float | None = None
    kl_floor_nats: float | None = None
    tv: float | None = None


@torch.no_grad()
def closeness(
    teacher: Autoregressive | None,
    student: InverseAutoregressive,
    noise: Float[Tensor, "1 T"],
    teacher_context: Context,
    student_context: Context,
    generator: torch.Generator,
    *,
    num_points: int = 64,
    floor_steps: int = 1000,
) -> Closeness:
    r"""Draw once from the student and integrate both divergences step by step along the draw.

    .. math:: \frac{1}{T} \sum_t D\big(q(\cdot \mid x_{<t}) \,\|\, p(\cdot \mid x_{<t})\big),
    \qquad x \sim q

    By the chain rule the mean of KL over draws is the KL of whole sequences, per sample. Both laws
    are those that are
    sampled: no floors, no clamps.

    Arguments:
        teacher: Its conditionals are `p`; None: only the sample is drawn.
        student: Its samples are the pasts, its conditionals `q`.
        noise: Base draws of the student's kind.
        teacher_context: The teacher's context for the clip.
        student_context: The student's.
        generator: Of the quadrature and of the choice of steps, on the models' device.
        num_points: Stratified points per step.
        floor_steps: Steps, drawn at random, on which the floor is fitted.
    """
    draw = student.rsample(noise, student_context)
    if teacher is None:
        return Closeness(draw.x[0])
    p, q = teacher.conditionals(draw.x, teacher_context), draw.conditionals
    steps = torch.randperm(noise.shape[1], generator=generator, device=noise.device)[:floor_steps]
    _, floor_nats = best_location_scale(p[:, steps], q.base)
    return Closeness(
        x=draw.x[0],
        kl_nats=_mean_over_steps(KL(num_points), q, p, generator),
        kl_floor_nats=float(floor_nats.double().mean()),
        tv=_mean_over_steps(TotalVariation(num_points), q, p, generator),
    )


def _mean_over_steps(
    divergence: Divergence, q: Distribution, p: Distribution, generator: torch.Generator
) -> float:
    steps = q.batch_shape[-1]
    total = 0.0
    for start in range(0, steps, _STEPS_AT_ONCE):
        part = slice(start, start + _STEPS_AT_ONCE)
        total += float(divergence(q[:, part], p[:, part], generator=generator).double().sum())
    return total / steps

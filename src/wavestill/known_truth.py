r"""A process whose entropy is known, so that a trained density can be held against the truth.

.. math:: x_t = a_1 x_{t-1} + a_2 x_{t-2} + \sigma e_t, \quad e_t \sim N(0, 1), \qquad
    h = \tfrac12 \log(2 \pi e \sigma^2)
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from wavestill.distributions import Normal
from wavestill.divergences import KL
from wavestill.models import IAFWaveNet, IAFWaveNetConfig, WaveNet, WaveNetConfig
from wavestill.sampling import speculative
from wavestill.training import distill, fit


@dataclass(frozen=True)
class GaussianAR2:
    r"""A Gaussian autoregressive process of second order, with poles :math:`r e^{\pm i \theta}`.

    Hence :math:`a_1 = 2 r \cos\theta` and :math:`a_2 = -r^2`.

    Arguments:
        pole_radius: :math:`r` in [0, 1): the nearer to 1, the longer it rings.
        pole_angle: :math:`\theta`, the frequency at which it rings, in radians per sample.
        innovation_std: :math:`\sigma`.

    Example:
        >>> process = GaussianAR2(0.9, 0.5, 0.1)
        >>> round(process.entropy_rate, 4)
        -0.8836
    """

    pole_radius: float
    pole_angle: float
    innovation_std: float

    @property
    def coefficients(self) -> tuple[float, float]:
        """:math:`a_1, a_2`."""
        return 2 * self.pole_radius * math.cos(self.pole_angle), -(self.pole_radius**2)

    @property
    def entropy_rate(self) -> float:
        """Nats per sample that no model can get below."""
        return 0.5 * math.log(2 * math.pi * math.e * self.innovation_std**2)

    def sample(self, num: int, length: int, generator: torch.Generator) -> Float[Tensor, "N T"]:
        """Independent stretches of the process in its stationary state."""
        a1, a2 = self.coefficients
        # variance and correlation of neighbours: the Yule-Walker equations solved for them
        correlation = a1 / (1 - a2)
        variance = self.innovation_std**2 / (1 - a1 * correlation - a2 * (a1 * correlation + a2))
        noise = torch.randn(length, num, generator=generator, dtype=torch.float64)
        x = torch.empty_like(noise)
        x[0] = math.sqrt(variance) * noise[0]
        x[1] = correlation * x[0] + math.sqrt(variance * (1 - correlation**2)) * noise[1]
        rows = list(x.unbind())
        for t in range(2, length):
            rows[t] = a1 * rows[t - 1] + a2 * rows[t - 2] + self.innovation_std * noise[t]
        return torch.stack(rows, dim=1).float()

    def conditionals(self, x: Float[Tensor, "B T"]) -> Normal:
        """The true laws of steps 2, 3, ..., given the two before: batch shape `(B, T - 2)`."""
        a1, a2 = self.coefficients
        loc = a1 * x[:, 1:-1] + a2 * x[:, :-2]
        return Normal(loc, torch.full_like(loc, math.log(self.innovation_std)))


def learn_known_truth(
    process: GaussianAR2 = GaussianAR2(0.95, 0.6, 0.1),
    *,
    teacher_steps: int = 600,
    student_steps: int = 1300,
    seed: int = 0,
) -> dict[str, float | str]:
    """Train a Gaussian teacher and student on the process, and hold both against the truth.

    Under a minute on two cores. All figures are of held-out stretches, the first 200 samples of
    each left out.

    Arguments:
        process: The process.
        teacher_steps: Steps of `fit`.
        student_steps: Steps of `distill`.
        seed: Seed of data, weights and noise.

    Returns:
        `entropy_rate_nats`; the negative log-likelihood of the same held-out data under the true
        law and the teacher, `true_nll_nats_per_sample` and `teacher_nll_nats_per_sample`; and
        `student_kl_nats_per_sample`; the samples of one draft-and-verify round and their bound,
        `samples_per_round` and `samples_per_round_bound`; beside them the tolerances that the
        tests hold them to, and a `description`.
    """
    generator = torch.Generator().manual_seed(seed)
    train, held_out = process.sample(64, 5000, generator), process.sample(32, 5000, generator)
    torch.manual_seed(seed)
    shape = WaveNetConfig(
        layers=5,
        dilation_cycle=5,
        residual_channels=16,
        gate_channels=16,
        skip_channels=32,
        head="gaussian",
        predictor_order=16,
    )
    teacher, _ = fit(
        WaveNet(shape),
        train,
        max_steps=teacher_steps,
        batch_size=8,
        clip_samples=500,
        learning_rate=5e-3,
        averaging=0.99,
        seed=seed,
    )
    student, _ = distill(
        teacher,
        IAFWaveNet(IAFWaveNetConfig((6, 6, 6), dilation_cycle=6, channels=16, base="normal")),
        length=400,
        batch_size=6,
        max_steps=student_steps,
        learning_rate=1e-2,
        averaging=0.99,
        seed=seed,
    )
    skip = 200
    with torch.no_grad():
        true_nll = (
            -process.conditionals(held_out)[:, skip - 2 :].log_prob(held_out[:, skip:]).mean()
        )
        teacher_nll = -teacher.conditionals(held_out)[:, skip:].log_prob(held_out[:, skip:]).mean()
        draw = student.rsample(torch.randn(32, 5000, generator=generator))
        kl = KL()(draw.conditionals, teacher.conditionals(draw.x))[:, skip:].mean()
        noise = torch.randn(1, 5000, generator=generator)
        drafted = speculative(teacher, student, noise, generator=generator)
    return {
        "description": (
            f"Gaussian AR(2), poles {process.pole_radius:g} exp(±{process.pole_angle:g}i), "
            f"innovation {process.innovation_std:g}"
        ),
        "entropy_rate_nats": process.entropy_rate,
        "true_nll_nats_per_sample": float(true_nll),
        "teacher_nll_nats_per_sample": float(teacher_nll),
        "student_kl_nats_per_sample": float(kl),
        "samples_per_round": drafted.samples_per_round,
        "samples_per_round_bound": noise.shape[1] / drafted.expected_rounds,
        "teacher_tolerance_nats": 0.003,
        "student_tolerance_nats": 0.002,
    }

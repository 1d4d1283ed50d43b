"""Chains proposed by a student keep the teacher's law, and tell how well they mix."""

import pytest
import torch
from torch import Tensor, nn

from wavestill.density import JointDraw, as_density
from wavestill.distributions import Normal
from wavestill.sampling.metropolis import autocorrelation_time, metropolis


class Wide(nn.Module):
    """A student of N(mean, std)."""

    base = "normal"

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.loc, self.log_scale = (
            nn.Parameter(torch.tensor([value, value], dtype=torch.float64))
            for value in (mean, float(torch.tensor(std).log()))
        )

    def rsample(self, noise: Tensor, context: object = None) -> JointDraw:
        law = Normal(self.loc, self.log_scale)
        x = law.from_noise(noise)
        return JointDraw(x, noise, law.log_prob(x).sum(-1))

    def log_prob(self, x: Tensor, context: object = None) -> Tensor:
        return Normal(self.loc, self.log_scale).log_prob(x).sum(-1)

    def sample(self, num: int, context: object = None) -> Tensor:
        return self.rsample(torch.randn(num, 2, dtype=torch.float64)).x


ZERO = torch.zeros(2, dtype=torch.float64)
TEACHER = as_density(torch.distributions.Normal(ZERO, ZERO + 1))


def drawn(student: Wide, num: int = 40_000, **settings: int) -> object:
    generator = torch.Generator().manual_seed(0)
    return metropolis(TEACHER, student, (num, 2), generator=generator, **settings)


def test_a_perfect_student_is_always_taken() -> None:
    chains = drawn(Wide(0.0, 1.0))
    assert chains.acceptance_rate == 1.0
    assert chains.autocorrelation_time < 1.1
    assert chains.x.shape == (40_000, 2)


def test_chains_have_the_teachers_law() -> None:
    """Kolmogorov–Smirnov against the truth, at the chains' own effective size."""
    chains = drawn(Wide(0.5, 1.5))
    assert 0.3 < chains.acceptance_rate < 0.7
    assert 1.5 < chains.autocorrelation_time < 8
    size = chains.effective_sample_size
    for column in chains.x.T:
        ordered = column.sort().values
        ranks = torch.arange(1, len(ordered) + 1) / len(ordered)
        gap = (torch.special.ndtr(ordered) - ranks).abs().max()
        assert float(gap) < 1.95 / size**0.5, "a chance of one in a thousand"
    product = (chains.x[:, 0] * chains.x[:, 1]).mean()
    assert abs(float(product)) < 4 / size**0.5


def test_without_the_decision_they_would_not() -> None:
    """The test above can fail: the proposals themselves do not pass it."""
    x = Wide(0.5, 1.5).sample(10_000)[:, 0].detach().sort().values
    gap = (torch.special.ndtr(x) - torch.arange(1, 10_001) / 10_000).abs().max()
    assert float(gap) > 0.1


def test_a_narrow_student_mixes_worse() -> None:
    good, bad = drawn(Wide(0.0, 1.2)), drawn(Wide(0.0, 0.7))
    assert bad.autocorrelation_time > 3 * good.autocorrelation_time


def test_autocorrelation_time_of_a_known_process() -> None:
    """AR(1) with coefficient a has (1 + a) / (1 - a)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(2000, 50, dtype=torch.float64)
    x[0] = torch.randn(50, generator=generator) / 0.6
    for t in range(1, 2000):
        x[t] = 0.8 * x[t - 1] + torch.randn(50, generator=generator)
    assert autocorrelation_time(x) == pytest.approx(9.0, rel=0.1)


def test_bad_requests_are_named() -> None:
    with pytest.raises(ValueError, match="0 samples of 64 chains"):
        drawn(Wide(0.0, 1.0), 0)
    nowhere = as_density(torch.distributions.Normal(ZERO, ZERO + 1))
    student = Wide(0.0, 1.0)
    student.loc.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="no finite density to any proposal"):
        metropolis(nowhere, student, (10, 2))

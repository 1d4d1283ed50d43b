import math

import pytest
import torch

from wavestill.density import Draw
from wavestill.distributions import Discretized, Logistic, Mixture, MuLaw, Normal
from wavestill.evaluation.likelihood import closeness, nats_on_grid, teacher_nats

GRID = torch.arange(-(2**15), 2**15, dtype=torch.float64) / 2**15


def loc_scale(law, loc, scale):
    return law(
        torch.tensor([loc], dtype=torch.float64),
        torch.tensor([math.log(scale)], dtype=torch.float64),
    )


LAWS = {
    "normal": loc_scale(Normal, 0.05, 0.02),
    "logistic": loc_scale(Logistic, -0.1, 0.01),
    "16 bits": Discretized(loc_scale(Logistic, -0.1, 0.01), 2.0**-15, -1.0, 1 - 2.0**-15),
    "8 bits": Discretized(loc_scale(Logistic, -0.1, 0.01), 2.0**-7, -1.0, 1 - 2.0**-7),
    "mu-law": MuLaw(-((torch.linspace(-3, 3, 256, dtype=torch.float64) - 0.5) ** 2)[None]),
}


@pytest.mark.parametrize("name", LAWS)
def test_the_masses_of_all_16_bit_samples_sum_to_one(name):
    """Whatever a law's own grid: its nats on the 16-bit grid are those of a law on it."""
    mass = (-nats_on_grid(LAWS[name], GRID)).exp().sum()
    # a mu-law cell holds a whole number of samples, 6 at least, and its width is none
    assert float(mass) == pytest.approx(1, abs=0.01 if name == "mu-law" else 1e-6)


def test_discrete_laws_of_anything_but_samples_are_refused():
    class Words(Normal):
        is_discrete = True

    with pytest.raises(ValueError, match="Words"):
        nats_on_grid(loc_scale(Words, 0.0, 1.0), GRID)


class Independent:
    """Both kinds of density at once, every step of one law."""

    def __init__(self, law, base):
        self.law, self.base = law, base

    def conditionals(self, x, context=None):
        return self.law[torch.zeros(x.shape, dtype=torch.long)]

    def rsample(self, noise, context=None):
        laws = self.conditionals(noise)
        return Draw(laws.from_noise(noise), noise, laws)

    def log_prob(self, x, context=None):
        return self.conditionals(x).log_prob(x).sum(-1)

    def sample(self, num, context=None):
        raise NotImplementedError

    def advance(self, x_new, context=None, state=None):
        raise NotImplementedError


def near(teacher, student, base, num_samples=6000):
    noise = torch.zeros(1, num_samples, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    return closeness(
        Independent(teacher, base),
        Independent(student, base),
        noise,
        None,
        None,
        generator,
        floor_steps=10,
    )


def test_kl_and_tv_of_two_gaussians_are_the_closed_forms():
    found = near(loc_scale(Normal, 0.0, 0.1), loc_scale(Normal, 0.05, 0.1), "normal")
    assert found.kl_nats == pytest.approx(0.5 * 0.5**2, rel=1e-6)
    assert found.tv == pytest.approx(math.erf(0.25 / math.sqrt(2)), rel=1e-3)
    assert found.kl_floor_nats == pytest.approx(0, abs=1e-6)


def test_a_logistic_student_stays_above_its_floor():
    """REFERENCE: no logistic step comes closer to a Gaussian than half of log(2 pi^3 e / 3), less
    2."""
    best = 0.5 * math.log(2 * math.pi**3 * math.e / 3) - 2
    found = near(loc_scale(Normal, 0.0, 0.1), loc_scale(Logistic, 0.0, 0.09), "logistic")
    assert found.kl_floor_nats == pytest.approx(best, abs=1e-3)
    assert found.kl_nats > found.kl_floor_nats


def test_a_student_without_its_teacher_is_only_drawn():
    student = Independent(loc_scale(Normal, 0.2, 0.1), "normal")
    found = closeness(
        None, student, torch.zeros(1, 7, dtype=torch.float64), None, None, torch.Generator()
    )
    assert found.x.tolist() == [0.2] * 7
    assert (found.kl_nats, found.tv, found.kl_floor_nats) == (None, None, None)


def test_the_teachers_nats_on_data_of_its_own_are_its_entropy():
    law = loc_scale(Normal, 0.0, 0.02)
    wave = 0.02 * torch.randn(
        1, 100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    expected = 0.5 * math.log(2 * math.pi * math.e * 0.02**2) + 15 * math.log(2)
    standard_error = math.sqrt(0.5 / wave.numel())
    assert teacher_nats(Independent(law, "normal"), wave, None) == pytest.approx(
        expected, abs=4 * standard_error
    )


def test_mixtures_have_finite_floors():
    mixture = Mixture(
        torch.zeros(1, 2, dtype=torch.float64),
        Logistic(torch.tensor([[-0.3, 0.3]]).double(), torch.full((1, 2), -4.0).double()),
    )
    found = near(mixture, loc_scale(Logistic, -0.3, 0.02), "logistic", num_samples=50)
    assert 0 < found.kl_floor_nats <= found.kl_nats < 1

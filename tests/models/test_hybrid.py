"""Hybrids: the joint is the sum of its parts, whatever they are; sound comes before the end."""

import math

import pytest
import torch

from tests.models.table import HOP, MEL, STUDENTS, TEACHERS
from wavestill.density import Conditioning, as_density
from wavestill.distributions import counter_noise
from wavestill.models.frame_prior import FramePrior, FramePriorConfig
from wavestill.models.hybrid import Hybrid


class Line(torch.nn.Module):
    """x = 2 z + 1 + 0.5 e, given z as a plain tensor."""

    def log_prob(self, x, context):
        return torch.distributions.Normal(2 * context + 1, 0.5).log_prob(x).sum(-1)

    def sample(self, num, context):
        return 2 * context + 1 + 0.5 * torch.randn(num, context.shape[-1])


@pytest.fixture(name="prior")
def _prior():
    torch.manual_seed(0)
    config = FramePriorConfig(
        MEL.num_features, layers=1, channels=16, heads=2, hidden=8, num_mixtures=2
    )
    return FramePrior(config).double().eval()


def test_joint_is_the_sum_of_its_parts(prior):
    teacher = TEACHERS["mel"].model()
    hybrid = Hybrid(prior, teacher)
    z, x = hybrid.sample(2, length=4, generator=torch.Generator().manual_seed(0))
    assert x.shape == (2, 4 * HOP)
    parts = hybrid.log_prob_parts((z, x))
    assert torch.equal(parts.z, prior.log_prob(z))
    assert torch.equal(parts.x, teacher.log_prob(x, Conditioning(z)))
    assert torch.equal(hybrid.log_prob((z, x)), parts.z + parts.x)
    assert set(dict(hybrid.named_modules())) > {"prior", "decoder"}


def test_a_students_likelihood_is_the_density_of_its_draw(prior):
    student = STUDENTS["mel"].model()
    hybrid = Hybrid(prior, student)
    z = prior.sample(2, length=3)
    draw = student.rsample(torch.randn(2, 3 * HOP, dtype=torch.float64), Conditioning(z))
    expected = prior.log_prob(z) + draw.log_prob
    torch.testing.assert_close(hybrid.log_prob((z, draw.x)), expected, rtol=1e-9, atol=1e-9)


def test_any_two_densities_will_do():
    prior = as_density(torch.distributions.Normal(torch.zeros(1), 1.0))
    hybrid = Hybrid(prior, Line(), adapter=lambda z: z)
    torch.manual_seed(0)
    z, x = hybrid.sample(20_000)
    covariance = torch.tensor([[1.0, 2.0], [2.0, 4.25]])
    truth = torch.distributions.MultivariateNormal(torch.tensor([0.0, 1.0]), covariance)
    both = torch.cat([z, x], -1)
    torch.testing.assert_close(hybrid.log_prob((z, x)), truth.log_prob(both), rtol=0, atol=1e-4)
    # four standard errors of the mean, and of the entropy, half of a chi-squared of two
    assert float(x.mean()) == pytest.approx(1, abs=4 * math.sqrt(4.25 / 20_000))
    nats = -float(hybrid.log_prob((z, x)).mean())
    assert nats == pytest.approx(float(truth.entropy()), abs=4 / math.sqrt(20_000))


@pytest.mark.parametrize("chunk_samples", [None, 7])
def test_streamed_sound_is_that_of_the_frames_drawn(prior, chunk_samples):
    student = STUDENTS["mel"].model()
    hybrid = Hybrid(prior, student)
    parts = list(hybrid.stream(9, seed=2, chunk_samples=chunk_samples))
    z = torch.cat(list(prior.stream(9, seed=2))).unsqueeze(0)
    noise = counter_noise(student.base, 2, 1, 9 * HOP, dtype=torch.float64)
    whole = student.rsample(noise, Conditioning(z)).x[0]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-10, atol=1e-10)


def test_sound_comes_while_frames_are_still_drawn(prior):
    drawn = []

    class Counted(FramePrior):
        def stream(self, num_frames, *, seed=0, temperature=1.0):
            for frame in super().stream(num_frames, seed=seed, temperature=temperature):
                drawn.append(frame)
                yield frame

    counted = Counted(prior.config).double()
    sound = Hybrid(counted, STUDENTS["mel"].model()).stream(50)
    assert len(next(sound)) == HOP
    assert len(drawn) == 4  # the decoder looks three frames ahead
    next(sound)
    assert len(drawn) == 5


def test_what_makes_no_sense_is_refused(prior):
    student = STUDENTS["mel"].model()
    with pytest.raises(ValueError, match="3 latents for 2 sequences"):
        Hybrid(prior, student).log_prob((torch.zeros(3, 2, 5), torch.zeros(2, 16)))
    with pytest.raises(ValueError, match="FramePrior and WaveNet do not both stream"):
        Hybrid(prior, TEACHERS["mel"].model()).stream(3)

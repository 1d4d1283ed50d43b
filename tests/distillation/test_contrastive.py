"""The contrastive term: unlikely under another clip's conditioning, and no further than that."""

import pytest
import torch
from torch import nn

from tests.distillation.cases import WhiteNoise
from wavestill.density import Conditioning, Draw
from wavestill.distillation import Contrastive, Objective, ObjectiveConfig, StepDivergence
from wavestill.distillation.contrastive import mismatched
from wavestill.distributions import Normal
from wavestill.divergences import KL

CONTEXT = torch.tensor([[-1.0], [0.0], [2.0]])  # the means that the teacher is told


class Told(nn.Module):
    """Steps of unit scale around `share` of the context, plus `loc`."""

    base = "normal"

    def __init__(self, share):
        super().__init__()
        self.share = nn.Parameter(torch.tensor(share))

    def _law(self, like, context):
        loc = self.share * context.expand_as(like)
        return Normal(loc, torch.zeros_like(loc))

    def conditionals(self, x, context=None):
        return self._law(x, context)

    def log_prob(self, x, context=None):
        return self._law(x, context).log_prob(x).sum(-1)

    def sample(self, num, context=None):
        return self._law(torch.zeros(num, 50), context).sample()

    def rsample(self, noise, context=None):
        law = self._law(noise, context)
        return Draw(law.from_noise(noise), noise, law)


def value(student, margin, context=CONTEXT, **options):
    term = Contrastive(KL(), margin_nats=margin, **options)
    objective = Objective(Told(1.0), student, {"contrastive": term})
    return objective(None, context, shape=(len(context), 50)).total


def figure(*of):
    return float(value(*of).detach())


def test_it_is_the_margin_less_kl_under_the_neighbours_context():
    """Means -1, 0, 2 against 2, -1, 0: KL 4.5, 0.5 and 2 nats at every step."""
    assert figure(Told(1.0), 10.0) == pytest.approx(10 - (4.5 + 0.5 + 2.0) / 3, rel=1e-5)
    assert figure(Told(1.0), 1.0) == pytest.approx((1 - 0.5) / 3, rel=1e-5)  # held per step
    assert figure(Told(1.0), 0.5) == pytest.approx(0.0, abs=1e-6)


def test_it_pulls_away_from_the_wrong_conditioning_only_within_the_margin():
    ignorant = Told(0.0)  # KL 2, 0.5 and 0 nats
    value(ignorant, 10.0).backward()
    assert float(ignorant.share.grad) < 0  # descending, the student takes more notice
    ignorant.share.grad = None
    value(Told(5.0), 1.0)
    far = Told(5.0)
    value(far, 1.0).backward()
    assert float(far.share.grad) == 0


def test_with_the_divergence_a_student_learns_its_conditioning_and_stays_bounded():
    """At a large weight the sum still has a lower end; without the margin it would have none."""
    student = Told(0.0)
    terms = {"kl": StepDivergence(KL()), "contrastive": Contrastive(KL(), margin_nats=2.0)}
    objective = Objective(Told(1.0), student, terms, {"kl": 1.0, "contrastive": 0.3})
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        losses = objective(None, CONTEXT, shape=(3, 20))
        losses.total.backward()
        optimizer.step()
    assert 0.95 < student.share.item() < 1.5
    heavy = Objective(Told(1.0), Told(1e4), terms, {"kl": 0.0, "contrastive": 100.0})
    assert 0 <= float(heavy(None, CONTEXT, shape=(3, 20)).total.detach()) <= 200


def test_no_gradient_reaches_the_teacher():
    student = Told(0.5)
    objective = Objective(Told(1.0), student, {"contrastive": Contrastive(KL())})
    objective(None, CONTEXT, shape=(3, 20)).total.backward()
    assert student.share.grad is not None
    assert all(p.grad is None for p in objective.teacher.parameters())


def test_every_clip_gets_its_neighbours_conditioning():
    frames = torch.arange(3.0).view(3, 1, 1)
    rolled = mismatched(Conditioning(frames, torch.arange(3)), 3)
    assert rolled.frames.flatten().tolist() == [2.0, 0.0, 1.0]
    assert rolled.speaker.tolist() == [2, 0, 1]
    assert mismatched(Conditioning(frames), 3).speaker is None


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match="there is 1 clip at a time; set 'batch_size' to 2 or m"):
        value(Told(1.0), 1.0, CONTEXT[:1])
    with pytest.raises(ValueError, match="compares two conditionings but the context is a NoneT"):
        Objective(WhiteNoise(0.0, 1.0), WhiteNoise(0.0, 1.0), {"contrastive": Contrastive(KL())})(
            None, shape=(2, 20)
        )
    with pytest.raises(ValueError, match="50 samples and the first 50 are left out"):
        value(Told(1.0), 1.0, skip_samples=50)
    with pytest.raises(ValueError, match="'margin_nats' is 0"):
        ObjectiveConfig(weights={"contrastive": 0.3}, margin_nats=0.0).build(
            WhiteNoise(0.0, 1.0), WhiteNoise(0.0, 1.0)
        )

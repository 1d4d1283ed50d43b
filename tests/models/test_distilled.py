"""Teacher and student as one density: each way back to the teacher has the teacher's law."""

import pytest
import torch
import zuko
from torch import nn

from wavestill.distributions import standard_noise
from wavestill.models.distilled import Distilled
from wavestill.models.flows import IAF, MAF, PermutedIAF, PermutedMAF
from wavestill.sampling.importance import ImportanceError

SIZES = {"num_flows": 2, "hidden": (12,)}


def shaken(flow: nn.Module, strength: float = 0.15) -> nn.Module:
    """A flow that is no longer the identity, and not far from it either."""
    torch.manual_seed(0)
    for name, weight in flow.named_parameters():
        if ".net." in name:
            nn.init.normal_(weight, std=strength)
    return flow.double()


def pair(*, bins: int | None = None, permuted: bool = False) -> Distilled:
    """A bent teacher, and a student that is the base law, a little wider."""
    teacher = shaken((PermutedMAF if permuted else MAF)(3, bins=bins, **SIZES))
    student = (PermutedIAF if permuted else IAF)(3, **SIZES).double()
    student.log_scale.fill_(0.25)
    return Distilled(teacher, student)


def test_the_density_of_each_is_asked_for_by_name() -> None:
    both = pair()
    x = both.sample(5)
    assert torch.equal(both.log_prob(x, of="teacher"), both.teacher.log_prob(x))
    torch.testing.assert_close(both.log_prob(x, of="student"), both.student.log_prob(x).detach())
    with pytest.raises(TypeError, match="of"):
        both.log_prob(x)  # type: ignore[call-arg]


@pytest.mark.parametrize("bins", [None, 4])
def test_corrected_expectations_and_exact_draws_and_chains_agree_with_the_teacher(
    bins: int | None,
) -> None:
    both = pair(bins=bins)
    generator = torch.Generator().manual_seed(0)
    truth = both.teacher.sample(40_000, generator=generator)

    def moments(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x.square(), x[:, :1] * x[:, 1:]], 1)

    expected, spread = moments(truth).mean(0), moments(truth).std(0)
    found = both.expectation(moments, 20_000, generator=generator)
    se = (found.standard_error.square() + spread.square() / 40_000).sqrt()
    assert bool(((found.value - expected) / se).abs().max() < 4)
    assert found.effective_sample_size < 19_000, "the student is not the teacher"

    warmer = both.expectation(moments, 20_000, temperature=1.2, generator=generator)
    se = (warmer.standard_error.square() + spread.square() / 40_000).sqrt()
    assert bool(((warmer.value - expected) / se).abs().max() < 4)

    exact = both.exact(4000, generator=generator)
    se = spread / 4000**0.5
    assert bool(((moments(exact.x).mean(0) - expected) / se).abs().max() < 4.2)

    chains = both.metropolis(20_000, generator=generator)
    se = spread / chains.effective_sample_size**0.5
    assert bool(((moments(chains.x).mean(0) - expected) / se).abs().max() < 4.2)

    raw = (moments(both.sample(20_000, generator=generator)).mean(0) - expected) / spread
    assert bool(raw.abs().max() * 4000**0.5 > 5), "uncorrected draws would fail"


def test_kl_is_that_of_the_joint_laws() -> None:
    both = Distilled(MAF(3).double(), IAF(3).double())
    both.student.log_scale.fill_(0.2)
    kl, error = both.kl(50_000, generator=torch.Generator().manual_seed(0))
    expected = 3 * (0.5 * torch.tensor(0.4).exp() - 0.5 - 0.2)
    assert kl == pytest.approx(float(expected), abs=4 * error)


def test_a_student_that_misses_its_teacher_refuses() -> None:
    both = pair()
    both.student.log_scale.fill_(-1.0)
    with pytest.raises(ImportanceError, match="train it further"):
        both.expectation(lambda x: x, 5000)


def test_permuted_pairs_say_why_they_are_not_exact() -> None:
    both = pair(permuted=True)
    with pytest.raises(ValueError, match=r"the teacher .*no law of a single step.*'metropolis'"):
        both.exact(5)
    both = Distilled(MAF(3), PermutedIAF(3))
    with pytest.raises(ValueError, match=r"the student \(PermutedIAF\) knows no law"):
        both.exact(5)
    assert pair().why_not_exact() is None


def test_each_draw_may_have_a_context_of_its_own(monkeypatch):
    monkeypatch.setattr("wavestill.models.distilled.ROWS_AT_ONCE", 7)
    both = Distilled(MAF(3, 2, hidden=(4,)), IAF(3, 2, hidden=(4,)))
    context = torch.randn(20, 2)
    together = both.weigh(20, context, generator=torch.Generator().manual_seed(0))
    own = both.log_prob(together.x, context, of="teacher")
    draws = both.student.rsample(
        standard_noise("normal", (20, 3), generator=torch.Generator().manual_seed(0)), context
    )
    torch.testing.assert_close(together.x, draws.x)
    torch.testing.assert_close(together.log_weights, own - draws.log_prob)


def test_a_flow_of_zukos_in_one_order_is_drawn_exactly():
    both = Distilled(zuko.flows.MAF(3, randperm=False, transforms=1), IAF(3, num_flows=1))
    assert both.why_not_exact() is None
    assert both.exact(10).x.shape == (10, 3)

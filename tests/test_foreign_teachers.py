"""Laws of torch and flows of zuko, not written with us in mind, are teachers as they come."""

import math

import pytest
import torch
import zuko
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    Laplace,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
    TransformedDistribution,
)

import wavestill
from wavestill import as_density
from wavestill.models.flows import IAF, PermutedIAF

pytestmark = pytest.mark.usefixtures("one_thread")

LAWS: dict[str, Distribution] = {
    "MultivariateNormal": MultivariateNormal(torch.zeros(2), torch.tensor([[1, 0.8], [0.8, 1]])),
    "LowRank": LowRankMultivariateNormal(torch.zeros(2), torch.ones(2, 1), torch.ones(2)),
    "mixture": MixtureSameFamily(
        Categorical(torch.ones(3)),
        Independent(Normal(torch.tensor([[-2.0, 0], [2, 0], [0, 2]]), torch.ones(3, 2)), 1),
    ),
    "heavy tails": StudentT(torch.tensor([5.0, 5.0])),
    "steps of a batch": Laplace(torch.zeros(2), torch.ones(2)),
    "transformed": TransformedDistribution(
        Independent(Normal(torch.zeros(2), torch.ones(2)), 1),
        [torch.distributions.SigmoidTransform(), torch.distributions.SigmoidTransform().inv],
    ),
    "zuko's mixture": zuko.flows.GMM(2, components=3)(),
}
FLOWS = {
    "GMM": lambda c: zuko.flows.GMM(2, c, components=3),
    "NICE": lambda c: zuko.flows.NICE(2, c),
    "MAF": lambda c: zuko.flows.MAF(2, c),
    "NSF": lambda c: zuko.flows.NSF(2, c),
    "SOSPF": lambda c: zuko.flows.SOSPF(2, c),
    "BPF": lambda c: zuko.flows.BPF(2, c),
    "NAF": lambda c: zuko.flows.NAF(2, c),
    "UNAF": lambda c: zuko.flows.UNAF(2, c),
    "GF": lambda c: zuko.flows.GF(2, c),
    "CNF": lambda c: zuko.flows.CNF(2, c),
}


def check_gradient(teacher: object, context: Tensor | None = None) -> None:
    """A student learns by the teacher's gradient in x."""
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    log_prob = as_density(teacher).log_prob(x, context)
    assert log_prob.shape == (4,)
    (gradient,) = torch.autograd.grad(log_prob.sum(), x)
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize("name", LAWS)
def test_laws_of_torch_are_distilled(name: str) -> None:
    check_gradient(LAWS[name])
    student, history = wavestill.distill(
        LAWS[name], IAF(2, num_flows=1), max_steps=2, batch_size=8, validation_clips=64
    )
    assert student.sample(3).shape == (3, 2)
    assert math.isfinite(history.last("valid_kl_nats"))


@pytest.mark.parametrize("name", FLOWS)
def test_flows_of_zuko_are_distilled(name: str) -> None:
    torch.manual_seed(0)
    flow = FLOWS[name](0)
    check_gradient(flow)
    assert as_density(flow).sample(5).shape == (5, 2)
    before = [weight.clone() for weight in flow.parameters()]
    student = PermutedIAF(2, num_flows=1, hidden=(8,))
    _, history = wavestill.distill(
        flow, student, max_steps=1, batch_size=4, validation_clips=8, calibrate=False
    )
    assert math.isfinite(history.last("valid_kl_nats"))
    assert all(map(torch.equal, before, flow.parameters()))


@pytest.mark.parametrize("name", FLOWS)
def test_flows_of_zuko_take_contexts_row_by_row(name: str) -> None:
    torch.manual_seed(0)
    flow = FLOWS[name](3)
    context = torch.randn(4, 3)
    check_gradient(flow, context)
    density = as_density(flow)
    assert density.sample(4, context).shape == (4, 2)
    assert density.sample(2, context[0]).shape == (2, 2)
    with pytest.raises(ValueError, match="5 samples to draw but 4 contexts"):
        density.sample(5, context)


def test_a_flow_of_zuko_is_fitted_in_place() -> None:
    torch.manual_seed(0)
    flow, x = FLOWS["MAF"](0), 0.3 * torch.randn(500, 2) + 2.0
    before = -float(flow().log_prob(x).mean().detach())
    fitted, history = wavestill.fit(flow, x, max_steps=60, learning_rate=1e-2, averaging=0.9)
    assert fitted is flow
    assert not flow.training
    assert history.last("valid_nats") < 0.5 * before / 2
    assert -float(flow().log_prob(x).mean().detach()) < 0.5 * before


def test_a_conditional_flow_is_distilled_from_contexts_alone() -> None:
    torch.manual_seed(0)
    student = IAF(2, 3, num_flows=1, hidden=(8,))
    context = torch.randn(100, 3)
    _, history = wavestill.distill(FLOWS["MAF"](3), student, (None, context), max_steps=3)
    assert math.isfinite(history.last("kl_nats"))
    assert math.isfinite(history.last("forward_kl"))


class Funnel:
    """A law of somebody who knows nothing of contexts."""

    def log_prob(self, x: Tensor) -> Tensor:
        scale = torch.exp(0.5 * x[:, 0])
        return Normal(0.0, 1.0).log_prob(x[:, 0]) + Normal(0.0, scale).log_prob(x[:, 1])

    def sample(self, num: int) -> Tensor:
        first = torch.randn(num, 1)
        return torch.cat([first, torch.exp(0.5 * first) * torch.randn(num, 1)], 1)


def test_a_teacher_in_ten_lines_is_learnt() -> None:
    torch.manual_seed(0)
    student, history = wavestill.distill(
        Funnel(), IAF(2, num_flows=1, hidden=(16,)), max_steps=150, learning_rate=0.02
    )
    assert isinstance(student, nn.Module)
    assert 2 * history.last("valid_kl_nats") < 0.03

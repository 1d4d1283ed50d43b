"""`as_density`: foreign objects as teachers, or a refusal that says why."""

import pytest
import torch
from torch import nn
from torch.distributions import (
    Categorical,
    Exponential,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)

from wavestill import Density, as_density
from wavestill.distillation import FrozenTeacher


def test_torch_distributions_become_densities():
    density = as_density(MultivariateNormal(torch.zeros(3), torch.eye(3)))
    assert isinstance(density, Density)
    x = density.sample(5)
    assert x.shape == (5, 3)
    assert density.log_prob(x).shape == (5,)


def test_batch_dimensions_are_steps_of_one_event():
    law = Normal(torch.zeros(4), torch.ones(4))
    x = torch.randn(6, 4)
    expected = Independent(law, 1).log_prob(x)
    torch.testing.assert_close(as_density(law).log_prob(x), expected)
    torch.testing.assert_close(as_density(Independent(law, 1)).log_prob(x), expected)


class ConditionalLaw(nn.Module):
    """What zuko's flows look like: called with a context, they return a distribution."""

    def forward(self, context=None):
        loc = torch.zeros(2) if context is None else context
        return Independent(Normal(loc, torch.ones(2)), 1)


def test_modules_that_return_distributions_become_conditional_densities():
    density = as_density(ConditionalLaw())
    context = torch.tensor([5.0, -5.0])
    assert density.sample(1000, context).mean(0).sub(context).abs().max() < 0.2
    x = torch.randn(3, 2)
    assert not torch.allclose(density.log_prob(x), density.log_prob(x, context))


def test_a_mixture_of_normals_fills_the_real_line():
    law = MixtureSameFamily(Categorical(torch.ones(2)), Normal(torch.zeros(2), torch.ones(2)))
    x = torch.randn(3, 1)
    torch.testing.assert_close(as_density(law).log_prob(x), Normal(0.0, 1.0).log_prob(x[:, 0]))


class DroppingLaw(nn.Module):
    """A flow with a parameter and dropout: what a teacher must not use."""

    def __init__(self):
        super().__init__()
        self.loc, self.drop = nn.Parameter(torch.ones(50)), nn.Dropout(0.5)

    def forward(self):
        return Independent(Normal(self.drop(self.loc), 1.0), 1)


def test_a_flow_as_teacher_is_frozen_in_eval_mode_and_its_original_free():
    flow = DroppingLaw()
    teacher = FrozenTeacher(as_density(flow))
    x = torch.randn(2, 50, requires_grad=True)
    value = teacher.density.log_prob(x)
    assert torch.equal(value, teacher.density.log_prob(x))  # no dropout
    value.sum().backward()
    assert flow.loc.grad is None
    assert not any(p.requires_grad for p in teacher.parameters())
    assert len(list(teacher.parameters())) == 1  # they move to a device with it
    assert flow.training
    assert flow.loc.requires_grad


@pytest.mark.parametrize(
    "law",
    [
        Exponential(torch.ones(2)),
        Independent(Exponential(torch.ones(2)), 1),
        torch.distributions.Bernoulli(0.5),
    ],
)
def test_bounded_supports_are_refused_with_the_remedy(law):
    with pytest.raises(ValueError, match=r"not the real line.*bijection"):
        as_density(law).log_prob(torch.ones(1, 2))


def test_a_bijection_to_the_real_line_is_the_remedy():
    law = TransformedDistribution(
        Exponential(torch.ones(2)), [torch.distributions.ExpTransform().inv]
    )
    density = as_density(law)
    assert torch.isfinite(density.log_prob(density.sample(4))).all()


def test_what_follows_the_protocol_is_taken_as_it_is():
    class Mine:
        def log_prob(self, x, context=None):
            return x.sum(-1)

        def sample(self, num, context=None):
            return torch.zeros(num, 2)

    mine = Mine()
    assert as_density(mine) is mine


def test_anything_else_is_no_density():
    with pytest.raises(TypeError, match="'int' is no density"):
        as_density(3)

"""Pools of teachers: the mixture of their laws, whatever the head, and a density like any."""

import pytest
import torch

from tests.models.table import TEACHERS
from wavestill.distributions import Discretized, Logistic, MuLaw, Normal, pooled
from wavestill.models import MAF, MixturePool
from wavestill.sampling import cached, standard_noise

HEADS = ["logistics16", "logistics", "gaussian", "mulaw", "predictor", "mel"]
WEIGHTS = [0.25, 0.75]


def pool_of(head):
    """Two teachers of one table line with different weights, and a context."""
    case = TEACHERS[head]
    first, second = case.model(), case.model()
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.mul_(0.5)
    return MixturePool([first, second], WEIGHTS).eval(), case.context(2, 5)


def sound(batch=2, length=40):
    return 0.3 * torch.randn(batch, length, dtype=torch.float64).clamp(-3, 3)


@pytest.mark.parametrize("head", HEADS)
def test_probabilities_of_every_step_are_mixed(head):
    pool, context = pool_of(head)
    x = sound()
    if head == "logistics16":
        x = (x * 2**15).round() / 2**15
    ours = pool.conditionals(x, context).log_prob(x)
    each = [teacher.conditionals(x, context).log_prob(x) for teacher in pool.teachers]
    expected = (WEIGHTS[0] * each[0].exp() + WEIGHTS[1] * each[1].exp()).log()
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("head", HEADS)
def test_advance_is_conditionals_cut_anywhere_and_rewound(head):
    pool, context = pool_of(head)
    x = sound()
    whole = pool.conditionals(x, context).log_prob(x)
    law, state = pool.advance(x[:, :7], context)
    parts = [law.log_prob(x[:, :8])]
    law, state = pool.advance(x[:, 7:20], None, state)
    state.rewind(10)
    law, state = pool.advance(x[:, 10:39], None, state)
    parts += [whole[:, 8:11], law.log_prob(x[:, 11:])]
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    state.rewind(1)
    state.select(torch.tensor([1]))
    law, _ = pool.advance(x[1:, 38:39], None, state)
    torch.testing.assert_close(law.log_prob(x[1:, 39:]), whole[1:, 39:])


def test_a_pool_of_one_teacher_is_that_teacher():
    teacher = TEACHERS["gaussian"].model()
    pool = MixturePool([teacher])
    noise = standard_noise("normal", (2, 30), dtype=torch.float64)
    torch.testing.assert_close(cached(pool, noise), cached(teacher, noise))
    first, second = (
        model.sample(2, length=30, generator=torch.Generator().manual_seed(0))
        for model in (pool, teacher)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=1e-12)


def test_gradients_reach_the_sound_through_a_pool():
    pool, _ = pool_of("gaussian")
    x = sound(1, 10).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: pool.log_prob(value), (x,))


def test_pools_refuse_what_does_not_mix():
    zero = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"different shapes \(Logistic, Normal\)"):
        pooled([Normal(zero, zero), Logistic(zero, zero)], [0.5, 0.5])
    grids = [Discretized(Logistic(zero, zero), width, -1.0, 1.0 - width) for width in (0.5, 0.25)]
    with pytest.raises(ValueError, match="2 different grids"):
        pooled(grids, [0.5, 0.5])
    with pytest.raises(ValueError, match="a MuLaw cannot be pooled"):
        pooled([MuLaw(torch.zeros(2, 3, 256)), Normal(zero, zero)], [0.5, 0.5])
    teachers = [TEACHERS[name].model() for name in ("gaussian", "logistics")]
    with pytest.raises(ValueError, match="base noises are logistic, normal"):
        MixturePool(teachers)
    with pytest.raises(ValueError, match="give one weight above 0 to each"):
        MixturePool(teachers[:1], [0.0])
    with pytest.raises(ValueError, match="a Linear does not tell"):
        MixturePool([torch.nn.Linear(1, 1)])


def test_pools_of_vectors_know_their_length():
    pool = MixturePool([MAF(3, hidden=(4,)), MAF(3, hidden=(4,))])
    assert pool.sample(5).shape == (5, 3)

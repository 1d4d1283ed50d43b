"""Balances: each moves its weights the way it says, and its state is kept."""

import math

import pytest
import torch
from torch import nn

from tests.distillation.cases import WhiteNoise, trial_of
from wavestill.distillation import (
    FixedWeights,
    GradientBalance,
    LoudnessBalance,
    Objective,
    ObjectiveConfig,
    ScheduledWeights,
    StepDivergence,
    TargetBalance,
    UncertaintyBalance,
)
from wavestill.divergences import KL, ForwardKL

WEIGHTS = {"kl": 1.0, "power": 2.0}
TERMS = {"kl": torch.tensor(0.5), "power": torch.tensor(3.0)}


def trial_at(level=None):
    """A draw at so many times the level of its recording."""
    reference = torch.randn(2, 100, generator=torch.Generator().manual_seed(0))
    draw = reference if level is None else level * reference
    return trial_of(draw, None if level is None else reference)


def weight_of(balance, name, trial=None, terms=TERMS):
    return float(balance(terms, trial or trial_at()).weights[name])


BALANCES = {
    "fixed": FixedWeights,
    "loudness": LoudnessBalance,
    "scheduled": lambda weights: ScheduledWeights(weights, {"power": [(0, 0.5), (10, 1.0)]}),
    "target": lambda weights: TargetBalance(weights, 0.1),
    "uncertainty": UncertaintyBalance,
}


@pytest.mark.parametrize("name", BALANCES)
def test_total_is_the_sum_under_the_weights_it_states(name):
    total, weights = BALANCES[name](WEIGHTS)(TERMS, trial_at(0.9))
    expected = sum(weights[key] * TERMS[key] for key in TERMS)
    torch.testing.assert_close(total.detach(), expected)


@pytest.mark.parametrize("name", ["loudness", "scheduled", "target"])
def test_a_resumed_balance_goes_on_where_it_was(name):
    first, resumed = BALANCES[name](WEIGHTS), BALANCES[name](WEIGHTS)
    for _ in range(3):
        first(TERMS, trial_at(0.8))
    resumed.load_state_dict(first.state_dict())
    again = [balance(TERMS, trial_at(0.8)).weights for balance in (first, resumed)]
    assert again[0] == again[1] != BALANCES[name](WEIGHTS)(TERMS, trial_at(0.8)).weights


def test_loudness_pushes_while_the_student_is_quiet_and_yields_when_it_is_loud():
    balance = LoudnessBalance({"kl": 1.0, "magnitude": 3.0, "power": 2.0}, rate=0.1)
    terms = TERMS | {"magnitude": torch.tensor(1.0)}
    assert balance(terms, trial_at()).weights == {"kl": 1.0, "magnitude": 3.0, "power": 2.0}
    quiet = [weight_of(balance, "power", trial_at(0.8), terms) for _ in range(5)]
    assert quiet == sorted(quiet)
    assert quiet[-1] == pytest.approx(2 * math.exp(-5 * 0.1 * math.log(0.8)))
    loud = [weight_of(balance, "power", trial_at(2.0), terms) for _ in range(5)]
    assert loud == sorted(loud, reverse=True)
    last = balance(terms, trial_at(0.5)).weights
    assert (last["kl"], last["magnitude"]) == (1.0, 3.0)


def test_loudness_does_not_run_away_from_silence():
    balance = LoudnessBalance({"kl": 1.0, "power": 1.0}, rate=0.1)
    assert weight_of(balance, "power", trial_at(0.0)) < 1.05
    for _ in range(300):
        last = weight_of(balance, "power", trial_at(0.0))
    assert last == pytest.approx(20.0, rel=1e-5)


def test_schedules_are_lines_between_their_points():
    schedule = [(2, 0.0), (6, 1.0), (8, 0.5)]
    balance = ScheduledWeights(WEIGHTS, {"power": schedule})
    weights = [weight_of(balance, "power") for _ in range(11)]
    expected = [0, 0, 0, 0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.5, 0.5]
    assert weights == pytest.approx([2 * factor for factor in expected])
    assert weight_of(balance, "kl") == 1.0


@pytest.mark.parametrize(
    ("schedules", "message"),
    [
        ({"tv": [(0, 1.0)]}, r"schedule for 'tv' but the terms are \['kl', 'power'\]"),
        ({"kl": []}, "give one or more"),
        ({"kl": [(5, 1.0), (5, 2.0)]}, r"steps \[5, 5\]"),
    ],
)
def test_bad_schedules_are_refused(schedules, message):
    with pytest.raises(ValueError, match=message):
        ScheduledWeights(WEIGHTS, schedules)


def test_the_target_is_met_where_two_terms_pull_apart():
    """Descend w KL(x) + (x - 3)^2 with KL = x^2 / 2: the controller stops where KL is 0.02."""
    x = nn.Parameter(torch.tensor(2.0))
    balance = TargetBalance({"kl": 1.0, "other": 1.0}, 0.02, rate=0.05)
    optimizer = torch.optim.SGD([x], lr=0.01)
    for _ in range(4000):
        terms = {"kl": 0.5 * x.square(), "other": (x - 3).square()}
        optimizer.zero_grad()
        balance(terms, trial_at()).total.backward()
        optimizer.step()
    assert float(0.5 * x.detach().square()) == pytest.approx(0.02, rel=0.05)


def test_a_target_says_what_it_needs():
    with pytest.raises(ValueError, match=r"is 0.0; give one above 0"):
        TargetBalance(WEIGHTS, 0.0)
    with pytest.raises(ValueError, match=r"is to be held at 0.1 but the terms are"):
        TargetBalance(WEIGHTS, 0.1, "tv")
    with pytest.raises(ValueError, match="give 'target_nats'"):
        ObjectiveConfig(balance="target").build(WhiteNoise(0.0, 1.0), WhiteNoise(0.0, 1.0))
    with pytest.raises(ValueError, match="set it to 'scheduled'"):
        ObjectiveConfig(schedules={"kl": ((0, 1.0),)}).build(
            WhiteNoise(0.0, 1.0), WhiteNoise(0.0, 1.0)
        )


def test_gradient_norms_come_to_stand_in_the_weights_proportions():
    torch.manual_seed(0)
    student = WhiteNoise(0.7, 0.5)
    terms = {
        "kl": StepDivergence(KL()),
        "far": lambda trial: 1000 * trial.draw.x.square().mean(),
    }
    balance = GradientBalance({"kl": 1.0, "far": 3.0}, every=1, averaging=0.0)
    objective = Objective(WhiteNoise(0.0, 1.0), student, terms, balance=balance)
    generator = torch.Generator()
    weights = objective.balance(*terms_of(objective, generator.manual_seed(1))).weights
    norms = {}
    for name in terms:
        values, _ = terms_of(objective, generator.manual_seed(1))
        gradients = torch.autograd.grad(weights[name] * values[name], student.parameters())
        norms[name] = float(torch.stack(gradients).norm())
    assert norms["far"] / norms["kl"] == pytest.approx(3.0, rel=1e-4)


def terms_of(objective, generator):
    trial = objective.attempt(None, shape=(20, 50), generator=generator)
    return {name: term(trial) for name, term in objective.terms.items()}, trial


def test_uncertainty_learns_the_inverse_of_each_value():
    balance = UncertaintyBalance({"kl": 1.0, "power": 2.0})
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        balance(TERMS, trial_at()).total.backward()
        optimizer.step()
    weights = balance(TERMS, trial_at()).weights
    assert float(weights["kl"]) == pytest.approx(1 / 0.5, rel=1e-3)
    assert float(weights["power"]) == pytest.approx(1 / 3.0, rel=1e-3)


def test_what_a_balance_learns_is_trained_with_the_student():
    terms = {"kl": StepDivergence(KL()), "forward_kl": StepDivergence(ForwardKL())}
    balance = UncertaintyBalance(dict.fromkeys(terms, 1.0))
    objective = Objective(WhiteNoise(0.0, 1.0), WhiteNoise(0.5, 0.5), terms, balance=balance)
    assert objective.learned() == [balance.log_noise]
    objective(None, shape=(2, 50)).total.backward()
    assert balance.log_noise.grad is not None

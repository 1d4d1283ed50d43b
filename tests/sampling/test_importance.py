"""Importance weights: tails are told apart, good ones average to the truth, bad ones refuse."""

import math

import pytest
import torch

from wavestill.sampling.importance import (
    ImportanceError,
    fit_generalised_pareto,
    k_hat_max,
    pareto_smoothed,
    weighted,
)


def uniform(num: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(num, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("k", [-0.3, 0.0, 0.2, 0.5, 0.9, 1.5])
def test_the_shape_of_a_known_tail_is_found(k: float) -> None:
    log_survival = uniform(5000).log()
    excess = -log_survival if k == 0 else torch.expm1(-k * log_survival) / k
    found, scale = fit_generalised_pareto(excess.sort().values)
    assert found == pytest.approx(k, abs=0.06)
    assert scale == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("k", [0.1, 0.5, 1.0])
def test_k_hat_is_the_shape_of_the_weights(k: float) -> None:
    """Pareto weights u^-k: k-hat finds k over seeds."""
    found = [pareto_smoothed(-k * uniform(20_000, seed).log())[1] for seed in range(8)]
    assert sum(found) / len(found) == pytest.approx(k, abs=0.08)


def test_k_hat_of_normals_of_two_widths_is_theory() -> None:
    """From N(0, s) to N(0, 1) the weights' tail has shape 1 - s^2 for s < 1."""
    for std, expected in ((0.6, 1 - 0.36), (1.3, None)):
        z = torch.randn(100_000, generator=torch.Generator().manual_seed(1)).double()
        x = std * z
        log_weights = -0.5 * x.square() + 0.5 * z.square() + math.log(std)
        _, k_hat = pareto_smoothed(log_weights)
        if expected is None:
            assert k_hat < 0.1, "bounded weights"
        else:
            assert k_hat == pytest.approx(expected, abs=0.2)


def test_expectations_agree_with_the_truth_within_their_standard_errors() -> None:
    """Draws of N(0, 1.2) stand for N(0.3, 1): 200 repetitions, errors of unit variance."""
    errors = []
    for seed in range(200):
        x = 1.2 * torch.randn(2000, generator=torch.Generator().manual_seed(seed)).double()
        log_weights = -0.5 * (x - 0.3).square() + 0.5 * (x / 1.2).square()
        found = weighted(x, log_weights).expectation(lambda x: torch.stack([x, x.square()], 1))
        errors.append((found.value - torch.tensor([0.3, 1.09])) / found.standard_error)
    z = torch.stack(errors)
    assert bool((z.mean(0).abs() < 4 / 200**0.5).all())
    torch.testing.assert_close(z.std(0), torch.ones(2).double(), atol=0.15, rtol=0)


def test_weights_that_are_equal_are_worth_all_their_draws() -> None:
    draws = weighted(torch.zeros(500), torch.full((500,), 3.0))
    assert draws.effective_sample_size == pytest.approx(500)
    assert draws.is_trustworthy


def test_smoothing_keeps_the_sum_and_the_largest_weight() -> None:
    log_weights = -0.8 * uniform(2000).log()
    smoothed, _ = pareto_smoothed(log_weights)
    assert float(smoothed.exp().sum()) == pytest.approx(1.0)
    raw = log_weights.log_softmax(0)
    assert smoothed.exp().square().sum() <= raw.exp().square().sum() * 1.05
    body = log_weights.argsort()[:1500]
    torch.testing.assert_close((smoothed - raw)[body].diff(), torch.zeros(1499).double())


@pytest.mark.parametrize("spoiled", ["heavy", "nan", "infinite"])
def test_tails_beyond_belief_refuse_to_average(spoiled: str) -> None:
    log_weights = -1.2 * uniform(5000).log()
    if spoiled != "heavy":
        log_weights = torch.zeros(5000).double()
        log_weights[7] = math.nan if spoiled == "nan" else math.inf
    draws = weighted(torch.zeros(5000), log_weights)
    assert not draws.is_trustworthy
    with pytest.raises(ImportanceError, match=r"k-hat of 5000 weights .*; train it further"):
        draws.expectation(lambda x: x)


def test_fewer_weights_need_a_lighter_tail() -> None:
    assert k_hat_max(100) == pytest.approx(0.5)
    assert k_hat_max(10**6) == 0.7


def test_rare_events_and_truth_values_are_averaged():
    """One in a hundred under equal laws: the weights' own tail decides, and the error holds."""
    x = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = weighted(x, 1e-3 * x.square().sum(1))
    estimate = draws.expectation(lambda x: x[:, 0] > 2.326)
    assert abs(float(estimate.value) - 0.01) < 4 * float(estimate.standard_error)
    counted = draws.expectation(lambda x: (x > 0).long())
    assert (abs(counted.value - 0.5) < 4 * counted.standard_error).all()
    tail = draws.expectation(
        lambda x: x[:, 0] * (x[:, 0] > 2.326)
    )  # zero but for one in a hundred
    density = 0.3989422804 * math.exp(-(2.326**2) / 2)
    assert abs(float(tail.value) - density) < 4 * float(tail.standard_error)


@pytest.mark.parametrize("function", [torch.mean, lambda x: x[:10]])
def test_functions_that_give_no_value_for_each_draw_are_refused(function):
    draws = weighted(torch.randn(100, 2), torch.zeros(100))
    with pytest.raises(ValueError, match="for 100 draws; give one value, or a row of values"):
        draws.expectation(function)

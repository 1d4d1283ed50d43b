"""The law of a bit, against its own definition."""

import math

import pytest
import torch

from wavestill.distributions.bernoulli import Bernoulli

LOGITS = torch.tensor([-800.0, -30.0, -1.0, 0.0, 0.7, 30.0, 800.0], dtype=torch.float64)


def law(scale=1.0, shift=0.0):
    return Bernoulli(LOGITS.clone().requires_grad_()).affine(scale, shift)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (2.0, -1.0)])
def test_masses_sum_to_1_and_agree_with_the_distribution_function(scale, shift):
    bit, low, high = law(scale, shift), torch.tensor(shift), torch.tensor(scale + shift)
    p0, p1 = bit.log_prob(low).exp(), bit.log_prob(high).exp()
    torch.testing.assert_close(p0 + p1, torch.ones_like(p0))
    torch.testing.assert_close(p1, torch.sigmoid(LOGITS))
    torch.testing.assert_close(bit.log_cdf(low), bit.log_prob(low))
    torch.testing.assert_close(bit.log_survival(low), bit.log_prob(high))
    assert bool((bit.log_cdf(high) == 0).all())
    assert bool((bit.log_survival(high) == -math.inf).all())
    assert bool((bit.log_cdf(low - 1) == -math.inf).all())
    assert bool((bit.log_survival(low - 1) == 0).all())
    assert bool((bit.log_prob(0.5 * (low + high)) == -math.inf).all())
    torch.testing.assert_close(bit.mean, p0 * low + p1 * high)
    torch.testing.assert_close(bit.variance, p0 * p1 * scale**2)
    torch.testing.assert_close(bit.expectation(lambda x: x), bit.mean)
    torch.testing.assert_close(
        bit.expectation(lambda x: -bit.log_prob(x))[1:-1], bit.entropy()[1:-1]
    )


def test_both_tails_keep_their_digits_and_gradients():
    bit = law()
    for x in (0.0, 1.0):
        log_prob = bit.log_prob(torch.tensor(x))
        assert bool(torch.isfinite(log_prob).all())
        (gradient,) = torch.autograd.grad(log_prob.sum(), bit.logits, retain_graph=True)
        torch.testing.assert_close(gradient, x - torch.sigmoid(LOGITS))
    assert float(law().detach().log_prob(torch.tensor(1.0))[0]) == -800


def test_noise_becomes_the_least_value_that_reaches_its_quantile():
    bit = Bernoulli(torch.tensor([-1.0, 0.0, 0.7], dtype=torch.float64))
    u = torch.linspace(0.001, 0.999, 999, dtype=torch.float64).unsqueeze(1)
    x = bit.icdf(u)
    assert bool((bit.cdf(x) >= u - 1e-12).all())
    assert bool(((x == 0) | (bit.cdf(x - 1) < u + 1e-12)).all())
    assert bool((x.diff(dim=0) >= 0).all())
    draws = bit.sample((20_000,), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws.mean(0), bit.mean, rtol=0, atol=4 * 0.5 / 20_000**0.5)


def test_what_a_discrete_law_has_not():
    with pytest.raises(ValueError, match="no noise for a sample"):
        law().to_noise(torch.tensor(1.0))
    with pytest.raises(ValueError, match="no continuous density"):
        _ = law().density
    assert law().is_discrete
    assert law()[1:3].batch_shape == (2,)
    assert not law().detach().logits.requires_grad
    assert law().floored(-9.0).batch_shape == (7,)

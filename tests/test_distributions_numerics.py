"""Laws to the last digit: masses against mpmath, base noise, the inverse of mixtures."""

import math

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from wavestill.distributions import (
    LocationScale,
    Logistic,
    Mixture,
    Normal,
    log1mexp,
    noise_quadrature,
    standard_noise,
)
from wavestill.distributions.stable import log_ndtr

KINDS: dict[str, type[LocationScale]] = {"logistic": Logistic, "normal": Normal}
SCIPY = {"logistic": scipy.stats.logistic, "normal": scipy.stats.norm}

each_kind = pytest.mark.parametrize("kind", KINDS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# --- high precision ------------------------------------------------------------------------------

mpmath.mp.dps = 60


def exact_log_mass(kind: str, c: mpmath.mpf, h: mpmath.mpf) -> mpmath.mpf:
    """Return log P(c - h < Z < c + h) from tails, near 0 from those outside."""

    def survival(z: mpmath.mpf) -> mpmath.mpf:
        if kind == "logistic":
            return 1 / (1 + mpmath.exp(z))
        return mpmath.erfc(z / mpmath.sqrt(2)) / 2

    outside = survival(h - abs(c)) + survival(h + abs(c))
    if outside < 0.5:
        return mpmath.log1p(-outside)
    return mpmath.log(survival(abs(c) - h) - survival(abs(c) + h))


@each_kind
@pytest.mark.parametrize("log2_width", range(-16, -7))
def test_log_mass_is_exact_against_high_precision(kind, log2_width):
    """Relative accuracy 1e-11 for |x - mu| / s to 1e4, bins far wider to far narrower than s."""
    width = 2.0**log2_width
    for s in (1e-5, 1e-3, 0.02, 0.5, 10.0):
        log_scale = torch.tensor([math.log(s)], dtype=torch.float64)
        law = KINDS[kind](torch.zeros_like(log_scale), log_scale)
        scale = mpmath.exp(mpmath.mpf(log_scale.item()))
        for distance in (0.0, 0.3, -1.0, 5.0, -30.0, 700.0, 1e4, -1e4):
            x = distance * s
            exact = float(
                exact_log_mass(kind, mpmath.mpf(x) / scale, mpmath.mpf(width) / 2 / scale)
            )
            ours = law.log_mass(torch.tensor([x], dtype=torch.float64), width / 2).item()
            assert ours == pytest.approx(exact, rel=1e-11, abs=1e-300), (s, distance)


@each_kind
def test_log_mass_in_float32(kind):
    """Single precision, where a difference of two cdfs has no digit left, to 2e-6 and rounding."""
    h = 2.0**-17
    c = torch.linspace(-50, 50, 2001)
    law = KINDS[kind](torch.zeros(1), torch.zeros(1))
    wide = KINDS[kind](torch.zeros(1).double(), torch.zeros(1).double())
    torch.testing.assert_close(
        law.log_mass(c, h).double(), wide.log_mass(c.double(), h), rtol=3e-7, atol=2e-6
    )


@each_kind
@each_dtype
def test_gradient_of_the_narrowest_bin_at_the_mode(kind, dtype):
    """Where the difference of the cdfs rounds to 0, and log 0 would put NaN into the gradient."""
    loc, log_scale = (torch.zeros(1, dtype=dtype, requires_grad=True) for _ in range(2))
    log_mass = KINDS[kind](loc, log_scale).log_mass(torch.zeros(1, dtype=dtype), 2.0**-60)
    log_density = {"logistic": -math.log(4), "normal": -0.5 * math.log(2 * math.pi)}[kind]
    assert log_mass.item() == pytest.approx(log_density - 59 * math.log(2), rel=1e-6)
    gradients = torch.autograd.grad(log_mass.sum(), (loc, log_scale))
    torch.testing.assert_close(torch.cat(gradients), torch.tensor([0, -1], dtype=dtype))


def test_log1mexp_and_log_ndtr_against_high_precision():
    x = torch.logspace(-12, 2, 57, dtype=torch.float64)
    expected = [float(mpmath.log(-mpmath.expm1(-mpmath.mpf(value)))) for value in x.tolist()]
    np.testing.assert_allclose(log1mexp(x), expected, rtol=1e-14)
    z = torch.linspace(-40, 8, 97, dtype=torch.float64, requires_grad=True)
    log_cdf = [
        mpmath.log(mpmath.erfc(-mpmath.mpf(value) / mpmath.sqrt(2)) / 2) for value in z.tolist()
    ]
    np.testing.assert_allclose(
        log_ndtr(z).detach(), [float(value) for value in log_cdf], rtol=1e-12
    )


@each_dtype
def test_log_ndtr_has_the_gradient_of_the_lower_tail(dtype):
    z = -torch.logspace(1.5, 8, 30, dtype=dtype)
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(log_ndtr(z).sum(), z)
    torch.testing.assert_close(gradient, -z.detach() - 1 / z.detach(), rtol=1e-5, atol=0)


# --- the noise -----------------------------------------------------------------------------------


@each_kind
def test_standard_noise_has_the_base_law(kind):
    z = standard_noise(kind, (20_000,), dtype=torch.float64)
    assert scipy.stats.kstest(z.numpy(), SCIPY[kind].cdf).pvalue > 1e-3


@each_kind
def test_standard_noise_is_the_same_in_every_precision(kind):
    single, double = (
        standard_noise(kind, (9,), generator=torch.Generator().manual_seed(1), dtype=dtype)
        for dtype in (torch.float32, torch.float64)
    )
    assert torch.equal(single, double.float())


@each_kind
def test_quadrature_gives_the_moments(kind):
    z, weights = noise_quadrature(kind, 65, dtype=torch.float64)
    for power in (0, 1, 2, 4):
        moment = SCIPY[kind].moment(power) if power else 1.0
        assert (weights * z**power).sum().item() == pytest.approx(moment, rel=1e-8, abs=1e-12)


# --- mixtures: the inverse -----------------------------------------------------------------------


def hard_mixture(case: str, kind: type[LocationScale], dtype: torch.dtype) -> Mixture:
    logits, loc, log_scale = (torch.randn(2000, 10, dtype=dtype) for _ in range(3))
    if case == "apart":
        return Mixture(logits, kind(10 * loc, log_scale - 4))
    if case == "nested":
        return Mixture(logits, kind(torch.zeros_like(loc), log_scale.sort().values * 3))
    if case == "one heavy":
        return Mixture(logits * 30, kind(loc, log_scale))
    return Mixture(1.5 * logits, kind(0.2 * loc, 0.7 * log_scale - 2.5))


@each_kind
@each_dtype
@pytest.mark.parametrize("case", ["speech", "apart", "nested", "one heavy"])
def test_mixture_inverse_is_exact_on_hard_mixtures(kind, dtype, case):
    law = hard_mixture(case, KINDS[kind], dtype)
    z = standard_noise(kind, (2000,), dtype=dtype)
    x = law.from_noise(z)
    # x is right to its own rounding, which the density turns into log-odds.
    eps = torch.finfo(dtype).eps
    narrowest = law.components.scale.amin(-1)
    largest = law.components.loc.abs().amax(-1) + law.components.scale.amax(-1) * z.abs()
    below, above = (
        x + sign * (16 * eps * largest + 1e-3 * eps**0.5 * narrowest) for sign in (-1, 1)
    )
    slack = 64 * eps * (1 + z.abs()) * (1 + z.abs())
    base = KINDS[kind](torch.zeros(1, dtype=dtype), torch.zeros(1, dtype=dtype))
    target = base.log_cdf(z) - base.log_survival(z)
    assert (law.log_cdf(below) - law.log_survival(below) <= target + slack).all()
    assert (law.log_cdf(above) - law.log_survival(above) >= target - slack).all()


def test_mixture_of_equal_components_is_its_component():
    loc, log_scale = draw(5, 1), draw(5, 1)
    single = Logistic(loc[:, 0], log_scale[:, 0])
    pooled = Mixture(draw(5, 3), Logistic(loc.expand(5, 3), log_scale.expand(5, 3)))
    z = 10 * draw(40, 5)
    torch.testing.assert_close(pooled.from_noise(z), single.from_noise(z), rtol=1e-12, atol=1e-12)
    x = single.from_noise(z)
    torch.testing.assert_close(pooled.log_prob(x), single.log_prob(x), rtol=1e-12, atol=1e-12)


@each_kind
def test_mixture_inverse_has_the_implicit_gradient(kind):
    law = Mixture(draw(3, 2), KINDS[kind](draw(3, 2), draw(3, 2)))
    arguments = [
        part.requires_grad_()
        for part in (draw(3), law.logits, law.components.loc, law.components.log_scale)
    ]

    def value(z: Tensor, logits: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        return Mixture(logits, KINDS[kind](loc, log_scale)).from_noise(z)

    assert torch.autograd.gradcheck(value, arguments)

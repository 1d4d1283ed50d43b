"""Divergences: zero on the diagonal, positive off it, equal to dense quadrature, right gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from wavestill.distributions import (
    Discretized,
    Distribution,
    LocationScale,
    Logistic,
    Mixture,
    MuLaw,
    Normal,
    standard_noise,
)
from wavestill.divergences import (
    KL,
    Divergence,
    TotalVariation,
    best_location_scale,
    stratified_noise,
)

SHAPE = (2, 5)


def draw(*shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64)


def location_scale(kind: type[LocationScale]) -> LocationScale:
    return kind(draw(*SHAPE, scale=0.3), draw(*SHAPE, scale=0.3))


def mixture(kind: type[LocationScale], num_components: int = 4) -> Mixture:
    shape = (*SHAPE, num_components)
    return Mixture(draw(*shape), kind(draw(*shape, scale=0.7), draw(*shape, scale=0.4) - 0.5))


STUDENTS: dict[str, Callable[[], Distribution]] = {
    "logistic": lambda: location_scale(Logistic),
    "normal": lambda: location_scale(Normal),
    "mixture of logistics": lambda: mixture(Logistic),
}
TEACHERS: dict[str, Callable[[], Distribution]] = {
    **STUDENTS,
    "mixture of normals": lambda: mixture(Normal),
    "discretised mixture of logistics": lambda: Discretized(mixture(Logistic), 0.25, -8, 8),
    "discretised normal": lambda: Discretized(location_scale(Normal), 0.25, -8, 8),
}
# The integrand as a function of both log densities, written independently of the package.
DIVERGENCES: dict[str, tuple[type[KL] | type[TotalVariation], Callable[..., Tensor]]] = {
    "KL": (KL, lambda log_q, log_p: log_q.exp() * (log_q - log_p)),
    "total variation": (TotalVariation, lambda log_q, log_p: 0.5 * (log_q.exp() - log_p.exp()).abs()),
}

each_divergence = pytest.mark.parametrize("name", DIVERGENCES)
each_student = pytest.mark.parametrize("student", STUDENTS)
each_teacher = pytest.mark.parametrize("teacher", TEACHERS)


def dense(integrand: Callable[..., Tensor], q: Distribution, p: Distribution) -> Tensor:
    """Integrate over x itself on a grid far finer and wider than either law."""
    x = torch.linspace(-60, 60, 60_001, dtype=torch.float64).view(-1, 1, 1)
    return torch.trapezoid(integrand(q.log_prob(x), p.density.log_prob(x)), x, dim=0)


@each_divergence
@each_student
@each_teacher
def test_agrees_with_dense_quadrature(name, student, teacher):
    kind, integrand = DIVERGENCES[name]
    q, p = STUDENTS[student](), TEACHERS[teacher]()
    estimate = kind(num_points=10_000)(q, p)
    assert estimate.shape == SHAPE
    # The outermost strata, where the log-ratio varies without bound, leave a few 1 / num_points.
    torch.testing.assert_close(estimate, dense(integrand, q, p), rtol=0, atol=5e-4)


@each_divergence
@each_student
def test_is_unbiased_with_few_points(name, student):
    kind, integrand = DIVERGENCES[name]
    q, p = STUDENTS[student](), TEACHERS["mixture of logistics"]()
    draws = torch.stack([kind(num_points=4)(q, p) for _ in range(2000)])
    error = (draws.mean(0) - dense(integrand, q, p)).abs()
    assert (error < 5 * draws.std(0) / 2000**0.5 + 1e-6).all()


@each_divergence
@each_student
def test_is_zero_from_a_law_to_itself(name, student):
    q = STUDENTS[student]()
    torch.testing.assert_close(
        DIVERGENCES[name][0]()(q, q), torch.zeros(SHAPE, dtype=torch.float64), rtol=0, atol=1e-12
    )


@each_divergence
@each_student
@each_teacher
def test_is_not_negative(name, student, teacher):
    # The estimate of a KL is noisy, its mean over draws is not negative.
    q, p = STUDENTS[student](), TEACHERS[teacher]()
    estimates = torch.stack([DIVERGENCES[name][0]()(q, p) for _ in range(50)])
    assert (estimates.mean(0) > -1e-3).all()


def test_kl_of_normals_is_closed_form_and_equals_quadrature():
    q, p = STUDENTS["normal"](), TEACHERS["normal"]()
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(q.loc, q.scale), torch.distributions.Normal(p.loc, p.scale)
    )
    torch.testing.assert_close(KL()(q, p), expected, rtol=1e-12, atol=1e-12)


@each_divergence
@each_teacher
def test_gradient_in_the_student_is_that_of_its_value(name, teacher):
    """Autograd against central differences, the jitter held fixed by the generator's seed."""
    p, estimate = TEACHERS[teacher](), DIVERGENCES[name][0](num_points=8)
    parameters = (draw(*SHAPE, scale=0.3).requires_grad_(), draw(*SHAPE).requires_grad_())

    def value(loc: Tensor, log_scale: Tensor) -> Tensor:
        return estimate(Logistic(loc, log_scale), p, generator=torch.Generator().manual_seed(7))

    assert torch.autograd.gradcheck(value, parameters)


def test_gradient_through_the_quantiles_of_a_mixture_student():
    q, p = mixture(Logistic), TEACHERS["logistic"]()
    parameters = (q.logits, q.components.loc, q.components.log_scale)

    def value(logits: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        law = Mixture(logits, Logistic(loc, log_scale))
        return KL()(law, p, generator=torch.Generator().manual_seed(7))

    assert torch.autograd.gradcheck(value, [part.requires_grad_() for part in parameters])


def test_gradient_reaches_a_teacher_unless_it_is_detached():
    p = TEACHERS["discretised mixture of logistics"]()
    p.continuous.logits.requires_grad_()
    q = STUDENTS["logistic"]()
    assert KL()(q, p).requires_grad
    assert not KL()(q, p.detach()).requires_grad


@each_divergence
def test_floors_both_laws(name):
    narrow = Logistic(torch.zeros(3), torch.full((3,), -12.0))
    wide = Logistic(torch.zeros(3), torch.full((3,), -9.0))
    estimate = DIVERGENCES[name][0](log_scale_min=-9.0)
    torch.testing.assert_close(estimate(narrow, wide), torch.zeros(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(estimate(wide, narrow), torch.zeros(3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("base", ["logistic", "normal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_noise_point_falls_in_each_stratum(base, dtype):
    z = stratified_noise(base, 8, (20_000,), dtype=dtype)
    assert z.isfinite().all()
    u = torch.sigmoid(z) if base == "logistic" else torch.special.ndtr(z)
    edge = torch.arange(8, dtype=dtype).unsqueeze(-1) / 8
    assert ((u > edge - 1e-6) & (u < edge + 0.125 + 1e-6)).all()
    assert abs(torch.corrcoef(z.double())[0, 1]) < 0.05  # jitters are independent


def variance_of(points: Callable[[Logistic], Tensor], q: Logistic, p: Distribution) -> Tensor:
    """Return the variance over 300 draws of value, d/d loc and d/d log-scale, summed over steps."""
    draws = []
    for _ in range(300):
        loc, log_scale = q.loc.clone().requires_grad_(), q.log_scale.clone().requires_grad_()
        law = Logistic(loc, log_scale)
        x = law.from_noise(points(law))
        value = (law.log_prob(x) - p.log_prob(x)).mean(0)
        gradients = torch.autograd.grad(value.sum(), (loc, log_scale))
        draws.append(torch.stack((value.detach(), *gradients)))
    return torch.stack(draws).var(0).sum(1)


def test_stratified_points_cut_the_variance_of_value_and_gradient():
    """The figures in the docstring of KL: a logistic student near a mixture of ten logistics."""
    steps, n = 500, 8
    p = Mixture(
        torch.randn(steps, 10), Logistic(0.3 * torch.randn(steps, 10), 0.5 * torch.randn(steps, 10) - 2)
    )
    best, _ = best_location_scale(p, "logistic")
    q = Logistic(best.loc + 0.1 * best.scale, best.log_scale + 0.1)
    stratified = variance_of(lambda law: stratified_noise("logistic", n, law.batch_shape), q, p)
    independent = variance_of(lambda law: standard_noise("logistic", (n, *law.batch_shape)), q, p)
    value, by_loc, by_log_scale = (independent / stratified).tolist()
    print(f"variance ratios: value {value:.1f}, loc {by_loc:.1f}, log-scale {by_log_scale:.1f}")
    assert value > 5
    assert by_loc > 5
    assert by_log_scale > 5

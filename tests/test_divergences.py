"""Divergences: zero from a law to itself, never negative, equal to dense quadrature."""

import math
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
    ForwardKL,
    JensenShannon,
    Renyi,
    SquaredWasserstein,
    TotalVariation,
    best_location_scale,
    stratified_noise,
    stratified_points,
)

SHAPE = (1, 3)


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
    "discretised mixture of logistics": lambda: Discretized(mixture(Logistic), 0.25, -8.0, 8.0),
    "discretised normal": lambda: Discretized(location_scale(Normal), 0.25, -8.0, 8.0),
}
# Each divergence by dense integrals over x, written independently of the package.
X = torch.linspace(-60, 60, 24_001, dtype=torch.float64).view(-1, 1, 1)


def integral(values: Tensor) -> Tensor:
    return torch.trapezoid(values, X, dim=0)


def dense_kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    return integral(log_q.exp() * (log_q - log_p))


def dense_jensen_shannon(log_q: Tensor, log_p: Tensor) -> Tensor:
    log_m = torch.logaddexp(math.log(0.3) + log_q, math.log(0.7) + log_p)
    return 0.3 * dense_kl(log_q, log_m) + 0.7 * dense_kl(log_p, log_m)


def dense_wasserstein(log_q: Tensor, log_p: Tensor) -> Tensor:
    """E X^2 + E Y^2 - 2 E[XY] under the quantile coupling, from both distribution functions."""
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    step = X[1, 0, 0] - X[0, 0, 0]
    quantiles = []
    for log_law in (log_q, log_p):
        density = log_law.exp()
        cdf = torch.cumsum(0.5 * (density[1:] + density[:-1]) * step, 0)
        columns = cdf.flatten(1).T.contiguous()
        right = torch.searchsorted(columns, u.expand(len(columns), -1).contiguous())
        right = right.clamp(1, columns.shape[1] - 1)
        low, high = columns.gather(1, right - 1), columns.gather(1, right)
        share = ((u - low) / (high - low)).clamp(0, 1)
        quantiles.append(X[1, 0, 0] + step * (right - 1 + share))
    return ((quantiles[0] - quantiles[1]) ** 2).mean(1).view(log_q.shape[1:])


Dense = Callable[[Tensor, Tensor], Tensor]
DIVERGENCES: dict[str, tuple[Callable[..., Divergence], Dense]] = {
    "KL": (KL, dense_kl),
    "path-wise KL": (lambda **options: KL(path_wise=True, **options), dense_kl),
    "forward KL": (ForwardKL, lambda log_q, log_p: dense_kl(log_p, log_q)),
    "Jensen-Shannon": (lambda **options: JensenShannon(0.3, **options), dense_jensen_shannon),
    "Renyi": (
        lambda **options: Renyi(0.4, **options),
        lambda log_q, log_p: integral((0.4 * log_q + 0.6 * log_p).exp()).log() / -0.6,
    ),
    "total variation": (
        TotalVariation,
        lambda log_q, log_p: integral(0.5 * (log_q.exp() - log_p.exp()).abs()),
    ),
    "Wasserstein": (SquaredWasserstein, dense_wasserstein),
}
# Where the estimate is a function of a mean: more points, and room for what is left of the bias.
POINTS = {"Renyi": 64}
BIAS = {"Renyi": 2e-3}
# Half a bin of the discretised teachers (0.25 wide), which Wasserstein's distance leaves out.
HALF_BIN = 0.125

each_divergence = pytest.mark.parametrize("name", DIVERGENCES)
each_student = pytest.mark.parametrize("student", STUDENTS)
each_teacher = pytest.mark.parametrize("teacher", TEACHERS)


def repeated(q: Distribution, num: int) -> Distribution:
    """Return the law ``num`` times along a new first dimension, each to get its own jitter."""
    return q[None][torch.zeros(num, dtype=torch.long)]


def dense(formula: Dense, q: Distribution, p: Distribution) -> Tensor:
    """Integrate over x itself on a grid much finer and wider than either law."""
    return formula(q.log_prob(X), p.density.log_prob(X))


@each_divergence
@each_student
@each_teacher
def test_agrees_with_dense_quadrature(name, student, teacher):
    """Unbiased whatever the number of points: within 5 standard errors over 2,000 estimates."""
    kind, formula = DIVERGENCES[name]
    q, p = STUDENTS[student](), TEACHERS[teacher]()
    estimates = kind(num_points=POINTS.get(name, 4))(repeated(q, 2000), p)
    assert estimates.shape == (2000, *SHAPE)
    exact = dense(formula, q, p)
    tolerance = 5 * estimates.std(0) / 2000**0.5 + 1e-4 + BIAS.get(name, 0.0)
    if name == "Wasserstein" and "discretised" in teacher:
        tolerance = tolerance + 2 * HALF_BIN * exact.sqrt() + HALF_BIN**2
    # A closed form has no error of its own; the dense rule has one where |q - p| has a kink.
    assert ((estimates.mean(0) - exact).abs() < tolerance).all()


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
    assert (DIVERGENCES[name][0]()(repeated(q, 300), p).mean(0) > -1e-3).all()


def test_kl_of_normals_is_closed_form_and_equals_quadrature():
    q, p = STUDENTS["normal"](), TEACHERS["normal"]()
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(q.loc, q.scale), torch.distributions.Normal(p.loc, p.scale)
    )
    torch.testing.assert_close(KL()(q, p), expected, rtol=1e-12, atol=1e-12)


# A path-wise gradient is that of the value only in the mean: it has tests of its own.
@pytest.mark.parametrize("name", sorted(DIVERGENCES.keys() - {"path-wise KL"}))
@each_teacher
def test_gradient_in_the_student_is_that_of_its_value(name, teacher):
    """Autograd against central differences, the jitter held fixed by the generator's seed."""
    p, estimate = TEACHERS[teacher](), DIVERGENCES[name][0](num_points=8)
    parameters = (draw(*SHAPE, scale=0.3).requires_grad_(), draw(*SHAPE).requires_grad_())

    def value(loc: Tensor, log_scale: Tensor) -> Tensor:
        return estimate(Logistic(loc, log_scale), p, generator=torch.Generator().manual_seed(7))

    assert torch.autograd.gradcheck(value, parameters)


def test_gradient_through_the_quantiles_of_a_mixture_student():
    q, p = mixture(Logistic, num_components=2), TEACHERS["logistic"]()
    parameters = (q.logits, q.components.loc, q.components.log_scale)

    def value(logits: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        law = Mixture(logits, Logistic(loc, log_scale))
        return KL()(law, p, generator=torch.Generator().manual_seed(7))

    assert torch.autograd.gradcheck(value, [part.requires_grad_() for part in parameters])


def gradients_of_kl(law: Distribution, p: Distribution, num: int, **options) -> Tensor:
    """`num` independent gradients in location and log-scale, (num, 2, *SHAPE)."""
    parameters = [
        value.expand(num, *SHAPE).clone().requires_grad_() for value in (law.loc, law.log_scale)
    ]
    KL(**options)(type(law)(*parameters), p).sum().backward()
    return torch.stack([parameter.grad for parameter in parameters], dim=1)


@each_teacher
def test_path_wise_gradient_is_unbiased(teacher):
    q, p = STUDENTS["logistic"](), TEACHERS[teacher]()
    ours = gradients_of_kl(q, p, 4000, path_wise=True)
    exact = gradients_of_kl(q, p, 1, num_points=4000)[0]
    assert ((ours.mean(0) - exact).abs() < 5 * ours.std(0) / 4000**0.5 + 1e-3).all()


def test_path_wise_gradient_lands():
    """At q = p no point of it is off zero, while the full gradient is noise about zero."""
    q = STUDENTS["logistic"]()
    path_wise, full = (
        gradients_of_kl(q, q, 100, num_points=1, path_wise=choice) for choice in (True, False)
    )
    assert path_wise.abs().max() < 1e-12
    assert full.var(0)[1].min() > 0.1


def test_forward_kl_and_wasserstein_of_normals_are_closed_forms():
    q, p = STUDENTS["normal"](), TEACHERS["normal"]()
    torch.testing.assert_close(ForwardKL()(q, p), KL()(p, q), rtol=0, atol=0)
    expected = (q.loc - p.loc) ** 2 + (q.scale - p.scale) ** 2
    torch.testing.assert_close(SquaredWasserstein()(q, p), expected, rtol=0, atol=0)


def test_jensen_shannon_and_renyi_tend_to_kl():
    q, p = STUDENTS["logistic"](), TEACHERS["mixture of logistics"]()
    kl, forward = KL(4000)(q, p), ForwardKL(4000)(q, p)
    near = {
        "js": (JensenShannon(1e-4, num_points=4000)(q, p) / 1e-4, kl),
        "js forward": (JensenShannon(1 - 1e-4, num_points=4000)(q, p) / 1e-4, forward),
        "renyi": (Renyi(0.995, num_points=4000)(q, p), kl),
    }
    for name, (value, limit) in near.items():
        torch.testing.assert_close(value, limit, rtol=0.02, atol=2e-3, msg=name)


@pytest.mark.parametrize("kind", [JensenShannon, Renyi])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.5])
def test_weights_and_orders_lie_between_zero_and_one(kind, value):
    with pytest.raises(ValueError, match=rf"is {value}; give one in \(0, 1\)"):
        kind(value)


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


def test_renyi_sees_a_mode_that_the_student_lacks():
    p = Mixture(
        torch.tensor([0.3, 0.7]).log(), Logistic(torch.tensor([-2.0, 2.0]), torch.full((2,), -1.0))
    )
    q = Logistic(torch.tensor(2.0), torch.tensor(-1.0))
    estimates = Renyi(0.5, num_points=8)(repeated(q, 500), repeated(p, 500))
    exact = -2 * integral((0.5 * (q.log_prob(X) + p.log_prob(X))).exp()).log().squeeze()
    torch.testing.assert_close(estimates.mean().double(), exact, rtol=0.02, atol=0)
    assert estimates.std() < 0.1


def test_points_of_a_discretised_teacher_spread_over_its_bins():
    narrow = Normal(torch.zeros(2000, dtype=torch.float64), torch.full((2000,), -5.0).double())
    x = stratified_points(Discretized(narrow, 0.25, -8.0, 8.0).density, 8, (2000,))
    expected = torch.tensor(0.25**2 / 12 + math.exp(-10), dtype=torch.float64)
    torch.testing.assert_close(x.var(), expected, rtol=0.03, atol=0)


def variance_of(points: Callable[[], Tensor], q: Logistic, p: Distribution) -> Tensor:
    """Return the variance over 100 draws of value, d/d loc, d/d log-scale; summed over steps."""
    draws = []
    for _ in range(100):
        loc, log_scale = q.loc.clone().requires_grad_(), q.log_scale.clone().requires_grad_()
        law = Logistic(loc, log_scale)
        x = law.from_noise(points())
        value = (law.log_prob(x) - p.log_prob(x)).mean(0)
        gradients = torch.autograd.grad(value.sum(), (loc, log_scale))
        draws.append(torch.stack((value.detach(), *gradients)))
    return torch.stack(draws).var(0).sum(1)


@pytest.mark.parametrize(("num_points", "floor"), [(8, (2, 15, 3)), (32, (5, 200, 15))])
def test_stratified_points_cut_the_variance_of_value_and_gradient(num_points, floor):
    """The figures in the docstring of KL: a logistic student near mixtures of ten logistics."""
    logits, loc, log_scale = (torch.randn(200, 10) for _ in range(3))
    p = Mixture(logits, Logistic(0.1 * loc, 0.5 * log_scale - 2))
    best, _ = best_location_scale(p, "logistic")
    q = Logistic(best.loc + 0.1 * best.scale, best.log_scale + 0.1)
    shape = q.batch_shape
    stratified = variance_of(lambda: stratified_noise("logistic", num_points, shape), q, p)
    independent = variance_of(lambda: standard_noise("logistic", (num_points, *shape)), q, p)
    ratio = independent / stratified
    # Half of what was measured: 3.9, 35, 6.3 and 10, 463, 36.
    assert (ratio > torch.tensor(floor)).all(), ratio


@pytest.mark.parametrize("kind", [Normal, Logistic])
def test_the_penalty_on_scales_is_clarinets_and_sees_no_floor(kind):
    q, p = location_scale(kind), location_scale(kind)
    generator = torch.Generator().manual_seed(0)
    plain = KL(log_scale_min=5.0)(q, p, generator=generator)  # both scales floored
    penalised = KL(log_scale_min=5.0, scale_penalty=4.0)(q, p, generator=generator.manual_seed(0))
    torch.testing.assert_close(penalised - plain, 4 * (p.log_scale - q.log_scale) ** 2)
    same = KL(scale_penalty=4.0)(q, q)
    torch.testing.assert_close(same, torch.zeros_like(same), rtol=0, atol=1e-12)


def test_the_penalty_pulls_a_scale_from_under_the_floor():
    """There the floored KL has no gradient at all; ClariNet's regulariser is what is left."""
    log_scale = torch.full(SHAPE, -12.0, dtype=torch.float64, requires_grad=True)
    q, p = Normal(torch.zeros(SHAPE, dtype=torch.float64), log_scale), location_scale(Normal)
    (floored,) = torch.autograd.grad(KL(log_scale_min=-7.0)(q, p).sum(), log_scale)
    (pulled,) = torch.autograd.grad(
        KL(log_scale_min=-7.0, scale_penalty=4.0)(q, p).sum(), log_scale
    )
    assert (floored == 0).all()
    torch.testing.assert_close(pulled, 8 * (log_scale.detach() - p.log_scale))


@pytest.mark.parametrize("teacher", ["mixture of logistics", "logistic", "discretised normal"])
def test_the_penalty_needs_one_shape_on_both_sides(teacher):
    with pytest.raises(ValueError, match="no scales to compare; give both one location-scale"):
        KL(scale_penalty=4.0)(location_scale(Normal), TEACHERS[teacher]())
    with pytest.raises(ValueError, match="'scale_penalty' is -1"):
        KL(scale_penalty=-1.0)


@pytest.mark.parametrize("base", ["logistic", "normal"])
def test_best_location_scale_finds_the_law_itself(base):
    kind = {"logistic": Logistic, "normal": Normal}[base]
    p = location_scale(kind)
    q, kl = best_location_scale(p, base, num_steps=80)
    torch.testing.assert_close(q.loc, p.loc, rtol=0, atol=1e-3)
    torch.testing.assert_close(q.log_scale, p.log_scale, rtol=0, atol=1e-3)
    torch.testing.assert_close(kl, torch.zeros_like(kl), rtol=0, atol=1e-5)


def test_best_logistic_of_a_normal_has_the_known_floor():
    p = location_scale(Normal)
    _, kl = best_location_scale(p, "logistic")
    floor = 0.5 * math.log(2 * math.pi**3 * math.e / 3) - 2
    torch.testing.assert_close(kl, torch.full_like(kl, floor), rtol=0, atol=1e-5)


@pytest.mark.parametrize("base", ["logistic", "normal"])
@pytest.mark.parametrize("teacher", TEACHERS)
def test_no_law_nearby_is_better_than_the_best(base, teacher):
    kind = {"logistic": Logistic, "normal": Normal}[base]
    p = TEACHERS[teacher]()
    best, kl = best_location_scale(p, base)
    torch.testing.assert_close(kl, dense(dense_kl, best, p), rtol=1e-2, atol=1e-3)
    for loc_step, log_scale_step in ((0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1)):
        q = kind(best.loc + loc_step * best.scale, best.log_scale + log_scale_step)
        assert (dense(dense_kl, q, p) > kl).all()


def test_best_location_scale_chooses_the_better_mode():
    # Of two modes far apart a student can cover one, at a cost of -ln(its weight).
    logits, loc = torch.tensor([[0.2, 0.8]]).log(), torch.tensor([[-5.0, 5.0]])
    q, kl = best_location_scale(
        Mixture(logits, Logistic(loc, torch.full((1, 2), -2.0))), "logistic"
    )
    torch.testing.assert_close(q.loc, torch.tensor([5.0]), rtol=0, atol=0.01)
    torch.testing.assert_close(kl, -torch.tensor([0.8]).log(), rtol=0.01, atol=0)


def test_best_location_scale_works_without_gradients():
    with torch.no_grad():
        q, kl = best_location_scale(TEACHERS["discretised mixture of logistics"](), "logistic")
    assert not kl.requires_grad
    assert not q.loc.requires_grad


def test_a_discrete_student_is_refused():
    p = TEACHERS["discretised normal"]()
    with pytest.raises(ValueError, match="'q' is a discrete Discretized"):
        KL()(p, p)


def test_a_teacher_without_a_density_is_refused():
    with pytest.raises(ValueError, match="no continuous density"):
        KL()(STUDENTS["logistic"](), MuLaw(torch.zeros(*SHAPE, 256)))

"""Laws: masses sum to 1, scipy and mpmath agree, noise maps both ways, gradients stay finite."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
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
    mu_law_decode,
    mu_law_encode,
    standard_noise,
)

SHAPE = (2, 3)
KINDS: dict[str, type[LocationScale]] = {"logistic": Logistic, "normal": Normal}


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def location_scale(kind: type[LocationScale]) -> LocationScale:
    return kind(0.3 * draw(*SHAPE), 0.3 * draw(*SHAPE) - 1)


def mixture(kind: type[LocationScale]) -> Mixture:
    shape = (*SHAPE, 4)
    return Mixture(draw(*shape), kind(0.5 * draw(*shape), 0.5 * draw(*shape) - 1))


LAWS: dict[str, Callable[[], Distribution]] = {
    "logistic": lambda: location_scale(Logistic),
    "normal": lambda: location_scale(Normal),
    "mixture of logistics": lambda: mixture(Logistic),
    "mixture of normals": lambda: mixture(Normal),
    "discretised logistic": lambda: Discretized(location_scale(Logistic), 2**-4, -1.0, 1.0),
    "discretised normal": lambda: Discretized(location_scale(Normal), 2**-4, -1.0, 1.0),
    "discretised mixture": lambda: Discretized(mixture(Logistic), 2**-8, -1.0, 1 - 2**-8),
    "discretised mixture of normals": lambda: Discretized(mixture(Normal), 2**-4, -1.0, 1.0),
    "mu-law": lambda: MuLaw(2 * draw(*SHAPE, 256)),
    "moved mu-law": lambda: MuLaw(2 * draw(*SHAPE, 16)).affine(2.0, 0.5),
}
CONTINUOUS = [name for name in LAWS if not LAWS[name]().is_discrete]
DISCRETE = [name for name in LAWS if name not in CONTINUOUS]

each_law = pytest.mark.parametrize("name", LAWS)
each_continuous = pytest.mark.parametrize("name", CONTINUOUS)
each_discrete = pytest.mark.parametrize("name", DISCRETE)
each_kind = pytest.mark.parametrize("kind", KINDS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])


def support(law: Distribution) -> Tensor:
    """Return all values of a discrete law, or a fine grid over a continuous one, (N, 1, 1)."""
    if isinstance(law, MuLaw):
        levels = torch.arange(law.num_levels)
        points = law.scale * mu_law_decode(levels, law.num_levels, dtype=law.dtype) + law.shift
    elif isinstance(law, Discretized):
        points = law.low + law.bin_width * torch.arange(law.num_levels, dtype=law.dtype)
    else:
        points = torch.linspace(-80, 80, 32_001, dtype=law.dtype)
    return points.view(-1, 1, 1)


def total(law: Distribution, values: Tensor, x: Tensor) -> Tensor:
    return values.sum(0) if law.is_discrete else torch.trapezoid(values, x, dim=0)


# --- properties of every law ---------------------------------------------------------------------


@each_law
def test_total_mass_is_one_tails_included(name):
    law = LAWS[name]()
    x = support(law)
    mass = total(law, law.log_prob(x).exp(), x)
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=1e-10)


@each_law
def test_cdf_is_the_running_sum_of_mass(name):
    law = LAWS[name]()
    x = support(law)
    mass = law.log_prob(x).exp()
    below = mass.cumsum(0) if law.is_discrete else torch.cumulative_trapezoid(mass, x, dim=0)
    cdf = law.cdf(x if law.is_discrete else x[1:])
    torch.testing.assert_close(cdf, below, rtol=0, atol=1e-10 if law.is_discrete else 1e-4)
    torch.testing.assert_close(law.cdf(x) + law.log_survival(x).exp(), torch.ones_like(mass))


@each_law
def test_entropy_is_monte_carlo_within_four_standard_errors(name):
    law = LAWS[name]()
    surprise = -law.log_prob(law.sample((20_000,)))
    error = (law.entropy() - surprise.mean(0)).abs()
    assert (error < 4 * surprise.std(0) / 20_000**0.5 + 1e-9).all()


@each_law
def test_entropy_mean_and_variance_are_sums_over_the_support(name):
    law = LAWS[name]()
    x = support(law)
    log_prob = law.log_prob(x)
    mean = total(law, log_prob.exp() * x, x)
    # The quadrature of a mixture errs by up to 1e-4 where its quantiles cross a gap.
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if isinstance(law, Mixture) else {}
    torch.testing.assert_close(law.mean.expand(SHAPE), mean, **tolerance)
    variance = total(law, log_prob.exp() * (x - mean) ** 2, x)
    torch.testing.assert_close(law.variance, variance, **tolerance)
    entropy = -total(law, torch.special.xlogy(log_prob.exp(), log_prob.exp()), x)
    torch.testing.assert_close(law.entropy(), entropy, **tolerance)


@each_law
def test_from_noise_is_increasing(name):
    z = torch.linspace(-30, 30, 301, dtype=torch.float64).view(-1, 1, 1)
    x = LAWS[name]().from_noise(z)
    assert x.shape == (301, *SHAPE)
    step = x.diff(dim=0)
    assert (step > 0).all() if name in CONTINUOUS else (step >= 0).all()


@each_law
def test_noise_carries_its_quantile(name):
    """The log-odds of F(x) are those of z; a discrete law takes the least value reaching them."""
    law = LAWS[name]()
    z = torch.linspace(-30, 30, 61, dtype=torch.float64).view(-1, 1, 1).expand(-1, *SHAPE)
    base = KINDS[law.base](torch.zeros(1).double(), torch.zeros(1).double())
    target = base.log_cdf(z) - base.log_survival(z)
    x = law.from_noise(z)
    log_odds = law.log_cdf(x) - law.log_survival(x)
    if not law.is_discrete:
        torch.testing.assert_close(log_odds, target, rtol=1e-11, atol=1e-11)
        return
    values = support(law).flatten()
    position = torch.searchsorted(values, (x - 1e-9).contiguous())
    before = values[(position - 1).clamp(min=0)]
    assert (log_odds >= target - 1e-9).all()
    is_first = position == 0
    assert (is_first | (law.log_cdf(before) - law.log_survival(before) < target + 1e-9)).all()


@each_continuous
def test_to_noise_inverts_from_noise_in_both_tails(name):
    law = LAWS[name]()
    z = torch.linspace(-30, 30, 121, dtype=torch.float64).view(-1, 1, 1).expand(-1, *SHAPE)
    torch.testing.assert_close(law.to_noise(law.from_noise(z)), z, rtol=1e-10, atol=1e-10)


@each_law
def test_icdf_inverts_cdf(name):
    law = LAWS[name]()
    x = law.icdf(torch.tensor([0.01, 0.3, 0.5, 0.9], dtype=torch.float64).view(-1, 1, 1))
    torch.testing.assert_close(law.icdf(law.cdf(x) - 1e-12 * law.is_discrete), x)


@each_law
def test_same_seed_same_sample(name):
    law = LAWS[name]()
    first, second = (
        law.sample((5,), generator=torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert first.shape == (5, *SHAPE)
    assert torch.equal(first, second)


@each_law
def test_affine_moves_the_law_and_its_grid(name):
    law = LAWS[name]()
    moved = law.affine(0.25, 3.0)
    z = draw(50, *SHAPE)
    x = law.from_noise(z)
    y = moved.from_noise(z)
    torch.testing.assert_close(y, 0.25 * x + 3)
    log_stretch = 0.0 if law.is_discrete else math.log(0.25)
    torch.testing.assert_close(moved.log_prob(y), law.log_prob(x) - log_stretch)
    torch.testing.assert_close(
        law.affine(torch.tensor(0.25).double(), 3.0).log_prob(y), moved.log_prob(y)
    )


@each_law
@pytest.mark.parametrize("index", [0, (slice(None), slice(-1, None)), (..., 1), (..., None)])
def test_index_applies_to_the_batch_shape(name, index):
    law = LAWS[name]()
    x = law.sample()
    assert law[index].batch_shape == x[index].shape
    torch.testing.assert_close(law[index].log_prob(x[index]), law.log_prob(x)[index])


def parameters_of(law: Distribution) -> list[Tensor]:
    if isinstance(law, LocationScale):
        return [law.loc, law.log_scale]
    if isinstance(law, Mixture):
        return [law.logits, law.components.loc, law.components.log_scale]
    return parameters_of(law.continuous) if isinstance(law, Discretized) else [law.logits]


def track(law: Distribution, dtype: torch.dtype) -> Distribution:
    """Return the law with fresh parameters of ``dtype`` that require gradients."""
    if isinstance(law, LocationScale):
        return type(law)(*(p.detach().to(dtype).requires_grad_() for p in parameters_of(law)))
    if isinstance(law, Mixture):
        return Mixture(law.logits.to(dtype).requires_grad_(), track(law.components, dtype))
    if isinstance(law, Discretized):
        continuous = track(law.continuous, dtype)
        return Discretized(continuous, law.bin_width, law.low, law.high)
    return MuLaw(law.logits.to(dtype).requires_grad_())


@each_law
@each_dtype
@pytest.mark.parametrize("distance", [-1e4, -100.0, 0.0, 100.0, 1e4])
def test_gradients_are_finite_at_both_extremes(name, dtype, distance):
    law = track(LAWS[name](), dtype)
    x = torch.full(SHAPE, distance, dtype=dtype, requires_grad=True)
    values = [law.log_prob(x)]
    if law.is_discrete:
        values += [law.density.log_prob(x)] if isinstance(law, Discretized) else []
    else:
        values += [law.log_cdf(x), law.log_survival(x), law.log_mass(x, 2**-16)]
    for value in values:
        assert value.isfinite().all()
        gradients = torch.autograd.grad(
            value.sum(), [x, *parameters_of(law)], retain_graph=True, allow_unused=True
        )
        assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


@each_law
def test_detach_cuts_every_parameter(name):
    law = track(LAWS[name](), torch.float64)
    x = law.sample()
    assert law.log_prob(x).requires_grad
    assert not law.detach().log_prob(x).requires_grad


@each_law
def test_floor_lifts_the_log_scales_below_it(name):
    law = LAWS[name]()
    expected = parameters_of(law)[-1]  # the log-scale; of a mu-law softmax its logits, untouched
    expected = expected if isinstance(law, MuLaw) else expected.clamp(min=-1.0)
    assert torch.equal(parameters_of(law.floored(-1.0))[-1], expected)


# --- scipy ---------------------------------------------------------------------------------------

SCIPY: dict[str, Any] = {"logistic": scipy.stats.logistic, "normal": scipy.stats.norm}


@each_kind
def test_agrees_with_scipy(kind):
    law = location_scale(KINDS[kind])
    peer = SCIPY[kind](law.loc.numpy(), law.scale.numpy())
    x = 3 * draw(100, *SHAPE)
    for ours, theirs in (
        (law.log_prob(x), peer.logpdf(x)),
        (law.log_cdf(x), peer.logcdf(x)),
        (law.log_survival(x), peer.logsf(x)),
        (law.entropy(), peer.entropy()),
        (law.mean, peer.mean()),
        (law.variance, peer.var()),
        (law.icdf(torch.full(SHAPE, 0.2, dtype=torch.float64)), peer.ppf(0.2)),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@each_kind
def test_discretised_agrees_with_scipy(kind):
    law = Discretized(location_scale(KINDS[kind]), 2**-4, -1.0, 1.0)
    peer = SCIPY[kind](law.continuous.loc.numpy(), law.continuous.scale.numpy())
    edges = support(law).numpy() + law.bin_width / 2
    edges = np.concatenate([np.full_like(edges[:1], -np.inf), edges[:-1], [[[np.inf]]]])
    np.testing.assert_allclose(
        law.log_prob(support(law)).exp(), np.diff(peer.cdf(edges), axis=0), atol=1e-12
    )


# --- discretised laws ----------------------------------------------------------------------------


def test_density_is_mass_over_width_inside_the_grid():
    law = Discretized(mixture(Logistic), 2**-6, -1.0, 1.0)
    x = support(law)[1:-1]
    torch.testing.assert_close(law.density.log_prob(x), law.log_prob(x) - math.log(2**-6))


def test_density_integrates_to_one_and_has_the_moments_of_the_convolution():
    density = Discretized(location_scale(Logistic), 0.5, -1.0, 1.0).density
    x = torch.linspace(-40, 40, 16_001, dtype=torch.float64).view(-1, 1, 1)
    p = density.log_prob(x).exp()
    mean = torch.trapezoid(p * x, x, dim=0)
    torch.testing.assert_close(torch.trapezoid(p, x, dim=0), torch.ones(SHAPE).double())
    torch.testing.assert_close(mean, density.mean)
    torch.testing.assert_close(torch.trapezoid(p * (x - mean) ** 2, x, dim=0), density.variance)


@each_discrete
def test_every_x_stands_for_its_nearest_value(name):
    law = LAWS[name]()
    x = law.sample()
    step = 2**-16
    torch.testing.assert_close(law.log_prob(x + step), law.log_prob(x))


def test_grid_of_16_bit_audio():
    law = Discretized(location_scale(Logistic), 2**-15, -1.0, 1 - 2**-15)
    assert law.num_levels == 65_536
    pcm = law.sample((100,)) * 32_768
    assert torch.equal(pcm, pcm.round())
    assert law.high == 1 - 2**-15


# --- mu-law --------------------------------------------------------------------------------------


def test_mu_law_levels_round_trip_and_are_g711_companding():
    levels = torch.arange(256)
    assert torch.equal(mu_law_encode(mu_law_decode(levels)), levels)
    x = np.linspace(-1, 1, 1001)
    companded = np.sign(x) * np.log(1 + 255 * np.abs(x)) / np.log(256)
    levels = mu_law_encode(torch.from_numpy(x))
    np.testing.assert_array_equal(levels, np.round((companded + 1) / 2 * 255))


# --- refusals ------------------------------------------------------------------------------------


@each_discrete
def test_discrete_laws_refuse_to_invert_a_sample(name):
    law = LAWS[name]()
    with pytest.raises(ValueError, match="whole interval"):
        law.to_noise(law.sample())


def test_mu_law_refuses_to_be_a_density():
    with pytest.raises(ValueError, match="no continuous density"):
        _ = LAWS["mu-law"]().density


def test_relaxation_refuses_what_it_has_not():
    density = LAWS["discretised logistic"]().density
    with pytest.raises(NotImplementedError, match="no 'from_noise'"):
        density.from_noise(torch.zeros(1))


@pytest.mark.parametrize(("width", "high"), [(0.3, 1.0), (0.25, -1.0), (4.0, 1.0)])
def test_grid_must_be_whole_widths(width, high):
    with pytest.raises(ValueError, match="whole number of widths"):
        Discretized(location_scale(Logistic), width, -1.0, high)


def test_grid_takes_only_a_scalar_scale():
    with pytest.raises(ValueError, match=r"'scale' has shape \(2, 1\)"):
        LAWS["discretised logistic"]().affine(torch.ones(2, 1))


def test_mixture_names_shapes_that_differ():
    with pytest.raises(ValueError, match=r"\(2, 3\) but 'components' \(2, 4\)"):
        Mixture(draw(2, 3), Logistic(draw(2, 4), draw(2, 4)))


@pytest.mark.parametrize("base", ["logistic", "normal"])
def test_noise_is_drawn_where_its_generator_is_and_taken_to_the_device(base):
    generator = torch.Generator().manual_seed(0)
    assert standard_noise(base, (3,), generator=generator, device="meta").is_meta
    state = generator.get_state()
    standard_noise(base, (3,), generator=generator, device="meta")
    assert not torch.equal(generator.get_state(), state)  # it was this one that was drawn from

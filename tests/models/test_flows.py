"""Flows of vectors: bijections with the Jacobian they say, in the order they say."""

from collections.abc import Callable

import pytest
import torch
import zuko
from torch import Tensor, nn

from wavestill.density import (
    Autoregressive,
    Density,
    Draw,
    InverseAutoregressive,
    JointDraw,
    Reparametrised,
)
from wavestill.distillation.teacher_samples import is_mirrored
from wavestill.distributions import Normal
from wavestill.distributions.spline import Splined, knots_of, spline, spline_inverse
from wavestill.models.adoption import adopt
from wavestill.models.flows import IAF, MAF, NSF, PermutedIAF, PermutedMAF
from wavestill.sampling import cached

NUM_DIMS, NUM_CONTEXT = 5, 3


def shaken(flow: nn.Module) -> nn.Module:
    """The flow with weights as after training: it begins as the identity."""
    torch.manual_seed(0)
    for name, weight in flow.named_parameters():
        if ".net." in name:
            nn.init.normal_(weight, std=1.0 / weight.shape[-1] ** 0.5)
    flow.loc.normal_()
    flow.log_scale.normal_(std=0.5)
    return flow.double()


SIZES = {"num_flows": 3, "hidden": (16, 12)}
MAKERS: dict[str, Callable[[int], nn.Module]] = {
    "MAF": lambda c: MAF(NUM_DIMS, c, **SIZES),
    "NSF": lambda c: NSF(NUM_DIMS, c, bins=4, **SIZES),
    "PermutedMAF": lambda c: PermutedMAF(NUM_DIMS, c, **SIZES),
    "PermutedNSF": lambda c: PermutedMAF(NUM_DIMS, c, bins=4, **SIZES),
    "IAF": lambda c: IAF(NUM_DIMS, c, **SIZES),
    "SplineIAF": lambda c: IAF(NUM_DIMS, c, bins=4, **SIZES),
    "PermutedIAF": lambda c: PermutedIAF(NUM_DIMS, c, **SIZES),
    "grouped MAF": lambda c: MAF(NUM_DIMS, c, passes=2, **SIZES),
    "PermutedCouplingIAF": lambda c: PermutedIAF(NUM_DIMS, c, bins=4, passes=2, **SIZES),
    "PermutedSplineIAF": lambda c: PermutedIAF(NUM_DIMS, c, bins=4, **SIZES),
}
NATURAL = [name for name in MAKERS if not name.startswith("Permuted")]
TEACHERS = ["MAF", "NSF"]
STUDENTS = ["IAF", "SplineIAF"]


def made(name: str, num_context: int = NUM_CONTEXT) -> tuple[nn.Module, Tensor, Tensor | None]:
    """A flow, noise for it, and a context."""
    flow = shaken(MAKERS[name](num_context))
    generator = torch.Generator().manual_seed(1)
    noise, context = (
        torch.randn(7, size, generator=generator, dtype=torch.float64)
        for size in (NUM_DIMS, NUM_CONTEXT)
    )
    return flow, noise, context if num_context else None


@pytest.mark.parametrize("num_context", [0, NUM_CONTEXT])
@pytest.mark.parametrize("name", MAKERS)
def test_inverse_undoes_the_flow(name: str, num_context: int) -> None:
    flow, noise, context = made(name, num_context)
    x = flow.from_noise(noise, context)
    for grad in (False, True):  # cached, and by whole passes
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(flow.to_noise(x, context), noise, atol=1e-8, rtol=0)


@pytest.mark.parametrize("name", MAKERS)
def test_log_prob_is_the_base_law_and_the_jacobian(name: str) -> None:
    flow, noise, context = made(name)
    x = flow.from_noise(noise, context)

    def to_noise(row: Tensor, c: Tensor) -> Tensor:
        return flow.to_noise(row.unsqueeze(0), c.unsqueeze(0))[0]

    for row, z, c, log_prob in zip(x, noise, context, flow.log_prob(x, context), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda r, c=c: to_noise(r, c), row)
        expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum()
        torch.testing.assert_close(log_prob, expected + torch.linalg.slogdet(jacobian)[1])
        if name in NATURAL:
            assert torch.equal(jacobian.triu(1), torch.zeros_like(jacobian))


@pytest.mark.parametrize("name", ["PermutedMAF", "PermutedNSF", "PermutedIAF"])
def test_permuted_stacks_are_not_triangular_and_show_no_conditionals(name: str) -> None:
    flow, noise, context = made(name)
    jacobian = torch.autograd.functional.jacobian(
        lambda row: flow.to_noise(row, context[:1])[0], flow.from_noise(noise, context)[:1]
    )[:, 0]
    assert float(jacobian.triu(1).abs().max()) > 1e-3
    assert isinstance(flow, Density)
    assert not isinstance(flow, Autoregressive)
    if isinstance(flow, Reparametrised):
        assert isinstance(flow.rsample(noise, context), JointDraw)


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teachers_conditionals_make_up_its_density_and_look_back_only(name: str) -> None:
    flow, noise, context = made(name)
    assert isinstance(flow, Autoregressive)
    x = flow.from_noise(noise, context)
    laws = flow.conditionals(x, context)
    torch.testing.assert_close(laws.log_prob(x).sum(-1), flow.log_prob(x, context))
    torch.testing.assert_close(laws.to_noise(x), noise, atol=1e-8, rtol=0)
    changed = x.clone()
    changed[:, 2:] += 1.0
    later = flow.conditionals(changed, context)
    at = torch.zeros_like(x)
    assert torch.equal(laws.log_prob(at)[:, :3], later.log_prob(at)[:, :3])
    assert not torch.allclose(laws.log_prob(at)[:, 3:], later.log_prob(at)[:, 3:])


@pytest.mark.parametrize("name", STUDENTS)
def test_a_students_laws_make_up_its_density(name: str) -> None:
    flow, noise, context = made(name)
    assert isinstance(flow, InverseAutoregressive)
    draw = flow.rsample(noise, context)
    torch.testing.assert_close(draw.conditionals.log_prob(draw.x).sum(-1), draw.log_prob)
    torch.testing.assert_close(flow.log_prob(draw.x, context), draw.log_prob)
    torch.testing.assert_close(draw.conditionals.from_noise(noise), draw.x)


@pytest.mark.parametrize("name", TEACHERS)
@pytest.mark.parametrize("cuts", [(0, 4), (2, 2), (1, 3), (4,)], ids=str)
def test_laws_that_come_one_by_one_are_those_of_the_whole(name: str, cuts: tuple[int]) -> None:
    flow, noise, context = made(name)
    x = flow.from_noise(noise, context)
    whole, state, found = flow.conditionals(x, context), None, []
    for part in torch.split(x[:, :-1], cuts, dim=1):
        laws, state = flow.advance(part, context, state)
        found.append(laws.log_prob(torch.zeros(laws.batch_shape, dtype=torch.float64)))
    torch.testing.assert_close(torch.cat(found, 1), whole.log_prob(torch.zeros_like(x)))
    state.rewind(2)
    laws, _ = flow.advance(x[:, 2:3], context, state)
    torch.testing.assert_close(laws.log_prob(x[:, 3:4]), whole.log_prob(x)[:, 3:4])
    torch.testing.assert_close(cached(flow, noise, context), x)


@pytest.mark.parametrize("name", STUDENTS)
def test_a_students_pass_can_be_cut(name: str) -> None:
    flow, noise, context = made(name)
    whole, state, parts = flow.rsample(noise, context), None, []
    for part in torch.split(noise, (2, 1, 2), dim=1):
        draw, state = flow.stream(part, context, state)
        assert isinstance(draw, Draw)
        parts.append(draw.x)
    torch.testing.assert_close(torch.cat(parts, 1), whole.x)


@pytest.mark.parametrize("bins", [None, 4])
def test_zuko_computes_the_same(bins: int | None) -> None:
    """One layer of ours is zuko's with the same weights."""
    flow = shaken(PermutedMAF(4, num_flows=1, hidden=(16,), bins=bins))
    univariate = zuko.transforms.MonotonicAffineTransform

    def bent(shift: Tensor, scale: Tensor, *knots: Tensor) -> torch.distributions.Transform:
        parts = [univariate(shift, scale)]
        if knots:
            parts.insert(0, zuko.transforms.MonotonicRQSTransform(*knots))
        return zuko.transforms.ComposedTransform(*parts)

    shapes = [(), ()] + ([] if bins is None else [(bins,), (bins,), (bins - 1,)])
    theirs = zuko.flows.MaskedAutoregressiveTransform(
        4, univariate=bent, shapes=shapes, hidden_features=(16,), activation=nn.SiLU
    ).double()
    theirs.hyper.load_state_dict(flow.stack.flows[0].net.state_dict())
    v = 2 * torch.randn(50, 4, dtype=torch.float64)
    ours, log_slopes, _ = flow.stack(v, None)
    z, ladj = theirs().call_and_ladj(v)
    torch.testing.assert_close(ours, z)
    torch.testing.assert_close(log_slopes.sum(-1), ladj)
    with torch.no_grad():
        torch.testing.assert_close(
            flow.stack.inverse(z, None)[0], theirs().inv(z), atol=1e-9, rtol=0
        )


def test_mafs_of_zuko_are_adopted_and_others_are_not() -> None:
    torch.manual_seed(0)
    theirs = zuko.flows.MAF(4, 2, transforms=3).double()
    ours = adopt(theirs)
    assert type(ours) is PermutedMAF
    x, context = (torch.randn(9, size, dtype=torch.float64) for size in (4, 2))
    torch.testing.assert_close(ours.log_prob(x, context), theirs(context).log_prob(x))
    z = torch.randn_like(x)
    with torch.no_grad():
        found = ours.from_noise(z, context)
        torch.testing.assert_close(found, theirs(context).transform.inv(z))
    assert is_mirrored(ours, PermutedIAF(4, 2, num_flows=3))
    natural = adopt(zuko.flows.MAF(4, transforms=1))
    assert type(natural) is MAF
    for other in (zuko.flows.NSF(4), zuko.flows.NICE(4), zuko.flows.MAF(4, residual=True)):
        assert adopt(other) is None


def test_splines_bend_and_unbend_and_are_the_identity_beyond() -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = (
        torch.randn(30, size, generator=generator, dtype=torch.float64) for size in (6, 6, 5)
    )
    knots = knots_of(*parameters)
    y = torch.linspace(-7, 7, 401, dtype=torch.float64).unsqueeze(1).expand(-1, 30).clone()
    y.requires_grad_()
    x, log_slope = spline(y, knots)
    assert bool((x.diff(dim=0) > 0).all())
    (slope,) = torch.autograd.grad(x.sum(), y)
    torch.testing.assert_close(log_slope, slope.log())
    back, log_slope_there = spline_inverse(x, knots)
    torch.testing.assert_close(back, y)
    torch.testing.assert_close(log_slope_there, log_slope)
    outside = y.abs() >= 5
    assert torch.equal(x[outside], y[outside])


@pytest.mark.parametrize("is_inverse", [False, True])
def test_a_splined_law_has_mass_one_and_its_own_tails(*, is_inverse: bool) -> None:
    torch.manual_seed(0)
    zero = torch.zeros(3, dtype=torch.float64)
    knots = knots_of(*(torch.randn(3, size, dtype=torch.float64) for size in (6, 6, 5)))
    law = Splined(Normal(zero, zero), knots, zero + 1, zero - 0.5, is_inverse=is_inverse)
    x = torch.linspace(-12, 12, 240_001, dtype=torch.float64).unsqueeze(1)
    density = law.log_prob(x).exp()
    step = float(x[1] - x[0])
    torch.testing.assert_close(density.sum(0) * step, zero + 1)
    torch.testing.assert_close((density * x).sum(0) * step, law.mean, atol=1e-3, rtol=0)
    below = torch.cumsum(density, 0) * step
    at = slice(None, None, 5000)
    torch.testing.assert_close(below[at], law.cdf(x[at]), atol=3e-4, rtol=0)
    torch.testing.assert_close(
        law.log_cdf(x[at]).exp() + law.log_survival(x[at]).exp(), torch.ones(49, 3).double()
    )
    torch.testing.assert_close(
        law.log_mass(x[at], 1e-4).exp() / 2e-4, density[at], rtol=1e-2, atol=1e-6
    )
    entropy = -(density * density.clamp_min(1e-300).log()).sum(0) * step
    torch.testing.assert_close(law.entropy(), entropy, atol=2e-3, rtol=0)
    z = torch.randn(40, 3, dtype=torch.float64)
    torch.testing.assert_close(law.to_noise(law.from_noise(z)), z)
    moved = law.affine(2.0, 1.0)
    torch.testing.assert_close(moved.from_noise(z), 2 * law.from_noise(z) + 1)
    torch.testing.assert_close(law[1:].log_prob(x[at]), law.log_prob(x[at])[:, 1:])


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: MAF(1), "'num_dims' is 1"),
        (lambda: MAF(3, num_flows=0), "'num_flows' is 0"),
        (lambda: MAF(3, bins=1), "'bins' is 1"),
        (lambda: MAF(3, passes=1), "'passes' is 1"),
        (lambda: MAF(3).log_prob(torch.zeros(2, 4)), r"takes \(B, 3\)"),
        (lambda: MAF(3, 2).log_prob(torch.zeros(2, 3)), "the context has 0 numbers"),
        (lambda: MAF(3, 2).log_prob(torch.zeros(4, 3), torch.zeros(3, 2)), "4 vectors but 3"),
        (lambda: MAF(3).calibrate(torch.ones(9, 3)), "column 0 of the data"),
    ],
)
def test_bad_sizes_are_named(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()

"""Densities of vectors: laws and samples that agree with one another and the truth."""

import itertools

import pytest
import torch

from tests.models.vector_table import BINARY, CONTEXT, RECURRENT, VECTORS, D
from wavestill.density import Autoregressive, State
from wavestill.distributions import standard_noise
from wavestill.sampling import cached, jacobi, naive


def masses(law, x):
    """Numbers that tell a law: its log-mass or log-density at its own steps."""
    return law.log_prob(x[..., : law.batch_shape[-1]])


def all_vectors(num_bits):
    bits = itertools.product((0.0, 1.0), repeat=num_bits)
    return torch.tensor(list(bits), dtype=torch.float64)


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("num_dims", [1, 2, 16, 17, 40])
def test_the_recurrence_equals_the_textbook(name, num_dims):
    case = RECURRENT[name]
    model = case.model(num_dims)
    x, context = case.x(model, 4), case.context(model, 4)
    fast, slow = model.conditionals(x, context), model.textbook_conditionals(x, context)
    torch.testing.assert_close(masses(fast, x), masses(slow, x), rtol=1e-12, atol=1e-12)
    assert model.conditionals(x, context).batch_shape == (4, num_dims)
    # and so do their gradients, in the weights and in what comes before
    for law in (fast, slow):
        loss = masses(law, x).sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        if law is fast:
            expected = gradients
    for gradient, other in zip(expected, gradients, strict=True):
        zero = torch.zeros(())
        torch.testing.assert_close(
            *(zero if g is None else g.sum() + g.square().sum() for g in (gradient, other)),
            check_dtype=False,
        )


@pytest.mark.parametrize("name", VECTORS)
def test_is_autoregressive(name):
    case = VECTORS[name]
    model = case.model()
    assert isinstance(model, Autoregressive)
    x, context = case.x(model, 3), case.context(model, 3)
    for t in (0, 1, 15, 16, D - 1):
        other = x.clone()
        other[:, t:] = 1 - other[:, t:]
        at = torch.zeros(3, t + 1, dtype=torch.float64)
        one, two = (model.conditionals(v, context)[:, : t + 1].log_prob(at) for v in (x, other))
        assert torch.equal(one, two)
        if t < D - 1:
            after = [
                model.conditionals(v, context)[:, t + 1].log_prob(at[:, 0]) for v in (x, other)
            ]
            if not (name == "made linear" and t < 0):
                assert not torch.equal(*after)


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("cuts", [[0, 20], [20], [1] * 20, [3, 0, 1, 16], [17, 3]], ids=str)
def test_advance_equals_conditionals_wherever_it_is_cut(name, cuts):
    case = VECTORS[name]
    model = case.model()
    x, context = case.x(model, 3), case.context(model, 3)
    whole = masses(model.conditionals(x, context), x)
    state, known, laws = None, 0, []
    for n in cuts:
        law, state = model.advance(x[:, known : known + n], context, state)
        first = known + 1 if laws else 0
        laws.append(law.log_prob(x[:, first : known + n + 1]))
        known += n
    assert known == D - 1
    torch.testing.assert_close(torch.cat(laws, 1), whole, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("counts", [2, [4, 0, 7], [1, 3, 3], [8, 8, 8]], ids=str)
def test_rewound_and_fed_again_equals_never_fed(name, counts):
    case = VECTORS[name]
    model = case.model(40)
    x, wrong = case.x(model, 3), case.x(model, 3, seed=5)
    context = case.context(model, 3)
    cuts = [counts] * 3 if isinstance(counts, int) else counts
    ends = [20 - cut for cut in cuts]
    first = x[:, :20].clone()
    for i, end in enumerate(ends):
        first[i, end:] = wrong[i, end:20]
    _, state = model.advance(first[:, :9], context)
    _, state = model.advance(first[:, 9:], None, state)
    assert isinstance(state, State)
    state.rewind(counts if isinstance(counts, int) else torch.tensor(counts))
    whole = masses(model.conditionals(x, context), x)
    law, state = model.advance(
        torch.stack([x[i, end : end + 8] for i, end in enumerate(ends)]), None, state
    )
    after = torch.stack([x[i, end + 1 : end + 9] for i, end in enumerate(ends)])
    for i, end in enumerate(ends):
        torch.testing.assert_close(law.log_prob(after)[i], whole[i, end + 1 : end + 9])
    # twice cut, and on with some of them only
    state.rewind(torch.tensor([1, 2, 0]))
    ends = [end + 8 - cut for end, cut in zip(ends, [1, 2, 0], strict=True)]
    keep = [2, 1]
    state.select(torch.tensor(keep))
    law, _ = model.advance(torch.stack([x[i, ends[i] : ends[i] + 4] for i in keep]), None, state)
    after = torch.stack([x[i, ends[i] + 1 : ends[i] + 5] for i in keep])
    for row, i in enumerate(keep):
        expected = whole[i, ends[i] + 1 : ends[i] + 5]
        torch.testing.assert_close(law.log_prob(after)[row], expected)


@pytest.mark.parametrize("name", VECTORS)
def test_the_first_dimensions_have_the_same_laws_by_themselves(name):
    case = VECTORS[name]
    model = case.model()
    x, context = case.x(model, 2), case.context(model, 2)
    part = model.conditionals(x[:, :5], context)
    assert part.batch_shape == (2, 5)
    whole = masses(model.conditionals(x, context), x)
    torch.testing.assert_close(masses(part, x), whole[:, :5])


@pytest.mark.parametrize("name", VECTORS)
def test_the_layout_in_memory_makes_no_difference(name):
    case = VECTORS[name]
    model = case.model()
    x, context = case.x(model, 6), case.context(model, 3)
    for part in (x[::2], x[:3].T.contiguous().T):
        expected = model.log_prob(part.contiguous(), context)
        torch.testing.assert_close(model.log_prob(part, context), expected)


@pytest.mark.parametrize("name", BINARY)
def test_probabilities_of_all_vectors_sum_to_1(name):
    case = VECTORS[name]
    model = case.model(9)
    x = all_vectors(9)
    context = case.context(model, 1)
    context = None if context is None else context.expand(len(x), -1)
    with torch.no_grad():
        total = float(model.log_prob(x, context).exp().sum())
    assert total == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", ["rnade", "rnade logistic", "made normal"])
def test_densities_of_two_dimensions_integrate_to_1(name):
    model = VECTORS[name].model(2)
    t = torch.linspace(-7, 7, 401, dtype=torch.float64)  # the trapezoidal rule in x = 2 sinh t
    x, weights = 2 * torch.sinh(t), 2 * torch.cosh(t) * (t[1] - t[0])
    with torch.no_grad():
        density = model.log_prob(torch.cartesian_prod(x, x)).exp().view(401, 401)
    assert float(weights @ density @ weights) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", VECTORS)
def test_gradients_are_those_of_finite_differences(name):
    case = VECTORS[name]
    model = case.model(18)
    x, context = case.x(model, 2), case.context(model, 2)
    for key, parameter in model.named_parameters():
        direction = torch.randn_like(parameter)
        (gradient,) = torch.autograd.grad(model.log_prob(x, context).sum(), parameter)
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                parameter.add_(step * direction)
                values.append(float(model.log_prob(x, context).sum()))
                parameter.sub_(step * direction)
        numerical = (values[0] - values[1]) / 2e-6
        assert float((gradient * direction).sum()) == pytest.approx(numerical, rel=1e-5), key


@pytest.mark.parametrize("name", BINARY)
def test_samples_follow_the_exact_law(name):
    """Chi-square over all 2^6 vectors; under the law it has 63 degrees of freedom."""
    case = VECTORS[name]
    model = case.model(6)
    num = 5_000
    context = case.context(model, 1)
    spread = (lambda n: None) if context is None else (lambda n: context.expand(n, -1))
    x = model.sample(num, spread(num), generator=torch.Generator().manual_seed(0))
    cells = (x @ (2.0 ** torch.arange(5, -1, -1, dtype=torch.float64))).long()
    counts = cells.bincount(minlength=64).double()
    with torch.no_grad():
        expected = num * model.log_prob(all_vectors(6), spread(64)).exp()
    # Its own null: the same statistic of multinomial draws from the exact law.
    generator = torch.Generator().manual_seed(1)
    null = torch.multinomial(expected.expand(200, -1), num, True, generator=generator)
    tables = torch.zeros(200, 64, dtype=torch.float64)
    tables.scatter_add_(1, null, torch.ones_like(null, dtype=torch.float64))
    statistics = ((tables - expected).square() / expected).sum(1)
    assert float(((counts - expected).square() / expected).sum()) < float(
        statistics.quantile(0.995)
    )


@pytest.mark.parametrize("name", VECTORS)
def test_every_sampler_draws_the_same_vectors(name):
    case = VECTORS[name]
    model = case.model()
    context = case.context(model, 3)
    generator = torch.Generator().manual_seed(7)
    noise = standard_noise(model.base, (3, D), generator=generator, dtype=torch.float64)
    x = cached(model, noise, context)
    torch.testing.assert_close(naive(model, noise, context), x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(jacobi(model, noise, context).x, x, rtol=1e-6, atol=1e-6)
    law = model.conditionals(x, context)
    torch.testing.assert_close(law.from_noise(noise), x, rtol=1e-9, atol=1e-9)
    if name in RECURRENT:
        slow = model.textbook_sample(noise, context)
        torch.testing.assert_close(slow, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", VECTORS)
def test_calibrated_models_begin_at_the_marginals(name):
    case = VECTORS[name]
    model = case.build(4).double()
    x = 3 + 2 * torch.randn(5000, 4, generator=torch.Generator().manual_seed(0)).double()
    binary = model.head.kind == "bernoulli"
    if binary:
        x = (x > torch.tensor([1.0, 2.0, 3.0, 5.0])).double()
        x[:, 0] = 1
    model.calibrate(x)
    context = None if not model.config.num_context else torch.zeros(5000, CONTEXT).double()
    with torch.no_grad():
        law = model.conditionals(x, context)
        # The outputs' random weights move each dimension a little.
        shift = (law.mean.mean(0) - x.mean(0)) / (1.0 if binary else 2.0)
        assert float(shift.abs().max()) < 0.4
        if not binary:
            ratio = law.variance.log().mean(0) - x.var(0).log()
            assert float(ratio.abs().max()) < 1
    constant = torch.ones_like(x)
    model.calibrate(constant)
    assert torch.isfinite(model.log_prob(constant, context)).all()


BAD = {
    "too wide": (lambda m: m.conditionals(torch.zeros(2, 22).double()), "have 22 .* model 21"),
    "empty": (lambda m: m.conditionals(torch.zeros(2, 0).double()), "have 0 .* model 21"),
    "context": (
        lambda m: m.log_prob(torch.zeros(2, 21).double(), torch.zeros(2, 3)),
        r"context is \(2, 3\) .* must be None",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("name", ["nade", "made"])
def test_what_does_not_fit_is_refused_in_one_line(name, case):
    call, complaint = BAD[case]
    with pytest.raises(ValueError, match=complaint) as error:
        call(VECTORS[name].model())
    assert "\n" not in str(error.value)


def test_nothing_follows_the_last_dimension():
    model = VECTORS["nade"].model()
    _, state = model.advance(torch.zeros(2, 20).double())
    with pytest.raises(ValueError, match="no law follows the last"):
        model.advance(torch.zeros(2, 1).double(), None, state)


@pytest.mark.parametrize("name", ["nade+context", "made+context"])
def test_a_context_that_is_missing_is_named(name):
    model = VECTORS[name].model()
    with pytest.raises(ValueError, match=r"context is None .* must be \(batch, 3\)"):
        model.log_prob(torch.zeros(2, 21).double())


def test_shapes_that_make_no_model():
    for build in (VECTORS["nade"].build, VECTORS["made"].build, VECTORS["rnade"].build):
        with pytest.raises(ValueError, match="'num_dims' is 0"):
            build(0)

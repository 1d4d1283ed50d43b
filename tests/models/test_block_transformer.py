"""Block transformer: an exact density at every block size, the same whole and in any parts."""

import itertools
import math

import pytest
import torch

from wavestill.density import Autoregressive, State
from wavestill.distributions import standard_noise
from wavestill.known_truth import GaussianAR2
from wavestill.models.block_transformer import BlockTransformer, BlockTransformerConfig
from wavestill.sampling import cached, naive

T = 41
SMALL = {"layers": 2, "channels": 16, "heads": 2, "reach_blocks": 3, "num_mixtures": 2}
CASES = {
    "one": {"block_size": 1, "bits": None},
    "one gaussian": {"block_size": 1, "head": "gaussian", "predictor_order": 4},
    "three": {"block_size": 3, "bits": None, "predictor_order": 2},
    "four gaussian": {"block_size": 4, "head": "gaussian", "predictor_order": 7},
    "five on the grid": {"block_size": 5},
    "longer than the sequence": {"block_size": 64, "head": "gaussian"},
}


def build(**changes) -> BlockTransformer:
    """In float64 with every parameter moved off its initial value."""
    torch.manual_seed(1)
    model = BlockTransformer(BlockTransformerConfig(**(SMALL | changes))).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter) / max(1, parameter.shape[-1]) ** 0.5)
        model.gain.fill_(3.0)
        model.residual_std.copy_(torch.linspace(0.6, 1.0, len(model.residual_std)))
    return model


@pytest.fixture(params=CASES, name="model")
def _model(request):
    return build(**CASES[request.param])


def sequence(batch: int = 3, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.2 * torch.randn(batch, T, generator=generator, dtype=torch.float64)


def probe(laws) -> torch.Tensor:
    """Numbers that tell a law."""
    return laws.log_cdf(torch.tensor(0.1, dtype=torch.float64))


def test_follows_the_protocol(model):
    assert isinstance(model, Autoregressive)


@pytest.mark.parametrize("t", [1, 17, T - 2])
def test_a_step_sees_the_blocks_before_its_own_to_the_bit(model, t):
    x, size = sequence(), model.config.block_size
    y = x.clone()
    y[:, t:] = sequence(seed=4)[:, t:]
    before, after = probe(model.conditionals(x)), probe(model.conditionals(y))
    first = (t // size + 1) * size  # of the next block
    assert torch.equal(before[:, :first], after[:, :first])
    if first < T:
        assert not torch.equal(before[:, first:], after[:, first:])


@pytest.mark.parametrize("sizes", [[40], [0] + [1] * 40, [7, 1, 20, 12], [3, 37], [5] * 8])
def test_advance_in_parts_equals_the_whole(model, sizes):
    x, state, parts, start = sequence(), None, [], 0
    for size in sizes:
        laws, state = model.advance(x[:, start : start + size], None, state)
        parts.append(probe(laws))
        start += size
    assert isinstance(state, State)
    whole = probe(model.conditionals(x))
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-10, atol=1e-10)


def test_a_shorter_sequence_is_the_beginning_of_a_longer_one(model):
    x = sequence()
    whole = probe(model.conditionals(x))
    for length in (1, 2, 16, 30):
        part = probe(model.conditionals(x[:, :length]))
        torch.testing.assert_close(part, whole[:, :length], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("counts", [2, 9, [4, 0, 11], [1, 3, 3], [0, 6, 5]])
def test_rewound_and_fed_again_equals_never_fed(model, counts):
    x, wrong = sequence(), sequence(seed=4)
    each = [counts] * 3 if isinstance(counts, int) else counts
    ends = [20 - count for count in each]
    first = torch.stack([torch.cat([x[i, :end], wrong[i, end:20]]) for i, end in enumerate(ends)])
    _, state = model.advance(first[:, :6])
    _, state = model.advance(first[:, 6:9], None, state)
    _, state = model.advance(first[:, 9:], None, state)
    state.rewind(counts if isinstance(counts, int) else torch.tensor(counts))
    whole = probe(model.conditionals(x))
    at, rows = list(ends), [0, 1, 2]

    def go_on(num: int) -> None:
        nonlocal state
        fed = torch.stack([x[i, at[i] : at[i] + num] for i in rows])
        laws, state = model.advance(fed, None, state)
        for row, i in enumerate(rows):
            expected = whole[i, at[i] + 1 : at[i] + 1 + num]
            torch.testing.assert_close(probe(laws)[row], expected, rtol=1e-10, atol=1e-10)
            at[i] += num

    go_on(3)
    go_on(6)
    state.rewind(torch.tensor([0, 5, 2]))
    at[1], at[2] = at[1] - 5, at[2] - 2
    go_on(1)
    rows = [2, 1]
    state.select(torch.tensor(rows))
    go_on(7)


def test_every_sampler_draws_the_same(model):
    noise = standard_noise(
        model.base, (2, 11), generator=torch.Generator().manual_seed(5), dtype=torch.float64
    )
    x = model.sample(2, length=11, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(x, cached(model, noise), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(x, naive(model, noise), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("block_size", [1, 2])
@pytest.mark.parametrize("head", ["gaussian", "logistics"])
@torch.no_grad()
def test_density_integrates_to_one(block_size, head):
    model = build(block_size=block_size, head=head, bits=None)
    model.gain.fill_(1.0)
    # Trapezoidal rule after x = sinh(t), which reaches the logistic's tails.
    t = torch.linspace(-4, 4, 121, dtype=torch.float64)
    x = torch.cartesian_prod(t, t)
    density = model.log_prob(x.sinh()).exp() * x.cosh().prod(1)
    assert float(density.sum() * (t[1] - t[0]) ** 2) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("block_size", [1, 2])
@torch.no_grad()
def test_masses_of_the_grid_sum_to_one(block_size):
    model = build(block_size=block_size, bits=3)
    grid = [level / 4 - 1 for level in range(8)]
    x = torch.tensor(list(itertools.product(grid, repeat=3)), dtype=torch.float64)
    assert float(model.log_prob(x).exp().sum()) == pytest.approx(1, abs=1e-12)


def linear(block_size: int, taps: list[list[float]], stds: list[float]) -> BlockTransformer:
    """The linear predictor alone, with a Gaussian about it."""
    model = build(block_size=block_size, head="gaussian", predictor_order=len(taps[0]))
    with torch.no_grad():
        for last in (model.output.weight, model.output.bias):
            last.zero_()
        model.predictor.weight.copy_(torch.tensor(taps))
        model.gain.fill_(1.0)
        model.residual_std.copy_(torch.tensor(stds))
    return model


def test_samples_have_the_moments_of_the_process():
    # x_t = 0.8 x_(t-1) + e from 0, two steps at a time: each has its marginal law, and those of a
    # block have the covariance of their predictions, 0.8 and 0.64 times the step before the block.
    model = linear(2, [[0.8], [0.64]], [1.0, math.sqrt(1.64)])
    x = model.sample(3000, length=4, generator=torch.Generator().manual_seed(0))
    expected = torch.diag(torch.tensor([1, 1.64, 1 + 0.64 * 1.64, 1.64 + 0.64**2 * 1.64]))
    for i, j, value in [(1, 2, 0.8), (1, 3, 0.64), (2, 3, 0.8 * 0.64)]:
        expected[i, j] = expected[j, i] = value * 1.64
    variance = expected.diagonal()
    # four standard errors of the mean product of two jointly Gaussian variables
    error = 4 * ((variance.outer(variance) + expected**2) / len(x)).sqrt()
    assert bool(((x.T @ x / len(x) - expected).abs() < error).all())


@pytest.mark.parametrize("block_size", [1, 4])
@torch.no_grad()
def test_calibrated_predictors_reach_the_best_of_their_block_size(block_size):
    process = GaussianAR2(0.9, 0.6, 0.1)
    x = process.sample(120, 200, torch.Generator().manual_seed(0)).double()
    model = linear(block_size, [[0.0] * 8] * block_size, [1.0] * block_size)
    model.calibrate(x)
    a1, a2 = process.coefficients
    response = [1.0, a1]
    while len(response) < block_size:
        response.append(a1 * response[-1] + a2 * response[-2])
    variances = [0.01 * sum(r * r for r in response[: k + 1]) for k in range(block_size)]
    best = sum(0.5 * math.log(2 * math.pi * math.e * v) for v in variances) / block_size
    nats = -float(model.conditionals(x)[:, 8:].log_prob(x[:, 8:]).mean())
    assert nats == pytest.approx(best, abs=0.03)  # 24,000 steps that ring


def test_a_block_is_full_or_told():
    model = build(block_size=4, head="gaussian")
    x = sequence()
    laws, state = model.advance_block(x[:, :0])
    assert laws.batch_shape == (3, 4)
    laws, state = model.advance_block(x[:, :4], state)
    torch.testing.assert_close(probe(laws), probe(model.conditionals(x))[:, 4:8])
    with pytest.raises(ValueError, match="stands at step 7, within a block of 4"):
        model.advance_block(x[:, 4:7], state)


def test_what_makes_no_sense_is_refused():
    model = build(block_size=2)
    for call in (model.conditionals, model.advance, model.log_prob):
        with pytest.raises(ValueError, match="the model is unconditional"):
            call(sequence(), torch.zeros(3))
    with pytest.raises(ValueError, match="length is open"):
        model.sample(1)
    with pytest.raises(ValueError, match="'block_size' is 0"):
        BlockTransformerConfig(0)
    with pytest.raises(ValueError, match="'predictor_order' is -1"):
        BlockTransformerConfig(predictor_order=-1)
    with pytest.raises(ValueError, match="sequences of 5 steps do not tell 4 taps"):
        build(block_size=2, predictor_order=4).calibrate(sequence()[:, :5])

"""Causal attention: the textbook's sum, relative in position, the same however it is cut."""

import math

import pytest
import torch

from wavestill.nn.attention import CausalAttention, CausalTransformer

T = 40


def transformer(reach: int = 5, layers: int = 2) -> CausalTransformer:
    torch.manual_seed(0)
    return CausalTransformer(layers, 16, 2, reach).double().eval()


def activations(seed: int = 1, batch: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, T, 16, generator=generator, dtype=torch.float64)


def test_equals_the_sum_it_stands_for():
    model, reach = transformer(reach=4, layers=1), 4
    layer: CausalAttention = model.layers[0].attention
    x = activations(batch=1)
    got = layer(x, model._view(x, 0), None)[0]
    query, key, value = layer.project(x)[0].view(T, 3, 2, 8).unbind(1)  # (T, heads, D)
    speed = 10_000.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
    expected = torch.zeros(T, 16, dtype=torch.float64)
    for b in range(T):
        seen = range(max(0, b - reach), b + 1)
        for head in range(2):
            scores = []
            for a in seen:  # pairs of channels as complex numbers, turned by the distance
                q, k = (torch.complex(v[:4], v[4:]) for v in (query[b, head], key[a, head]))
                turn = torch.polar(torch.ones(4, dtype=torch.float64), (b - a) * speed)
                scores.append((q * turn * k.conj()).real.sum() / math.sqrt(8))
            weights = torch.stack(scores).softmax(0)
            expected[b, 8 * head : 8 * head + 8] = weights @ value[seen, head]
    torch.testing.assert_close(got, layer.out(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("t", [1, 17, T - 1])
def test_is_causal_to_the_bit(t):
    model, x = transformer(), activations()
    y = x.clone()
    y[:, t:] = activations(seed=2)[:, t:]
    before, after = model(x), model(y)
    assert torch.equal(before[:, :t], after[:, :t])
    assert not torch.equal(before[:, t], after[:, t])


def test_reach_is_exact_and_positions_are_relative():
    model, x = transformer(reach=5, layers=2), activations()
    inside, outside = x.clone(), x.clone()
    inside[:, 29 - 10, 0] += 1
    outside[:, 29 - 11, 0] += 1
    last, seen, unseen = (model(v)[:, 29] for v in (x, inside, outside))
    assert torch.equal(last, unseen)
    assert not torch.equal(last, seen)
    # what lies 10 positions and more behind a later beginning looks the same from there
    torch.testing.assert_close(model(x[:, 7:])[:, 10:], model(x)[:, 17:], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sizes", [[T], [1] * T, [7, 1, 20, 12], [3, 37]])
@pytest.mark.parametrize("reach", [1, 5, 100])
@torch.no_grad()
def test_parts_equal_the_whole(sizes, reach):
    model, x = transformer(reach), activations()
    state, parts, start = model.fresh_state(), [], 0
    for size in sizes:
        parts.append(model(x[:, start : start + size], state))
        start += size
    torch.testing.assert_close(torch.cat(parts, 1), model(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("counts", [4, [4, 0, 2], [1, 3, 3], [2, 2, 2]])
@pytest.mark.parametrize("first", [2, 18])
@torch.no_grad()
def test_what_is_rewound_is_forgotten(counts, first):
    model, x, wrong = transformer(), activations(), activations(seed=2)
    each = [counts] * 3 if isinstance(counts, int) else counts
    ends = [first + 4 - count for count in each]
    fed = torch.stack([torch.cat([x[i, :end], wrong[i, end:]]) for i, end in enumerate(ends)])
    state = model.fresh_state()
    model(fed[:, :first], state)
    model(fed[:, first : first + 4], state)
    state.rewind(counts if isinstance(counts, int) else torch.tensor(counts))
    assert isinstance(state.position, int) == (len(set(each)) == 1)
    got = model(torch.stack([x[i, end : end + 6] for i, end in enumerate(ends)]), state)
    keep = torch.tensor([2, 0])
    state.select(keep)
    later = model(torch.stack([x[i, ends[i] + 6 : ends[i] + 9] for i in keep]), state)
    whole = model(x)
    for i, end in enumerate(ends):
        torch.testing.assert_close(got[i], whole[i, end : end + 6], rtol=1e-10, atol=1e-10)
    for row, i in enumerate(keep):
        expected = whole[i, ends[i] + 6 : ends[i] + 9]
        torch.testing.assert_close(later[row], expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_the_cache_does_not_grow_with_the_sequence():
    model = transformer(reach=3)
    state = model.fresh_state()
    for _ in range(40):
        model(torch.zeros(1, 10, 16, dtype=torch.float64), state)
    assert state.position == 400
    assert {history._buffer.shape[1] for history in state.layers} == {3 + 10}


def test_shapes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="18 channels do not make 4 heads"):
        CausalTransformer(1, 18, 4, reach=3)
    with pytest.raises(ValueError, match="'reach' is 0"):
        CausalTransformer(1, 16, 4, reach=0)

"""Causal convolution and its history: equal to a plain Conv1d, however the sequence is cut."""

import pytest
import torch
from torch.nn import functional

from wavestill.nn.causal import CausalConv, History, with_past


@pytest.mark.parametrize(("filter_width", "dilation"), [(1, 1), (2, 1), (3, 1), (3, 4), (2, 8)])
def test_equals_a_padded_conv1d(filter_width, dilation):
    conv = CausalConv(3, 5, filter_width, dilation).double()
    x = torch.randn(2, 30, 3, dtype=torch.float64)
    kernel = conv.taps.weight.view(5, filter_width, 3).transpose(1, 2)  # (out, in, K)
    padded = functional.pad(x.transpose(1, 2), ((filter_width - 1) * dilation, 0))
    expected = functional.conv1d(padded, kernel, conv.taps.bias, dilation=dilation)
    torch.testing.assert_close(conv(x), expected.transpose(1, 2))


@pytest.mark.parametrize("sizes", [[30], [1] * 30, [7, 1, 15, 7], [2, 28]])
@pytest.mark.parametrize("room", [1, 4, 1024])
def test_history_gives_what_came_before(sizes, room):
    x = torch.randn(2, 30, 3)
    history = History(reach=6, room=room)
    start = 0
    for size in sizes:
        got = history.extend(x[:, start : start + size])
        whole = functional.pad(x, (0, 0, 6, 0))
        torch.testing.assert_close(got, whole[:, start : start + 6 + size], rtol=0, atol=0)
        start += size


def test_history_does_not_grow_with_the_sequence():
    history = History(reach=3, room=16)
    for _ in range(1000):
        history.extend(torch.randn(1, 1, 2))
    assert history._buffer.shape == (1, 19, 2)


def test_no_reach_needs_no_past():
    x = torch.randn(1, 4, 2)
    assert torch.equal(with_past(x, 0, None), x)
    assert torch.equal(with_past(x, 0, History(0)), x)


@pytest.mark.parametrize("shape", [(1, 4, 2), (3, 4, 2), (2, 4, 1)])
def test_history_refuses_another_batch_instead_of_spreading_it(shape):
    history = History(reach=2)
    history.extend(torch.zeros(2, 3, 2))
    with pytest.raises(ValueError, match="begin another batch without a state"):
        history.extend(torch.zeros(shape))


@pytest.mark.parametrize("room", [1, 4, 1024])
@pytest.mark.parametrize("counts", [3, [3, 3], [0, 5], [5, 2], [4, 0]])
def test_what_is_rewound_is_forgotten(room, counts):
    history = History(reach=6, room=room)
    x, y = torch.randn(2, 12, 3), torch.randn(2, 4, 3)
    history.extend(x[:, :7])
    history.extend(x[:, 7:])
    history.rewind(counts if isinstance(counts, int) else torch.tensor(counts))
    got = history.extend(y)
    for i, count in enumerate([counts] * 2 if isinstance(counts, int) else counts):
        whole = functional.pad(torch.cat([x[i, : 12 - count], y[i]]), (0, 0, 6, 0))
        assert torch.equal(got[i], whole[-10:])


def test_selected_sequences_go_on():
    history = History(reach=2)
    x = torch.randn(3, 4, 1)
    history.extend(x)
    history.select(torch.tensor([2, 0]))
    got = history.extend(torch.zeros(2, 1, 1))
    assert torch.equal(got[:, :2], x[[2, 0], 2:])

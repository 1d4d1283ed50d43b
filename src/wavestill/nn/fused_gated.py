r"""A gated layer's forward and backward on a CPU, in oneDNN's own operations.

The same layer as in `nn/gated.py`,

.. math::
    a = \tanh(W_f * h + V_f c) \odot \sigma(W_g * h + V_g c), \qquad
    h \leftarrow h + W_r a, \qquad o \leftarrow o + W_s a,

whose gradient is written out instead of recorded operation by operation. What that buys, measured
by `benchmarks/training_speed.py`:

- Time-major activations `(B, T, C)` are, without a copy, what oneDNN calls channels-last images of
  one row. So the dilated taps are one of its convolutions, forward and backward, and nobody lays
  shifted copies side by side for them.
- `torch.mm` in float32 belongs to MKL, which runs at half speed on other vendors' processors;
  gradients of weights come from oneDNN too, as a convolution's.
- oneDNN adds the residual path and the skip sum while a product's result is in registers, and its
  tanh takes a fifth of the time of PyTorch's.
- Only tanh, sigmoid and the layer's input are kept for the backward pass.
"""

from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from wavestill.nn import onednn

_LEAST_PIECES = 16
"""PyTorch gives 1x1 convolutions of fewer images to MKL when it has one thread."""

_PIECE_SAMPLES = 256
"""Samples of an image at most, where their number is ours to choose: a piece stays in cache."""


def can_fuse(h: Tensor, rows: Tensor | None, subframe_samples: int) -> bool:
    """Whether this call trains on a CPU, whole sub-frames at a time, and nothing else watches.

    Arguments:
        h: The layer's input `(B, n, R)`.
        rows: Its conditioning `(B, S, 2 G)`, or None.
        subframe_samples: Samples per row.
    """
    if not torch.is_grad_enabled() or h.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    if torch._C._are_functorch_transforms_active():  # they take PyTorch's own operations apart
        return False
    if rows is not None and rows.shape[1] not in (1, h.shape[1] / max(subframe_samples, 1)):
        return False
    return onednn.onednn_fuses(compute_dtype(h))


def compute_dtype(h: Tensor) -> torch.dtype:
    """The precision of products here: the tensor's own, or that of autocast."""
    if torch.is_autocast_enabled("cpu") and h.dtype is not torch.float64:
        return torch.get_autocast_dtype("cpu")
    return h.dtype


def fused_gated(
    h: Tensor,
    total: Tensor | None,
    rows: Tensor | None,
    taps: tuple[Tensor, Tensor],
    out: tuple[Tensor, Tensor],
    dilation: int,
) -> tuple[Tensor, Tensor | None]:
    """The new residual path `(B, n, R)` and skip sum `(B, n, S)` (None without skips).

    Differentiable, twice too: a gradient of the gradient records the plain operations.

    Arguments:
        h: Residual path `(B, n, R)`.
        total: Skip sum so far, `(B, n, S)`; None at the first layer.
        rows: Projected conditioning `(B, S', 2 G)`: one row, or `n / subframe_samples`; None for
            none.
        taps: Weight `(2 G, K R)`, taps side by side, and bias `(2 G,)` of the convolution.
        out: Weight `(R + S, G)` and bias `(R + S,)` of the two 1x1 products.
        dilation: Distance of the taps in samples.
    """
    dtype = compute_dtype(h)
    h, weights = h.to(dtype).contiguous(), [x.to(dtype) for x in (*taps, *out)]
    total, rows = (None if x is None else x.to(dtype).contiguous() for x in (total, rows))
    with torch.autocast("cpu", enabled=False):
        return cast(
            "tuple[Tensor, Tensor | None]",
            _FusedGated.apply(dilation, h, total, rows, *weights),  # type: ignore[no-untyped-call]
        )


class _FusedGated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (PyTorch's own)
        dilation: int,
        h: Tensor,
        total: Tensor | None,
        rows: Tensor | None,
        taps: Tensor,
        taps_bias: Tensor,
        out: Tensor,
        out_bias: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        width = h.shape[-1]
        past = _image(F.pad(h, (0, 0, _reach(taps, width, dilation), 0)))
        convolved = F.conv2d(past, _filter(taps, width), taps_bias, dilation=(1, dilation))
        gates = _sequence(convolved)  # (B, n, 2 G)
        if rows is not None:
            _by_row(gates, rows).add_(rows.unsqueeze(2))
        filtered, gate = gates.chunk(2, dim=-1)
        filtered, gate = onednn.tanh(filtered), torch.sigmoid(gate)
        active = filtered * gate
        new = onednn.product(active, out[:width], out_bias[:width], h)
        skips = None
        if len(out) > width:
            skips = onednn.product(active, out[width:], out_bias[width:], total)
        ctx.dilation, ctx.begins_sum = dilation, total is None
        ctx.save_for_backward(h, rows, taps, taps_bias, out, out_bias, filtered, gate)
        return new, skips

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        d_new: Tensor,
        d_skips: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        *inputs, filtered, gate = ctx.saved_tensors
        d_new = d_new.contiguous()
        d_skips = None if d_skips is None else d_skips.contiguous()
        if torch.is_grad_enabled():  # somebody wants this gradient's own gradient
            found = _recorded(inputs, ctx.dilation, d_new, d_skips)
        else:
            needed = [x for i, x in enumerate(ctx.needs_input_grad) if i not in (0, 2)]
            found = _written_out(inputs, filtered, gate, ctx.dilation, d_new, d_skips, needed)
        return None, found[0], None if ctx.begins_sum else d_skips, *found[1:]


Inputs = list[Tensor | None]
"""The tensors a layer's gradient is of: h, rows, taps and their bias, products and theirs."""


def _written_out(
    inputs: Inputs,
    filtered: Tensor,
    gate: Tensor,
    dilation: int,
    d_new: Tensor,
    d_skips: Tensor | None,
    needed: list[bool],
) -> Inputs:
    """Gradients of the inputs, None where none is needed (a frozen teacher's weights)."""
    h, rows, taps, _, out, _ = cast("list[Tensor]", inputs)
    width = h.shape[-1]
    d_active = onednn.product(d_new, out[:width].T.contiguous())
    if d_skips is not None:
        d_active = onednn.product(d_skips, out[width:].T.contiguous(), None, d_active)
    found: Inputs = [None] * len(inputs)
    if needed[4]:
        active = filtered * gate
        parts = [_weight_gradient(d, active) for d in (d_new, d_skips) if d is not None]
        found[4], found[5] = (torch.cat(gradients) for gradients in zip(*parts, strict=True))
    d_gates = h.new_empty(*h.shape[:2], 2 * gate.shape[-1])
    halves = d_gates.chunk(2, dim=-1)
    torch.mul(d_active, gate, out=halves[0])
    torch.mul(d_active, filtered, out=halves[1])
    torch.ops.aten.tanh_backward(halves[0], filtered, grad_input=halves[0])
    torch.ops.aten.sigmoid_backward(halves[1], gate, grad_input=halves[1])
    if needed[1]:
        found[1] = _by_row(d_gates, rows).sum(2)
    reach = _reach(taps, width, dilation)
    if needed[0]:
        filters = _filter(taps, width)
        spread = F.conv_transpose2d(_image(d_gates), filters, dilation=(1, dilation))
        found[0] = _sequence(spread)[:, reach:] + d_new
    if needed[2]:
        found[2], found[3] = _weight_gradient(d_gates, _side_by_side(h, reach, dilation))
    return found


def _recorded(inputs: Inputs, dilation: int, d_new: Tensor, d_skips: Tensor | None) -> Inputs:
    """The same as operations that have gradients themselves."""
    h, rows, taps, taps_bias, out, out_bias = cast("list[Tensor]", inputs)
    width = h.shape[-1]
    past = _side_by_side(h, _reach(taps, width, dilation), dilation)
    gates = F.linear(past, taps, taps_bias)
    if inputs[1] is not None:
        gates = (_by_row(gates, rows) + rows.unsqueeze(2)).view_as(gates)
    filtered, gate = gates.chunk(2, dim=-1)
    both = F.linear(torch.tanh(filtered) * torch.sigmoid(gate), out, out_bias)
    both = both + F.pad(h, (0, len(out) - width))
    gradient = d_new if d_skips is None else torch.cat([d_new, d_skips], dim=-1)
    wanted = [x for x in inputs if x is not None and x.requires_grad]
    found = iter(torch.autograd.grad(both, wanted, gradient, create_graph=True))
    return [next(found) if x is not None and x.requires_grad else None for x in inputs]


def _reach(taps: Tensor, width: int, dilation: int) -> int:
    """Past samples that the first tap sees."""
    return (taps.shape[1] // width - 1) * dilation


def _image(x: Tensor) -> Tensor:
    """`(B, n, C)` as oneDNN's channels-last `(B, C, 1, n)`; the same memory."""
    return x.unsqueeze(1).permute(0, 3, 1, 2)


def _sequence(image: Tensor) -> Tensor:
    """The way back."""
    return image.permute(0, 2, 3, 1).squeeze(1)


def _filter(taps: Tensor, width: int) -> Tensor:
    """Taps side by side `(O, K R)` as a channels-last filter `(O, R, 1, K)`; the same memory."""
    return taps.view(len(taps), 1, -1, width).permute(0, 3, 1, 2)


def _by_row(x: Tensor, rows: Tensor) -> Tensor:
    """`(B, n, C)` as `(B, S, n / S, C)`: the samples under each row."""
    return x.view(len(x), rows.shape[1], -1, x.shape[-1])


def _side_by_side(h: Tensor, reach: int, dilation: int) -> Tensor:
    """The samples that each tap sees, `(B, n, K R)`."""
    padded = F.pad(h, (0, 0, reach, 0))
    starts = range(0, reach + 1, dilation)
    return torch.cat([padded[:, start : start + h.shape[1]] for start in starts], dim=-1)


def _weight_gradient(d: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of weight and bias of a product `(B, n, I)` to `(B, n, O)`."""
    num_out, num_in, num = d.shape[-1], x.shape[-1], d.shape[0] * d.shape[1]
    d, x = d.reshape(num, num_out), x.reshape(num, num_in)
    pieces = _pieces(num)
    if d.dtype is not torch.float32 or pieces < _LEAST_PIECES:
        return d.T @ x, d.sum(0)
    weight = x.new_empty(()).expand(num_out, num_in, 1, 1)
    found = torch.ops.aten.convolution_backward(
        *(_image(v.view(pieces, num // pieces, -1)) for v in (d, x)),
        weight,
        [num_out],
        [1, 1],
        [0, 0],
        [1, 1],
        False,  # noqa: FBT003
        [0, 0],
        1,
        [False, True, True],
    )
    return found[1].reshape(num_out, num_in), found[2]


@cache
def _pieces(num: int) -> int:
    """A divisor that leaves pieces of at most a few hundred samples, which stay in cache."""
    longest = max(d for d in range(1, min(num, _PIECE_SAMPLES) + 1) if num % d == 0)
    return num // longest

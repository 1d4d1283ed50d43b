r"""The gated residual stack packed for inference.

A layer of `nn/gated.py` without skips is computed as

.. math::
    u_t = [h_{t-(K-1)d}, \ldots, h_{t-d}, h_t, e_t], \qquad
    [p, q] = \tanh(u W + b), \qquad h \leftarrow h + (p + p \odot q) W_r + b_r

The taps lie side by side, and beside them stands the place :math:`e_t` of the sample among this
chunk's conditioning rows, whose projections stand below the taps' weights in `W`. So the product
itself interpolates and repeats the rows at the price of a few columns, nothing is left to add
before the nonlinearity, and oneDNN applies that while the result is still in registers. The sum
with `h` joins the second product in the same way. The gate is a tanh as well,

.. math:: \sigma(g) = \tfrac12 (1 + \tanh \tfrac g2),

its halves folded into the weights (exactly: they are powers of two), so that filter and gate are
one product.

Where oneDNN does not serve (float64, other processors) the same equations run on PyTorch's own
operations. On processors that the native kernel knows, students use that instead
(`models/packed_flow.py`).
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavestill.nn.causal import History, with_past
from wavestill.nn.conditioning import Encoded
from wavestill.nn.gated import GatedLayer, GatedStack
from wavestill.nn.onednn import onednn_fuses, product, product_tanh

# Columns of the places come in multiples of this: memory stays aligned, and oneDNN, which
# generates code for every shape it meets (about 1 ms each), meets few of them.
_COLUMNS_STEP = 8


class PackedStack(nn.Module):
    """A `GatedStack` without skips, for inference: the same map with the same state.

    Arguments:
        stack: The stack; its weights are copied.
        dtype: Of weights and activations; None for the stack's own. In bfloat16 every product is
            summed in float32 and rounded once.
        rows_per_frame: Conditioning rows per frame, if those from one frame's centre to the next
            lie on a line, as `nn/frames.py` makes them: then the two ends stand for all. 1 where
            rows are not known to.

    Raises:
        ValueError: If the stack has skips.
    """

    taps: Tensor
    taps_bias: Tensor
    project: Tensor
    residual: Tensor
    residual_bias: Tensor

    @torch.no_grad()
    def __init__(
        self, stack: GatedStack, dtype: torch.dtype | None = None, *, rows_per_frame: int = 1
    ) -> None:
        super().__init__()
        if stack.skip_channels:
            raise ValueError(
                f"the stack has {stack.skip_channels} skip channels; only one that ends in its "
                "residual path (skip_channels=0) can be packed"
            )
        layers = [cast("GatedLayer", layer) for layer in stack.layers]
        self.receptive_field = stack.receptive_field
        self._spans = [(layer.conv.reach, layer.conv.dilation) for layer in layers]
        halves = torch.ones(layers[0].conv.taps.out_features)  # 1 for the filter, 1/2 for the gate
        halves[len(halves) // 2 :] = 0.5
        halves = halves.to(layers[0].conv.taps.weight)
        taps = torch.stack([layer.conv.taps.weight.T for layer in layers])  # (L, K R, 2 G)
        bias = torch.stack([layer.conv.taps.bias for layer in layers])
        self._keep("taps", taps * halves, dtype)
        self._keep("taps_bias", bias * halves, dtype)
        self._keep("residual", torch.stack([0.5 * layer.out.weight for layer in layers]), dtype)
        self._keep("residual_bias", torch.stack([layer.out.bias for layer in layers]), dtype)
        self._fuses = onednn_fuses(self.taps.dtype)
        self._rows_per_frame = rows_per_frame
        self.is_conditioned = stack.project is not None
        if stack.project is not None:
            project = torch.stack([part.T for part in stack.project.weight.chunk(len(layers))])
            self._keep("project", project * halves, dtype)  # (L, C, 2 G)

    def histories(self) -> list[History]:
        """Fresh state: silence before the first sample."""
        return [History(reach) for reach, _ in self._spans]

    @torch.no_grad()
    def forward(
        self, h: Tensor, encoded: Encoded | None, state: list[History] | None = None
    ) -> Tensor:
        """`h (B, n, R)` to the residual path behind the last layer, in the weights' dtype."""
        batch, n, channels = h.shape
        if n == 0:  # and perhaps no conditioning left
            return h.to(self.taps.dtype)
        taps, place = self.taps, None
        if self.is_conditioned and encoded is not None:
            taps, place = self._conditioned(encoded, batch, n)
        fuses = self._fuses and h.device.type == "cpu"
        linear_tanh, linear_add = (product_tanh, product) if fuses else (_tanh, _add)
        h = h.to(taps.dtype).reshape(batch * n, channels)
        for i, (reach, dilation) in enumerate(self._spans):
            past = None if state is None else state[i]
            padded = with_past(h.view(batch, n, channels), reach, past)
            parts = [padded[:, start : start + n] for start in range(0, reach + 1, dilation)]
            if place is not None:
                parts.append(place)
            u = torch.cat(parts, dim=-1).flatten(0, 1)
            p, q = linear_tanh(u, taps[i].T, self.taps_bias[i]).chunk(2, dim=-1)
            gated = torch.addcmul(p, p, q)
            h = linear_add(gated, self.residual[i], self.residual_bias[i], h)
        return h.view(batch, n, channels)

    def _conditioned(self, encoded: Encoded, batch: int, n: int) -> tuple[Tensor, Tensor]:
        """The taps with this chunk's rows below, and the samples' places in them, `(B, n, S)`.

        Every sequence has columns of its own.
        """
        features, lead = encoded.rows(n)
        num_rows, dtype, device = features.shape[1], self.taps.dtype, features.device
        weights: Tensor | None = None  # (rows, columns)
        row = torch.zeros(n, dtype=torch.long, device=device)
        if encoded.subframe_samples:
            start = lead.unsqueeze(1) if isinstance(lead, Tensor) else lead
            row = (start + torch.arange(n, device=device)) // encoded.subframe_samples
            if isinstance(encoded.position, int):  # else each sequence has lines of its own
                first = encoded.position // encoded.subframe_samples
                ends, along = _lines(first, num_rows, self._rows_per_frame, device)
                if len(ends) < num_rows:
                    features, weights = features[:, ends], along.to(dtype)
        if weights is None:  # every row for itself
            weights = torch.eye(num_rows, dtype=dtype, device=device)
        num_columns = batch * features.shape[1]
        features = features.to(dtype).expand(batch, -1, -1).flatten(0, 1)
        rows = torch.matmul(features, self.project)  # (L, S, 2 G)
        spare = rows.new_zeros(len(rows), -num_columns % _COLUMNS_STEP, rows.shape[2])
        place = rows.new_zeros(batch, n, num_columns + spare.shape[1])
        every = torch.arange(batch, device=device)
        own = place[..., :num_columns].view(batch, n, batch, weights.shape[1])
        own[every, :, every] = weights[row]
        return torch.cat([self.taps, rows, spare], dim=1), place

    def _keep(self, name: str, weights: Tensor, dtype: torch.dtype | None) -> None:
        self.register_buffer(name, weights.to(dtype or weights.dtype).contiguous())


def _lines(
    first: int, num_rows: int, rows_per_frame: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The ends of the lines on which `num_rows` rows from `first` on lie, and where they lie.

    Returns:
        The beginnings and then the ends of the lines, `(2 M,)`, counted from `first`; and the
        weights `(num_rows, 2 M)` that make the rows of them.
    """
    rows = torch.arange(num_rows, device=device)
    line = (first + rows + (rows_per_frame + 1) // 2) // rows_per_frame
    lengths = torch.unique_consecutive(line, return_counts=True)[1]
    line = line - line[:1]
    lasts = lengths.cumsum(0) - 1
    firsts = lasts - lengths + 1
    along = (rows - firsts[line]).double() / (lengths[line] - 1).clamp(min=1)
    on_line = F.one_hot(line, len(lengths))
    weights = torch.cat([on_line * (1 - along.unsqueeze(1)), on_line * along.unsqueeze(1)], dim=1)
    return torch.cat([firsts, lasts]), weights


def _tanh(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`tanh(x weight^T + bias)` for `x (N, C)`."""
    return F.linear(x, weight, bias).tanh_()


def _add(x: Tensor, weight: Tensor, bias: Tensor, other: Tensor) -> Tensor:
    """`x weight^T + bias + other` for `x (N, C)`."""
    return F.linear(x, weight, bias).add_(other)

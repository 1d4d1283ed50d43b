r"""The gated residual stack of WaveNet.

With `*` the dilated causal convolution and `c` the projected conditioning, layer `l` computes

.. math::
    a = \tanh(W_f * h + V_f c) \odot \sigma(W_g * h + V_g c), \qquad
    h \leftarrow h + W_r a, \qquad o \leftarrow o + W_s a

References:
    | WaveNet (van den Oord et al., 2016), equations 2 and 5, https://arxiv.org/abs/1609.03499
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavestill.nn.causal import CausalConv, History
from wavestill.nn.conditioning import Encoded, add_rows
from wavestill.nn.fused_gated import can_fuse, fused_gated


class GatedLayer(nn.Module):
    """One dilated gated layer with a residual and, where `skip_channels > 0`, a skip output."""

    def __init__(
        self,
        residual_channels: int,
        gate_channels: int,
        skip_channels: int,
        filter_width: int,
        dilation: int,
    ) -> None:
        super().__init__()
        self.split = (residual_channels, skip_channels)
        self.conv = CausalConv(residual_channels, 2 * gate_channels, filter_width, dilation)
        self.out = nn.Linear(gate_channels, residual_channels + skip_channels)

    @property
    def weights(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Weight and bias of the taps, and of the products that follow the gate."""
        taps = self.conv.taps
        return (taps.weight, taps.bias), (self.out.weight, self.out.bias)

    def forward(
        self,
        h: Tensor,
        rows: Tensor | None,
        subframe_samples: int,
        lead: int | Tensor,
        history: History | None,
    ) -> tuple[Tensor, Tensor]:
        """`h (B, n, R)` and rows `(B, S, 2G)` to the new `h` and what joins the skip sum."""
        gates = self.conv(h, history)
        if rows is not None:
            gates = add_rows(gates, rows, subframe_samples, lead)
        filtered, gate = gates.chunk(2, dim=-1)
        residual, skip = self.out(torch.tanh(filtered) * torch.sigmoid(gate)).split(
            self.split, dim=-1
        )
        return h + residual, skip


class GatedStack(nn.Module):
    """A stack of gated layers whose dilations run 1, 2, 4, ... in cycles.

    One forward for whole clips (no state), chunks and single steps (a list of histories from
    `histories()`).

    Arguments:
        num_layers: Layers in all.
        dilation_cycle: Layers after which the dilation is 1 again.
        residual_channels: Width of the residual path.
        gate_channels: Width of each half of the gate.
        skip_channels: Width of the skip sum; 0 for a stack that ends in its residual path.
        filter_width: Taps of each convolution.
        condition_channels: Columns of the encoded conditioning; 0 for none.
        dropout: Probability of dropping an input of a layer while training.
    """

    def __init__(
        self,
        num_layers: int,
        dilation_cycle: int,
        residual_channels: int,
        gate_channels: int,
        skip_channels: int,
        filter_width: int,
        condition_channels: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.skip_channels = skip_channels
        self.dropout = dropout
        self.layers = nn.ModuleList(
            GatedLayer(
                residual_channels,
                gate_channels,
                skip_channels,
                filter_width,
                2 ** (i % dilation_cycle),
            )
            for i in range(num_layers)
        )
        self.project = (
            nn.Linear(condition_channels, num_layers * 2 * gate_channels, bias=False)
            if condition_channels
            else None
        )

    @property
    def receptive_field(self) -> int:
        """Inputs that an output depends on, itself included."""
        return 1 + sum(layer.conv.reach for layer in self._layers())

    def histories(self) -> list[History]:
        """Fresh state: silence before the first sample."""
        return [History(layer.conv.reach) for layer in self._layers()]

    def forward(
        self, h: Tensor, encoded: Encoded | None, state: list[History] | None = None
    ) -> Tensor:
        """`h (B, n, R)` to the skip sum `(B, n, S)`, or without skips to the residual path."""
        n = h.shape[1]
        rows, subframe = None, 0
        lead: int | Tensor = 0
        if self.project is not None and encoded is not None:
            features, lead = encoded.rows(n)
            rows = self.project(features).chunk(len(self.layers), dim=-1)
            subframe = encoded.subframe_samples
        total: Tensor | None = None
        for i, layer in enumerate(self._layers()):
            if self.dropout:
                h = F.dropout(h, self.dropout, self.training)
            own = None if rows is None else rows[i]
            # a layer that is listened to (`FeatureMatching`) must be called
            if state is None and not layer._forward_hooks and can_fuse(h, own, subframe):
                h, total = fused_gated(h, total, own, *layer.weights, layer.conv.dilation)
                continue
            h, skip = layer(h, own, subframe, lead, None if state is None else state[i])
            if self.skip_channels:
                total = skip if total is None else total + skip
        return h if total is None else total

    def _layers(self) -> list[GatedLayer]:
        return [cast("GatedLayer", layer) for layer in self.layers]

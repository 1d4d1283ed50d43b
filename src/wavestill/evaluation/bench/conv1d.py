"""A student written the usual way, as the baseline of its own speed: channels first, `conv1d`.

What public WaveNet code does: one dilated convolution per layer over `(B, C, T)`, conditioning
brought to sample rate first and projected by a 1x1 convolution in every layer. The same numbers
as `IAFWaveNet.rsample`, computed without its layout, its low-rate projections and its chunks.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from wavestill.density import Context
from wavestill.models import IAFWaveNet
from wavestill.models.affine_iaf import AffineIAF
from wavestill.nn.causal import CausalConv
from wavestill.nn.gated import GatedLayer


class _Layer(NamedTuple):
    """Weights of a gated layer, `(outputs, inputs, taps)`."""

    dilation: int
    reach: int
    taps: Tensor
    taps_bias: Tensor
    condition: Tensor | None
    out: Tensor
    out_bias: Tensor


class Conv1dStudent:
    """The same map from noise to sound as a student's.

    Arguments:
        student: Its weights are copied as they are now.
    """

    def __init__(self, student: IAFWaveNet) -> None:
        self._student = student
        self._flows = [
            (flow, _layers(flow)) for flow in (cast("AffineIAF", flow) for flow in student.flows)
        ]

    @torch.no_grad()
    def sample(self, noise: Tensor, context: Context = None) -> Tensor:
        """The sound `(B, T)` of base draws `(B, T)`; the context as for `rsample`."""
        student, (_, num_samples) = self._student, noise.shape
        encoded = student.encode(context)
        features, source = None, None
        if encoded is not None:
            repeats = encoded.subframe_samples or num_samples
            features = encoded.features.mT.repeat_interleave(repeats, 2)[..., :num_samples]
            source = None if encoded.source is None else encoded.source.mT[..., :num_samples]
        value = noise
        for flow, layers in self._flows:
            h = F.pad(value, (1, 0))[:, None, :-1]  # (B, 1, T)
            h = h if source is None else torch.cat([h, source], 1)
            h = F.conv1d(h, flow.input.weight.unsqueeze(-1), flow.input.bias)
            for layer in layers:
                padded = F.pad(h, (layer.reach, 0))
                gates = F.conv1d(padded, layer.taps, layer.taps_bias, dilation=layer.dilation)
                if layer.condition is not None and features is not None:
                    gates = gates + F.conv1d(features, layer.condition)
                filtered, gate = gates.chunk(2, 1)
                h = h + F.conv1d(filtered.tanh() * gate.sigmoid(), layer.out, layer.out_bias)
            out = F.conv1d(F.relu(h), flow.output.weight.unsqueeze(-1), flow.output.bias)
            loc, log_scale = out.unbind(1)
            value = loc + log_scale.clamp(-9.0, 7.0).exp() * value
        if student.synthesis is not None:
            value = student.synthesis(student.synthesis.residual_std * value)
        return value / student.gain


def _layers(flow: AffineIAF) -> list[_Layer]:
    stack = flow.stack
    own = [cast("GatedLayer", layer) for layer in stack.layers]
    conditions: list[Tensor | None] = [None] * len(own)
    if stack.project is not None:
        conditions = [v.unsqueeze(-1).clone() for v in stack.project.weight.chunk(len(own))]
    return [
        _Layer(
            layer.conv.dilation,
            layer.conv.reach,
            by_tap(layer.conv),
            layer.conv.taps.bias,
            condition,
            layer.out.weight.unsqueeze(-1),
            layer.out.bias,
        )
        for layer, condition in zip(own, conditions, strict=True)
    ]


def by_tap(conv: CausalConv) -> Tensor:
    """Weights `(outputs, inputs, taps)` from those of taps side by side."""
    outputs, columns = conv.taps.weight.shape
    side_by_side = conv.taps.weight.view(outputs, conv.filter_width, columns // conv.filter_width)
    return side_by_side.mT.contiguous()

"""The student as it is usually written: `(B, C, T)`, dilated `Conv1d`, everything at sample rate.

The network and the weights are those of an `IAFWaveNet`, so the outputs can be compared; the
layout is that of the public repositories: one padded convolution, a 1x1 convolution of the
conditioning at sample rate and one of the gated sum in every layer, over the whole sound at once.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavestill.density import Context
from wavestill.models import IAFWaveNet
from wavestill.models.affine_iaf import AffineIAF
from wavestill.nn.gated import GatedLayer


class PlainLayer(nn.Module):
    """A gated residual layer of three convolutions."""

    def __init__(self, layer: GatedLayer, project: Tensor | None) -> None:
        super().__init__()
        taps = layer.conv.taps.weight.unflatten(1, (layer.conv.filter_width, -1))
        self.conv = _conv(taps, layer.conv.taps.bias, layer.conv.dilation)
        self.condition = None if project is None else _conv(project.unsqueeze(1))
        self.out = _conv(layer.out.weight.unsqueeze(1), layer.out.bias)

    def forward(self, h: Tensor, condition: Tensor | None) -> Tensor:
        """`h (B, C, T)` to the layer's output."""
        gates = self.conv(h)[..., : h.shape[-1]]
        if self.condition is not None:
            gates = gates + self.condition(condition)
        filtered, gate = gates.chunk(2, dim=1)
        return h + self.out(torch.tanh(filtered) * torch.sigmoid(gate))


class PlainFlow(nn.Module):
    """One affine step of plain layers."""

    def __init__(self, flow: AffineIAF) -> None:
        super().__init__()
        self.input = _conv(flow.input.weight.unsqueeze(1), flow.input.bias)
        project = flow.stack.project
        num_layers = len(flow.stack.layers)
        rows = [None] * num_layers if project is None else project.weight.chunk(num_layers)
        self.layers = nn.ModuleList(map(PlainLayer, flow.stack.layers, rows))
        self.output = _conv(flow.output.weight.unsqueeze(1), flow.output.bias)

    def forward(self, z: Tensor, condition: Tensor | None, source: Tensor | None) -> Tensor:
        """`z (B, 1, T)` to the flow's output."""
        previous = F.pad(z, (1, 0))[..., :-1]
        h = self.input(previous if source is None else torch.cat([previous, source], 1))
        for layer in self.layers:
            h = layer(h, condition)
        loc, log_scale = self.output(F.relu(h)).chunk(2, dim=1)
        return loc + log_scale.clamp(-9.0, 7.0).exp() * z


class PlainStudent(nn.Module):
    """An `IAFWaveNet` of plain convolutions, with copied weights.

    Arguments:
        student: The student.
    """

    def __init__(self, student: IAFWaveNet) -> None:
        super().__init__()
        self.student = student  # for its conditioning network, gain and synthesis filter
        self.flows = nn.ModuleList(map(PlainFlow, student.flows))

    @torch.no_grad()
    def forward(self, noise: Tensor, context: Context = None) -> Tensor:
        """The sound that `noise (B, T)` maps to."""
        encoded = self.student.encode(context)
        condition, source = None, None
        if encoded is not None:
            repeats = encoded.subframe_samples or noise.shape[1]
            condition = encoded.features.transpose(1, 2).repeat_interleave(repeats, dim=2)
            source = None if encoded.source is None else encoded.source.transpose(1, 2)
        value = noise.unsqueeze(1)
        for flow in self.flows:
            value = flow(value, condition, source)
        x = value.squeeze(1)
        if self.student.synthesis is not None:
            x = self.student.synthesis(self.student.synthesis.residual_std * x)
        return x / self.student.gain


@torch.no_grad()
def _conv(weight: Tensor, bias: Tensor | None = None, dilation: int = 1) -> nn.Conv1d:
    """The causal convolution (its end still to be cut) of `weight (out, taps, in)`."""
    out_channels, width, in_channels = weight.shape
    conv = nn.Conv1d(
        in_channels,
        out_channels,
        width,
        dilation=dilation,
        padding=(width - 1) * dilation,
        bias=bias is not None,
    ).to(weight)
    conv.weight.copy_(weight.transpose(1, 2))
    if bias is not None and conv.bias is not None:
        conv.bias.copy_(bias)
    return conv

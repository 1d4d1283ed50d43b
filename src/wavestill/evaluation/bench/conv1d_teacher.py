"""A teacher written the usual way, as the baseline of its own training: channels first, `Conv1d`.

What public WaveNet code does: conditioning brought to sample rate first, then in every layer one
dilated convolution over `(B, C, T)`, a 1x1 convolution of the conditioning, the gate, and 1x1
convolutions to the residual path and the skip sum; autograd records it operation by operation.
The same law as `WaveNet.conditionals`, without its layout, its low-rate projections and its own
backward pass.
"""

from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavestill.density import Context
from wavestill.distributions import Discretized, Distribution, Logistic, Mixture
from wavestill.evaluation.bench.conv1d import by_tap
from wavestill.models import WaveNet
from wavestill.nn.gated import GatedLayer


class Conv1dTeacher(nn.Module):
    """The same density of waveforms as a teacher's, with parameters of its own.

    Arguments:
        teacher: Its weights are copied as they are now.

    Raises:
        ValueError: If the teacher's head is no mixture of logistics on a grid.
    """

    gain: Tensor
    residual_std: Tensor

    def __init__(self, teacher: WaveNet) -> None:
        super().__init__()
        config = teacher.config
        if config.head != "logistics" or config.bits is None:
            raise ValueError(
                f"the head is '{config.head}' of {config.bits} bits; only the mixture of "
                "logistics on a grid is written here"
            )
        self.config = config
        self.condition = deepcopy(teacher)  # the conditioning network alone is used
        for unused in ("input", "stack", "hidden", "output", "predictor"):
            setattr(self.condition, unused, None)
        columns: list[Tensor | None] = [None] * config.layers
        if teacher.stack.project is not None:
            columns = [*teacher.stack.project.weight.detach().chunk(config.layers)]
        own = [cast("GatedLayer", layer) for layer in teacher.stack.layers]
        self.input = _conv(teacher.input.weight[..., None], teacher.input.bias)
        self.layers = nn.ModuleList(map(_Layer, own, columns))
        self.hidden = _conv(teacher.hidden.weight[..., None], teacher.hidden.bias)
        self.output = _conv(teacher.output.weight[..., None], teacher.output.bias)
        self.predictor = None
        if teacher.predictor is not None:
            self.predictor = _conv(teacher.predictor.weight[None], None)
        self.register_buffer("gain", teacher.gain.clone())
        self.register_buffer("residual_std", teacher.residual_std.clone())

    def conditionals(self, x: Tensor, context: Context = None) -> Distribution:
        """The law of every step given the samples before it, as `WaveNet.conditionals`."""
        encoded = self.condition.encode(context)
        signal = F.pad(x[:, None, :-1], (1, 0)) * self.gain  # (B, 1, T)
        h, features = signal, None
        if encoded is not None:
            repeats = encoded.subframe_samples or x.shape[1]
            features = encoded.features.mT.repeat_interleave(repeats, 2)
            h = h if encoded.source is None else torch.cat([h, encoded.source.mT], 1)
        h = self.input(h)
        total = torch.zeros(())
        for layer in self.layers:
            h, skip = layer(h, features)
            total = total + skip
        out = F.relu(self.hidden(F.relu(total)))
        with torch.autocast(out.device.type, enabled=False):
            return self._law(self.output(out.to(self.output.weight.dtype)), signal)

    def _law(self, out: Tensor, signal: Tensor) -> Distribution:
        unit = self.residual_std / self.gain
        logits, loc, log_scale = out.mT.chunk(3, dim=-1)
        loc = loc * unit
        if self.predictor is not None:
            past = F.pad(signal, (self.config.predictor_order - 1, 0))
            loc = loc + self.predictor(past).mT / self.gain
        mixture = Mixture(logits, Logistic(loc, log_scale + unit.log()))
        assert self.config.bits is not None
        bin_width = 2.0 ** (1 - self.config.bits)
        return Discretized(mixture, bin_width, -1.0, 1.0 - bin_width)


class _Layer(nn.Module):
    def __init__(self, layer: GatedLayer, columns: Tensor | None) -> None:
        super().__init__()
        self.reach = layer.conv.reach
        self.residual_channels = layer.split[0]
        self.taps = _conv(by_tap(layer.conv), layer.conv.taps.bias, layer.conv.dilation)
        self.condition = None if columns is None else _conv(columns[..., None], None)
        self.out = _conv(layer.out.weight[..., None], layer.out.bias)

    def forward(self, h: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        gates = self.taps(F.pad(h, (self.reach, 0)))
        if self.condition is not None:
            gates = gates + self.condition(features)
        filtered, gate = gates.chunk(2, 1)
        out = self.out(torch.tanh(filtered) * torch.sigmoid(gate))
        return h + out[:, : self.residual_channels], out[:, self.residual_channels :]


def _conv(weight: Tensor, bias: Tensor | None, dilation: int = 1) -> nn.Conv1d:
    num_out, num_in, taps = weight.shape
    conv = nn.Conv1d(num_in, num_out, taps, dilation=dilation, bias=bias is not None)
    conv = conv.to(weight)
    with torch.no_grad():
        conv.weight.copy_(weight)
        if bias is not None and conv.bias is not None:
            conv.bias.copy_(bias)
    return conv

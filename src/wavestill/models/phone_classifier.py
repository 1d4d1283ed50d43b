r"""A WaveNet-like classifier of phones: what the perceptual loss listens with.

References:
    | Parallel WaveNet (van den Oord et al., 2018), section 4 (perceptual loss), https://arxiv.org/abs/1711.10433
"""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from wavestill.models.calibration import unit_gain
from wavestill.nn.causal import CausalConv


@dataclass(frozen=True)
class PhoneClassifierConfig:
    """The shape of a phone classifier.

    Arguments:
        num_classes: Phones that are told apart.
        hop_samples: Samples per frame, for each of which a phone is named.
        sample_rate: Samples per second.
        layers: Gated layers.
        dilation_cycle: Layers after which the dilation is 1 again.
        channels: Width of the residual path and of each half of the gate.
        hidden_channels: Width of the skip sum and of the layer at frame rate.
    """

    num_classes: int = 0
    hop_samples: int = 0
    sample_rate: int = 0
    layers: int = 8
    dilation_cycle: int = 8
    channels: int = 48
    hidden_channels: int = 96

    def __post_init__(self) -> None:
        for name in ("layers", "dilation_cycle", "channels", "hidden_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"'{name}' is {getattr(self, name)}; it must be positive")

    @property
    def step_samples(self) -> int:
        """Samples of a step of the stack: the longest of at most half a millisecond in a frame."""
        longest = max(1, self.sample_rate // 2000)
        return max(d for d in range(1, longest + 1) if self.hop_samples % d == 0)


class CentredLayer(nn.Module):
    r"""A gated layer whose three taps lie around their sample: :math:`h_{t-d}, h_t, h_{t+d}`."""

    def __init__(self, channels: int, hidden_channels: int, dilation: int) -> None:
        super().__init__()
        self.split = (channels, hidden_channels)
        self.conv = CausalConv(channels, 2 * channels, 3, dilation)
        self.out = nn.Linear(channels, channels + hidden_channels)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """`h (B, T, C)` to the new `h` and what joins the skip sum."""
        late = self.conv.dilation  # the causal layer, read d samples later, is the centred one
        gates = self.conv(F.pad(h, (0, 0, 0, late)))[:, late:]
        filtered, gate = gates.chunk(2, dim=-1)
        residual, skip = self.out(torch.tanh(filtered) * torch.sigmoid(gate)).split(
            self.split, dim=-1
        )
        return h + residual, skip


class PhoneClassifier(nn.Module):
    r"""The phone of every frame of a waveform, :math:`p(k \mid i, x)`.

    .. math:: o_t = \sum_l \mathrm{skip}_l(x)_t, \qquad
        g_i = \mathrm{relu}\Big(W_1 \, \mathrm{mean}_{t \in i} \, \mathrm{relu}(o_t)\Big), \qquad
        p(\cdot \mid i, x) = \mathrm{softmax}(W_2 \, g_i)

    a stack of dilated gated layers like WaveNet's, averaged over the steps `t` of a frame. Two
    things differ. Its taps are centred, not causal: nothing is generated with it, and a phone is
    told by what follows it as much as by what went before. And a step takes in half a millisecond
    of samples side by side, which loses none of them: it is up to eight times as fast as a stack
    at sample rate, and eight layers see a quarter of a second.

    Waveforms are floats in [-1, 1]; inside, the signal has unit variance (the stored `gain`).

    References:
        | Parallel WaveNet (van den Oord et al., 2018), section 4 (perceptual loss), https://arxiv.org/abs/1711.10433

    Arguments:
        config: The shape of the network.

    Raises:
        ValueError: If the shape lacks classes, hop or sampling rate.

    Example:
        >>> config = PhoneClassifierConfig(num_classes=40, hop_samples=100, sample_rate=8000)
        >>> PhoneClassifier(config)(torch.randn(2, 1000)).shape
        torch.Size([2, 10, 40])
    """

    gain: Tensor

    def __init__(self, config: PhoneClassifierConfig) -> None:
        super().__init__()
        if config.num_classes < 2 or config.hop_samples < 1 or config.sample_rate < 1:
            raise ValueError(
                f"a classifier of {config.num_classes} phones, hop {config.hop_samples} samples "
                f"at {config.sample_rate} Hz cannot be; give two classes or more and both rates"
            )
        self.config = config
        self.input = CausalConv(config.step_samples, config.channels, 3, 1)
        self.layers = nn.ModuleList(
            CentredLayer(
                config.channels, config.hidden_channels, 2 ** (layer % config.dilation_cycle)
            )
            for layer in range(config.layers)
        )
        self.hidden = nn.Linear(config.hidden_channels, config.hidden_channels)
        self.output = nn.Linear(config.hidden_channels, config.num_classes)
        self.register_buffer("gain", torch.ones(()))

    @property
    def receptive_field(self) -> int:
        """Samples that a step of the skip sum depends on, those after it included."""
        layers = [cast("CentredLayer", layer) for layer in self.layers]
        steps = 1 + self.input.reach + sum(layer.conv.reach for layer in layers)
        return steps * self.config.step_samples

    @torch.no_grad()
    def calibrate(self, x: Tensor, frames: Tensor | None = None) -> None:
        """Set the gain from waveforms `x`."""
        del frames
        self.gain.copy_(unit_gain(x))

    def forward(self, x: Float[Tensor, "B T"]) -> Float[Tensor, "B F K"]:
        """Logits of the phones of each of the `T // hop_samples` frames of `x (B, T)`.

        Raises:
            ValueError: If `x` is shorter than a frame.
        """
        logits: Tensor = self.output(self.features(x)[-1])
        return logits

    def features(self, x: Float[Tensor, "B T"]) -> list[Tensor]:
        """What it hears: the path after every third layer `(B, S, C)`, then `g (B, F, H)`.

        Early layers hear the texture of the sound, late ones what is said.

        Raises:
            ValueError: If `x` is shorter than a frame.
        """
        hop = self.config.hop_samples
        num_frames = x.shape[1] // hop
        if num_frames < 1:
            raise ValueError(
                f"the sound has {x.shape[1]} samples, less than one frame of {hop}; "
                "give a longer one"
            )
        size = self.config.step_samples
        steps = (x[:, : num_frames * hop] * self.gain).view(len(x), -1, size)
        h: Tensor = self.input(F.pad(steps, (0, 0, 0, 1)))[:, 1:]
        total: Tensor | None = None
        heard = []
        for number, layer in enumerate(self.layers):
            h, skip = layer(h)
            total = skip if total is None else total + skip
            if number % 3 == 2:
                heard.append(h)
        assert total is not None, "there is one layer or more"
        frames = F.relu(total).view(len(x), num_frames, hop // size, -1).mean(2)
        return [*heard, F.relu(self.hidden(frames))]

r"""WaveNet: an autoregressive density of waveforms, the teacher.

.. math:: p(x \mid c) = \prod_t p(x_t \mid x_{<t}, c)

References:
    | WaveNet (van den Oord et al., 2016), https://arxiv.org/abs/1609.03499
    | Parallel WaveNet (van den Oord et al., 2018), section 2.1 (mixture of logistics, filter 3, 24
    kHz),
      https://arxiv.org/abs/1711.10433
    | ClariNet (Ping et al., 2018), section 3 (single Gaussian), https://arxiv.org/abs/1807.07281
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from wavestill.density import Conditioning, Context
from wavestill.distributions import (
    Base,
    Discretized,
    Distribution,
    Logistic,
    Mixture,
    MuLaw,
    Normal,
    mu_law_encode,
)
from wavestill.models.calibration import fit_linear_predictor, unit_gain
from wavestill.models.sequences import sequence_length, sequence_noise
from wavestill.nn.causal import CarriedHistory, History, with_past
from wavestill.nn.conditioning import ConditioningConfig, Encoded
from wavestill.nn.frames import Conditioned
from wavestill.nn.gated import GatedStack
from wavestill.nn.states import SequenceState
from wavestill.sampling.cached import cached

Head = Literal["logistics", "gaussian", "mulaw"]


@dataclass(frozen=True)
class WaveNetConfig:
    """The shape of a WaveNet; by default the paper's depth at a width two cores can bear.

    Arguments:
        layers: Gated layers in all.
        dilation_cycle: Layers after which the dilation is 1 again.
        residual_channels: Width of the residual path.
        gate_channels: Width of each half of the gate.
        skip_channels: Width of the skip sum and of the two output layers.
        filter_width: Taps of each dilated convolution.
        head: Law of a step: a mixture of logistics, a single Gaussian, or a softmax over 256
            mu-law levels.
        num_mixtures: Logistics in the mixture.
        bits: The mixture's samples lie on the grid of this many bits over [-1, 1); None leaves
            them continuous. The Gaussian is continuous and mu-law has its own levels: they ignore
            it.
        predictor_order: Taps of the learned linear predictor under the means; 0 for none.
        dropout: Probability of dropping an input of a layer while training.
        conditioning: What the model is conditioned on; None for nothing.
    """

    layers: int = 30
    dilation_cycle: int = 10
    residual_channels: int = 64
    gate_channels: int = 64
    skip_channels: int = 128
    filter_width: int = 3
    head: Head = "logistics"
    num_mixtures: int = 10
    bits: int | None = 16
    predictor_order: int = 0
    dropout: float = 0.0
    conditioning: ConditioningConfig | None = None

    def __post_init__(self) -> None:
        for name in (
            "layers",
            "dilation_cycle",
            "residual_channels",
            "gate_channels",
            "skip_channels",
            "filter_width",
            "num_mixtures",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"'{name}' is {getattr(self, name)}; it must be positive")
        if self.bits is not None and not 1 <= self.bits <= 24:
            raise ValueError(
                f"'bits' is {self.bits}; it must lie between 1 and 24, the digits of float32"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"'dropout' is {self.dropout}; it must lie in [0, 1)")
        if self.predictor_order and self.head == "mulaw":
            raise ValueError(
                f"predictor_order={self.predictor_order} needs a head with means, "
                "not 'mulaw'; set it to 0"
            )


@dataclass
class WaveNetState(SequenceState):
    """What `advance` carries: histories, encoded context, and the step whose law is next."""

    stack: list[History]
    predictor: History | None
    encoded: Encoded | None
    position: int | Tensor = 0

    def histories(self) -> list[History]:
        """The past of every layer."""
        return self.stack if self.predictor is None else [*self.stack, self.predictor]


class WaveNet(Conditioned):
    r"""Autoregressive density of waveforms, :math:`p(x) = \prod_t p(x_t \mid x_{<t}, c)`.

    A likelihood costs one parallel pass; a sample of `T` steps costs `T` passes of one step each.
    Waveforms are floats in [-1, 1]; inside, the network works on a signal of unit variance (the
    stored `gain`, see `calibrate`).

    The law of a step, for a mixture of `K` logistics with the linear predictor :math:`a`:

    .. math:: p(x_t \mid x_{<t}) = \sum_k \pi_k \, \mathrm{Logistic}\Big(x_t; \textstyle\sum_i a_i
    x_{t-i} + \mu_k,
        s_k\Big)

    References:
        | Parallel WaveNet (van den Oord et al., 2018), section 2.1, https://arxiv.org/abs/1711.10433
        | PixelCNN++ (Salimans et al., 2017), section 2.1 (discretised mixture), https://arxiv.org/abs/1701.05517

    Arguments:
        config: The shape of the network.

    Example:
        >>> teacher = WaveNet(
        ...     WaveNetConfig(layers=4, dilation_cycle=4, residual_channels=8, gate_channels=8)
        ... )
        >>> teacher.receptive_field
        31
        >>> teacher.log_prob(torch.zeros(2, 100)).shape
        torch.Size([2])
    """

    gain: Tensor
    residual_std: Tensor

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__(config.conditioning)
        self.config = config
        conditioning = config.conditioning
        num_inputs = 1 + (2 * conditioning.num_harmonics if conditioning else 0)
        self.input = nn.Linear(num_inputs, config.residual_channels)
        self.stack = GatedStack(
            config.layers,
            config.dilation_cycle,
            config.residual_channels,
            config.gate_channels,
            config.skip_channels,
            config.filter_width,
            conditioning.channels if conditioning else 0,
            config.dropout,
        )
        self.hidden = nn.Linear(config.skip_channels, config.skip_channels)
        self.output = nn.Linear(config.skip_channels, self._num_outputs)
        self.predictor = (
            nn.Linear(config.predictor_order, 1, bias=False) if config.predictor_order else None
        )
        if self.predictor is not None:
            nn.init.zeros_(self.predictor.weight)
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("residual_std", torch.ones(()))
        self._spread_components()

    @property
    def base(self) -> Base:
        """The base noise its samples are made from."""
        return "normal" if self.config.head == "gaussian" else "logistic"

    @property
    def receptive_field(self) -> int:
        """Past samples that the law of a step depends on."""
        return max(self.stack.receptive_field, self.config.predictor_order)

    @torch.no_grad()
    def calibrate(self, x: Tensor, frames: Tensor | None = None) -> None:
        """Set gain, predictor, scale of the head and the frames' norm from training data.

        Arguments:
            x: Waveforms `(N,)` or `(B, T)`.
            frames: Features `(M, C)` of the training data, for a conditional model.
        """
        self.gain.copy_(unit_gain(x))
        if self.encoder is not None and frames is not None:
            self.encoder.calibrate(frames)
        if self.predictor is not None:
            taps, residual_std = fit_linear_predictor(x * self.gain, self.config.predictor_order)
            self.predictor.weight.copy_(taps.unsqueeze(0))
            self.residual_std.copy_(residual_std)

    def conditionals(self, x: Float[Tensor, "B T"], context: Context = None) -> Distribution:
        """The law of every step given the samples before it, in one pass.

        Arguments:
            x: Waveform `(B, T)`.
            context: `Conditioning`, frames `(B, F, C)` with `F * hop_samples = T`, an `Encoded`
                context, or None.

        Raises:
            ValueError: If `x` and the frames differ in length, or the context is not what the
                model was built for.
        """
        encoded = self.encode(context)
        if isinstance(context, Conditioning | Tensor) and encoded is not None:
            sequence_length(encoded.num_samples, x.shape[1])
        previous = F.pad(x[:, :-1], (1, 0))
        return self._laws(previous, encoded, None, None)

    def pieces(
        self, x: Float[Tensor, "B T"], context: Context = None, *, piece_samples: int
    ) -> Iterator[Distribution]:
        """The laws of `conditionals` so many steps at a time: training in the memory of a piece.

        The state goes from piece to piece without its gradient (truncated backpropagation through
        time). Take each piece's gradient before asking for the next; once all are through, what
        they have left at the encoded context goes on into the conditioning network, untruncated.

        Arguments:
            x: As for `conditionals`.
            context: As for `conditionals`.
            piece_samples: Steps of a piece; the last may be shorter.
        """
        encoded = whole = self.encode(context)
        if isinstance(context, Conditioning | Tensor) and whole is not None:
            sequence_length(whole.num_samples, x.shape[1])
        rows = None
        if whole is not None:  # sums over pieces want more digits than bfloat16 has
            exact = torch.promote_types(whole.features.dtype, torch.float32)
            rows = whole.features.detach().to(exact, copy=True)
            encoded = replace(whole, features=rows.requires_grad_(whole.features.requires_grad))
        order = self.config.predictor_order
        predictor = CarriedHistory(order - 1) if order else None
        stack: list[History] = [CarriedHistory(past.reach) for past in self.stack.histories()]
        previous = F.pad(x[:, :-1], (1, 0))
        for first in range(0, x.shape[1], piece_samples):
            here = None if encoded is None else encoded.at(first)
            yield self._laws(previous[:, first : first + piece_samples], here, stack, predictor)
        if whole is not None and rows is not None and rows.grad is not None:
            torch.autograd.backward(whole.features, rows.grad.to(whole.features.dtype))

    @torch.no_grad()
    def advance(
        self,
        x_new: Float[Tensor, "B n"],
        context: Context = None,
        state: WaveNetState | None = None,
    ) -> tuple[Distribution, WaveNetState]:
        """The laws that become known with `x_new`: see `Autoregressive`; carries no gradient.

        The context counts in the first call; later on an `Encoded` one, such as the next piece of
        a stream, takes the place of the state's own.
        """
        previous = x_new
        if state is None:
            order = self.config.predictor_order
            predictor = History(order - 1) if order else None
            state = WaveNetState(self.stack.histories(), predictor, self.encode(context))
            previous = F.pad(x_new, (1, 0))
        elif isinstance(context, Encoded):
            state.encoded = context
        encoded = None if state.encoded is None else state.encoded.at(state.position)
        laws = self._laws(previous, encoded, state.stack, state.predictor)
        state.position += previous.shape[1]
        return laws, state

    def log_prob(self, x: Float[Tensor, "B T"], context: Context = None) -> Float[Tensor, " B"]:
        """Log-likelihood in nats: of the grid's bins, or a log-density where the law has none."""
        return self.conditionals(x, context).log_prob(x).sum(-1)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        context: Context = None,
        *,
        length: int | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "B T"]:
        """Ancestral samples by the cached sampler, `(num, T)`.

        Arguments:
            num: Sequences to draw.
            context: As for `conditionals`, batch `num`.
            length: Samples `T`; may be left out where the context tells.
            temperature: Factor on the base noise; 1 samples the density itself.
            generator: Source of the noise.
        """
        encoded = self.encode(context)
        noise = sequence_noise(
            self.base,
            num,
            length,
            encoded,
            temperature=temperature,
            generator=generator,
            like=self.gain,
        )
        return cached(self, noise, encoded)

    @property
    def _num_outputs(self) -> int:
        return {"logistics": 3 * self.config.num_mixtures, "gaussian": 2, "mulaw": 256}[
            self.config.head
        ]

    def _spread_components(self) -> None:
        """Start the output near zero, the mixture's components at widths that part them."""
        nn.init.normal_(self.output.weight, std=0.1 / math.sqrt(self.config.skip_channels))
        nn.init.zeros_(self.output.bias)
        if self.config.head == "logistics":
            k = self.config.num_mixtures
            with torch.no_grad():
                self.output.bias[2 * k :] = torch.linspace(-2.5, 0.0, k)

    def _laws(
        self,
        previous: Tensor,
        encoded: Encoded | None,
        stack: list[History] | None,
        predictor: History | None,
    ) -> Distribution:
        """Laws of the steps whose preceding samples are `previous (B, n)`."""
        signal = self._inner(previous).unsqueeze(-1)  # (B, n, 1)
        source = None if encoded is None else encoded.source_at(previous.shape[1])
        h = self.input(signal if source is None else torch.cat([signal, source], -1))
        skip = self.stack(h, encoded, stack)
        out = F.relu(self.hidden(F.relu(skip)))
        with torch.autocast(
            out.device.type, enabled=False
        ):  # the law's parameters keep full precision
            out = self.output(out.to(self.output.weight.dtype))
            mean = self._predicted(signal, predictor)
            return self._law(out, mean)

    def _inner(self, x: Tensor) -> Tensor:
        """The signal the network sees: of unit variance, or companded to the levels of mu-law."""
        if self.config.head == "mulaw":
            return mu_law_encode(x).to(x.dtype) / 127.5 - 1
        return x * self.gain

    def _predicted(self, signal: Tensor, history: History | None) -> Tensor | None:
        """The linear prediction of each step from the samples before it, `(B, n)`."""
        if self.predictor is None:
            return None
        order = self.config.predictor_order
        windows = (
            with_past(signal, order - 1, history).squeeze(-1).unfold(1, order, 1)
        )  # (B, n, order)
        predicted: Tensor = self.predictor(windows)
        return predicted.squeeze(-1)

    def _law(self, out: Tensor, mean: Tensor | None) -> Distribution:
        """From outputs `(B, n, P)`, in units of the residual, to the laws of waveform samples."""
        if self.config.head == "mulaw":
            return MuLaw(out)
        unit = self.residual_std / self.gain
        log_unit = unit.log()
        shift = 0.0 if mean is None else mean / self.gain
        if self.config.head == "gaussian":
            loc, log_scale = out.unbind(-1)
            return Normal(loc * unit + shift, log_scale + log_unit)
        logits, loc, log_scale = out.chunk(3, dim=-1)
        if mean is not None:
            shift = (mean / self.gain).unsqueeze(-1)
        mixture = Mixture(logits, Logistic(loc * unit + shift, log_scale + log_unit))
        if self.config.bits is None:
            return mixture
        bin_width = 2.0 ** (1 - self.config.bits)
        return Discretized(mixture, bin_width, -1.0, 1.0 - bin_width)

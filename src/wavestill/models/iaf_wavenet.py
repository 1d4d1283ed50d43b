r"""IAF WaveNet: an inverse autoregressive density of waveforms, the student.

References:
    | Parallel WaveNet (van den Oord et al., 2018), section 3, https://arxiv.org/abs/1711.10433
    | Inverse autoregressive flow (Kingma et al., 2016), https://arxiv.org/abs/1606.04934
    | ClariNet (Ping et al., 2018), section 3 (Gaussian base), https://arxiv.org/abs/1807.07281
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from wavestill.density import Conditioning, Context, Draw
from wavestill.distributions import Base, Logistic, Normal
from wavestill.models.calibration import fit_linear_predictor, unit_gain
from wavestill.models.sequences import rewound, sequence_length, sequence_noise
from wavestill.nn.causal import History, with_past
from wavestill.nn.conditioning import ConditioningConfig, Encoded
from wavestill.nn.frames import Conditioned, FrameEncoder
from wavestill.nn.gated import GatedStack
from wavestill.nn.prediction import LinearSynthesis


@dataclass(frozen=True)
class IAFWaveNetConfig:
    """The shape of a student. The defaults are the paper's.

    Arguments:
        flows: Gated layers of each flow, in the order in which the noise passes them.
        dilation_cycle: Layers after which the dilation is 1 again.
        channels: Width of every flow's network.
        filter_width: Taps of each dilated convolution.
        base: The base noise; the student's own steps have its shape.
        initial_scale: Total scale before training, as a share of the data's standard deviation.
        predictor_order: Taps of a fixed linear synthesis filter that the last flow's output
            passes; 0 for none.
        conditioning: What the model is conditioned on; None for nothing.
    """

    flows: tuple[int, ...] = (10, 10, 10, 30)
    dilation_cycle: int = 10
    channels: int = 64
    filter_width: int = 3
    base: Base = "logistic"
    initial_scale: float = 0.05
    predictor_order: int = 0
    conditioning: ConditioningConfig | None = None


@dataclass
class FlowState:
    """What one flow carries from chunk to chunk."""

    previous: History
    stack: list[History]

    def histories(self) -> list[History]:
        """All of them."""
        return [self.previous, *self.stack]


@dataclass
class StudentState:
    """What the student carries from chunk to chunk: flows' states, encoded context, position."""

    flows: list[FlowState]
    synthesis: History | None
    encoded: Encoded | None
    position: int | Tensor = 0

    def rewind(self, num_steps: int | Tensor) -> None:
        """Forget the last steps; see `State`."""
        for history in self._histories():
            history.rewind(num_steps)
        self.position = rewound(self.position, num_steps)

    def select(self, index: Tensor) -> None:
        """Keep only the sequences `index (B',)`."""
        for history in self._histories():
            history.select(index)
        self.encoded = None if self.encoded is None else self.encoded.select(index)
        if isinstance(self.position, Tensor):
            self.position = rewound(self.position[index], 0)

    def _histories(self) -> list[History]:
        histories = [history for flow in self.flows for history in flow.histories()]
        return histories if self.synthesis is None else [*histories, self.synthesis]


class AffineIAF(nn.Module):
    r"""One affine inverse autoregressive step, :math:`x_t = \mu(z_{<t}, c) + z_t \, s(z_{<t}, c)`.

    The Jacobian is lower triangular with :math:`s_t` on its diagonal. The last layer starts at
    zero, so that the flow begins as the location 0 and the scale it is given.

    Arguments:
        num_layers: Gated layers.
        config: The student's shape.
        log_scale: Initial log-scale, in nats of the inner signal.
    """

    def __init__(self, num_layers: int, config: IAFWaveNetConfig, log_scale: float) -> None:
        super().__init__()
        conditioning = config.conditioning
        num_inputs = 1 + (2 * conditioning.num_harmonics if conditioning else 0)
        self.input = nn.Linear(num_inputs, config.channels)
        self.stack = GatedStack(
            num_layers,
            config.dilation_cycle,
            config.channels,
            config.channels,
            0,
            config.filter_width,
            conditioning.channels if conditioning else 0,
        )
        self.output = nn.Linear(config.channels, 2)
        nn.init.zeros_(self.output.weight)
        with torch.no_grad():
            self.output.bias.copy_(torch.tensor([0.0, log_scale]))

    def shape(
        self, previous: Tensor, encoded: Encoded | None, stack: list[History] | None
    ) -> tuple[Tensor, Tensor]:
        """Location and log-scale `(B, n)` of the steps that follow the inputs `previous`."""
        signal = previous.unsqueeze(-1)
        source = None if encoded is None else encoded.source_at(previous.shape[1])
        h = self.input(signal if source is None else torch.cat([signal, source], -1))
        out = F.relu(self.stack(h, encoded, stack))
        with torch.autocast(
            out.device.type, enabled=False
        ):  # the law's parameters keep full precision
            loc, log_scale = self.output(out.to(self.output.weight.dtype)).unbind(-1)
        # Beyond these a product over the flows leaves float32's range before the loss can pull it
        # back.
        return loc, log_scale.clamp(-9.0, 7.0)

    def forward(
        self, z: Tensor, encoded: Encoded | None, state: FlowState | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`z (B, n)` to the flow's output, location and log-scale, each `(B, n)`."""
        delayed = with_past(z.unsqueeze(-1), 1, None if state is None else state.previous)[
            :, :-1, 0
        ]
        loc, log_scale = self.shape(delayed, encoded, None if state is None else state.stack)
        return loc + log_scale.exp() * z, loc, log_scale

    def fresh_state(self) -> FlowState:
        """Silence before the first sample."""
        return FlowState(History(1), self.stack.histories())


class IAFWaveNet(Conditioned):
    r"""A stack of affine flows in one order: waveforms from noise in one parallel pass.

    .. math::
        s_t = \prod_k s_{k,t}, \qquad \mu_t = \sum_k \mu_{k,t} \prod_{j>k} s_{j,t}, \qquad x_t =
        \mu_t + s_t z_t

    Every flow keeps the order of time, so the student's own conditionals are the base law moved by
    the total location and scale. A sample with its density costs one pass; the density of foreign
    audio (`invert`, `log_prob`) costs `T`.

    With `predictor_order` the flows make the residual of a linear predictor, and its synthesis
    filter :math:`1 / A` makes it sound: one more flow in the same order, linear and of unit
    diagonal, whose network has nothing to learn and nothing to forget. The stack then only has to
    say what a teacher with a linear predictor says beside it.

    References:
        | Parallel WaveNet (van den Oord et al., 2018), section 3, https://arxiv.org/abs/1711.10433

    Arguments:
        config: The shape of the student.
        teacher_encoder: A teacher's conditioning network to begin from; its configuration must be
            the student's.
        share: Keep the teacher's conditioning network as it is (frozen) instead of training on
            from it.

    Example:
        >>> student = IAFWaveNet(IAFWaveNetConfig(flows=(4, 4), channels=8))
        >>> draw = student.rsample(torch.randn(2, 100))
        >>> draw.x.shape, draw.log_prob.shape
        (torch.Size([2, 100]), torch.Size([2]))
    """

    gain: Tensor

    def __init__(
        self,
        config: IAFWaveNetConfig,
        teacher_encoder: FrameEncoder | None = None,
        *,
        share: bool = False,
    ) -> None:
        super().__init__(config.conditioning)
        self.config = config
        last = len(config.flows) - 1
        self.flows = nn.ModuleList(
            AffineIAF(layers, config, math.log(config.initial_scale) if k == last else 0.0)
            for k, layers in enumerate(config.flows)
        )
        self.synthesis = (
            LinearSynthesis(config.predictor_order) if config.predictor_order else None
        )
        self.register_buffer("gain", torch.ones(()))
        self.begun_from_teacher = teacher_encoder is not None
        if teacher_encoder is not None:
            self._begin_from(teacher_encoder, share=share)

    @property
    def base(self) -> Base:
        """The base noise its samples are made from."""
        return self.config.base

    @property
    def receptive_field(self) -> int:
        """Past noise samples that the law of a step depends on."""
        return sum(flow.stack.receptive_field for flow in self._flows())

    @torch.no_grad()
    def calibrate(self, x: Tensor, frames: Tensor | None = None) -> None:
        """Set the gain from waveforms `x` and, unless begun from a teacher, the frames' norm."""
        self.gain.copy_(unit_gain(x))
        if self.synthesis is not None:
            self.synthesis.calibrate(*fit_linear_predictor(x * self.gain, self.synthesis.order))
        if self.encoder is not None and frames is not None and not self.begun_from_teacher:
            self.encoder.calibrate(frames)

    def rsample(self, noise: Float[Tensor, "B T"], context: Context = None) -> Draw:
        """The sample that `noise` maps to, with the laws of its own steps; differentiable.

        Arguments:
            noise: Draws of the base law, `(B, T)` (`standard_noise(student.base, ...)`).
            context: `Conditioning`, frames `(B, F, C)` with `F * hop_samples = T`, an `Encoded`
                context, or None.

        Raises:
            ValueError: If noise and frames differ in length, or the context is not what the model
                was built for.
        """
        encoded = self.encode(context)
        if isinstance(context, Conditioning | Tensor) and encoded is not None:
            sequence_length(encoded.num_samples, noise.shape[1])
        return self._draw(noise, encoded, None, None)

    @torch.no_grad()
    def stream(
        self,
        noise: Float[Tensor, "B n"],
        context: Context = None,
        state: StudentState | None = None,
    ) -> tuple[Draw, StudentState]:
        """`rsample` in chunks of any length; carries no gradient.

        Arguments:
            noise: The next draws of the base law, `(B, n)`.
            context: The whole context, with the first chunk; or an `Encoded` piece of it, with
                each chunk that needs one.
            state: What the chunk before returned; None for the first.
        """
        if state is None:
            fresh = [flow.fresh_state() for flow in self._flows()]
            filtered = None if self.synthesis is None else History(self.synthesis.order)
            state = StudentState(fresh, filtered, self.encode(context))
        elif isinstance(context, Encoded):
            state.encoded = context
        encoded = None if state.encoded is None else state.encoded.at(state.position)
        draw = self._draw(noise, encoded, state.flows, state.synthesis)
        state.position += noise.shape[1]
        return draw, state

    @torch.no_grad()
    def invert(self, x: Float[Tensor, "B T"], context: Context = None) -> Draw:
        r"""The noise that maps to given audio, step by step.

        .. math:: z^{(k-1)}_t = (z^{(k)}_t - \mu_{k,t}) / s_{k,t}, \quad k = K \ldots 1, \quad
        z^{(K)} = x

        All shapes of step `t` depend on earlier steps only, so each step costs one step of every
        flow, `T` in all. Carries no gradient.
        """
        encoded = self.encode(context)
        if encoded is not None:
            sequence_length(encoded.num_samples, x.shape[1])
        stacks = [flow.stack.histories() for flow in self._flows()]
        inner = x * self.gain
        predicted = (
            torch.zeros_like(x) if self.synthesis is None else self.synthesis.predicted(inner)
        )
        residual = (inner - predicted) / self._residual_std
        previous = [torch.zeros_like(x[:, :1]) for _ in stacks]
        noise, locs, log_scales = torch.empty_like(x), torch.empty_like(x), torch.empty_like(x)
        for t in range(x.shape[1]):
            here = None if encoded is None else encoded.at(t)
            shapes = [
                flow.shape(p, here, s)
                for flow, p, s in zip(self._flows(), previous, stacks, strict=True)
            ]
            value = residual[:, t : t + 1]
            for k in reversed(range(len(shapes))):
                loc, log_scale = shapes[k]
                value = (value - loc) * (-log_scale).exp()
                previous[k] = value
            noise[:, t : t + 1] = value
            total_loc, total_log_scale = _compose(shapes)
            locs[:, t : t + 1], log_scales[:, t : t + 1] = total_loc, total_log_scale
        return Draw(x, noise, self._law(locs, log_scales, predicted))

    def log_prob(self, x: Float[Tensor, "B T"], context: Context = None) -> Float[Tensor, " B"]:
        """Log-density of foreign audio in nats, by sequential inversion; carries no gradient."""
        return self.invert(x, context).log_prob

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
        """Samples in one pass, `(num, T)`; arguments as `WaveNet.sample`."""
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
        return self.rsample(noise, encoded).x

    def _flows(self) -> list[AffineIAF]:
        return [cast("AffineIAF", flow) for flow in self.flows]

    def _draw(
        self,
        noise: Tensor,
        encoded: Encoded | None,
        states: list[FlowState] | None,
        filtered: History | None,
    ) -> Draw:
        value, shapes = noise, []
        for k, flow in enumerate(self._flows()):
            value, loc, log_scale = flow(value, encoded, None if states is None else states[k])
            shapes.append((loc, log_scale))
        loc, log_scale = _compose(shapes)
        predicted: Tensor | None = None
        if self.synthesis is not None:
            residual = self._residual_std * (loc + log_scale.exp() * noise)
            predicted = self.synthesis(residual, filtered) - residual
        law = self._law(loc, log_scale, predicted)
        return Draw(law.from_noise(noise), noise, law)

    @property
    def _residual_std(self) -> Tensor | float:
        """Standard deviation of what the flows make, in units of the inner signal's."""
        return 1.0 if self.synthesis is None else self.synthesis.residual_std

    def _law(self, loc: Tensor, log_scale: Tensor, predicted: Tensor | None) -> Logistic | Normal:
        """The base law moved by the flows and the prediction, in waveform units."""
        kind = Normal if self.config.base == "normal" else Logistic
        unit = self._residual_std / self.gain
        loc = loc * unit
        return kind(
            loc if predicted is None else loc + predicted / self.gain, log_scale + unit.log()
        )

    def _begin_from(self, teacher_encoder: FrameEncoder, *, share: bool) -> None:
        if self.encoder is None or teacher_encoder.config != self.encoder.config:
            raise ValueError(
                f"the teacher's conditioning {teacher_encoder.config} is not the student's "
                f"{self.config.conditioning}; give the student the teacher's configuration"
            )
        self.encoder.load_state_dict(teacher_encoder.state_dict())
        self.encoder.requires_grad_(not share)


def _compose(shapes: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    r"""Location and log-scale of flows in turn: :math:`\mu \leftarrow \mu s_k + \mu_k`."""
    loc, log_scale = shapes[0]
    for next_loc, next_log_scale in shapes[1:]:
        loc = loc * next_log_scale.exp() + next_loc
        log_scale = log_scale + next_log_scale
    return loc, log_scale

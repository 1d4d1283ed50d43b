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

from wavestill.density import Conditioning, Context, Draw
from wavestill.distributions import Base, LocationScale, Logistic, Normal
from wavestill.models.affine_iaf import AffineIAF, FlowState, IAFWaveNetConfig
from wavestill.models.calibration import fit_linear_predictor, unit_gain
from wavestill.models.sequences import sequence_length, sequence_noise
from wavestill.nn.causal import History
from wavestill.nn.conditioning import Encoded
from wavestill.nn.frames import Conditioned, FrameEncoder
from wavestill.nn.prediction import LinearSynthesis
from wavestill.nn.states import SequenceState


@dataclass
class StudentState(SequenceState):
    """What the student carries from chunk to chunk: flows' states, encoded context, position."""

    flows: list[FlowState]
    synthesis: History | None
    encoded: Encoded | None
    position: int | Tensor = 0

    def histories(self) -> list[History]:
        """The past of every layer."""
        histories = [history for flow in self.flows for history in flow.histories()]
        return histories if self.synthesis is None else [*histories, self.synthesis]


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
    def invert(
        self,
        x: Float[Tensor, "B T"],
        context: Context = None,
        *,
        noise_max: float | None = None,
    ) -> Draw:
        r"""The noise that maps to given audio, step by step.

        .. math:: z^{(k-1)}_t = (z^{(k)}_t - \mu_{k,t}) / s_{k,t}, \quad k = K \ldots 1, \quad
        z^{(K)} = x

        All shapes of step `t` depend on earlier steps only, so each step costs one step of every
        flow, `T` in all. Carries no gradient.

        Arguments:
            x: Waveforms `(B, T)`.
            context: As for `rsample`.
            noise_max: Hold the noise within this as it is made, so that an inverse that loses its
                way comes back; the noise then maps to nearby audio rather than to `x`. None for
                no limit.
        """
        encoded = self.encode(context)
        if encoded is not None:
            sequence_length(encoded.num_samples, x.shape[1])
        stacks = [flow.stack.histories() for flow in self._flows()]
        output, predicted = self.flows_output(x)
        previous = [torch.zeros_like(x[:, :1]) for _ in stacks]
        noise, locs, log_scales = torch.empty_like(x), torch.empty_like(x), torch.empty_like(x)
        for t in range(x.shape[1]):
            here = None if encoded is None else encoded.at(t)
            shapes = [
                flow.shape(p, here, s)
                for flow, p, s in zip(self._flows(), previous, stacks, strict=True)
            ]
            value = output[:, t : t + 1]
            for k in reversed(range(len(shapes))):
                loc, log_scale = shapes[k]
                value = (value - loc) * (-log_scale).exp()
                previous[k] = value
            if noise_max is not None and bool((value.abs() > noise_max).any()):
                value = value.clamp(-noise_max, noise_max)
                after = value
                for k, (loc, log_scale) in enumerate(shapes):
                    previous[k] = after
                    after = loc + log_scale.exp() * after
            noise[:, t : t + 1] = value
            total_loc, total_log_scale = _compose(shapes)
            locs[:, t : t + 1], log_scales[:, t : t + 1] = total_loc, total_log_scale
        return self.inverted(x, noise, locs, log_scales, predicted)

    def laws_along(
        self, x: Float[Tensor, "B T"], noise: Float[Tensor, "B T"], context: Context = None
    ) -> LocationScale:
        """The laws `q(x_t | x_<t)` along given audio, from the noise that `invert` found.

        Differentiable in the weights at that noise. Where the noise was held off what the audio
        asks for, the linear prediction is still that of the audio.
        """
        loc, log_scale = self._flowed(noise, self.encode(context), None)
        return self._law(loc, log_scale, self.flows_output(x)[1])

    def flows_output(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the last flow made of its input, and the linear prediction of the inner signal.

        All at once: gain and synthesis filter are undone in parallel.
        """
        inner = x * self.gain
        if self.synthesis is None:
            return inner, None
        predicted = self.synthesis.predicted(inner)
        return (inner - predicted) / self.synthesis.residual_std, predicted

    def inverted(
        self,
        x: Tensor,
        noise: Tensor,
        loc: Tensor,
        log_scale: Tensor,
        predicted: Tensor | None,
    ) -> Draw:
        """The draw that inverted audio is: its noise, and its laws from the flows' shapes.

        Raises:
            ValueError: If the inversion ran away: a student's inverse need not be stable on audio
                unlike its own.
        """
        lost = ~torch.isfinite(noise)
        if bool(lost.any()):
            step = int(lost.any(0).nonzero()[0])
            raise ValueError(
                f"the student's inverse of this audio runs away at step {step} of {x.shape[1]}: "
                "the audio is too unlike the student's own for its density to be told; ask the "
                "teacher's, or train the student further"
            )
        return Draw(x, noise, self._law(loc, log_scale, predicted))

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
        loc, log_scale = self._flowed(noise, encoded, states)
        predicted: Tensor | None = None
        if self.synthesis is not None:
            residual = self._residual_std * (loc + log_scale.exp() * noise)
            predicted = self.synthesis(residual, filtered) - residual
        law = self._law(loc, log_scale, predicted)
        return Draw(law.from_noise(noise), noise, law)

    def _flowed(
        self, noise: Tensor, encoded: Encoded | None, states: list[FlowState] | None
    ) -> tuple[Tensor, Tensor]:
        """Total location and log-scale of all flows on the noise."""
        value, shapes = noise, []
        for k, flow in enumerate(self._flows()):
            value, loc, log_scale = flow(value, encoded, None if states is None else states[k])
            shapes.append((loc, log_scale))
        return _compose(shapes)

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

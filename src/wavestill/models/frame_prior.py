r"""An autoregressive density of frames: what a voice says before there is a sound of it.

.. math:: p(z) = \prod_f p(v_f \mid z_{<f}) \; p(\ell_f \mid v_f, z_{<f})^{v_f} \;
    \prod_g p(u_{f,g} \mid u_{f,<g}, \ell_f, v_f, z_{<f})

A causal transformer reads the frames before `f`. Within a frame come voicing `v`, log F0
:math:`\ell` where there is a voice, and the mels, turned into components `u` of which groups of a
few are drawn at once.

References:
    | RNADE (Uria et al., 2013), equations 4 to 8, https://arxiv.org/abs/1306.0186
    | Attention Is All You Need (Vaswani et al., 2017), section 3.2, https://arxiv.org/abs/1706.03762
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from wavestill.density import Context
from wavestill.distributions import Base, Mixture, Normal, counter_noise, standard_noise
from wavestill.distributions.base import noise_to_log_odds
from wavestill.nn.attention import CausalTransformer
from wavestill.nn.components import FrameComponents, Parts


@dataclass(frozen=True)
class FramePriorConfig:
    """The shape of a density of frames.

    Arguments:
        num_features: Columns of a frame.
        pitch: Whether the last two columns are log F0 (nats of Hz) and voicing (0 or 1).
        layers: Transformer layers.
        channels: Their width, a multiple of `2 * heads`.
        heads: Heads of each attention.
        reach_frames: Frames before its own that a frame attends to in each layer.
        hidden: Width of the network within a frame.
        group_size: Components of the mels drawn at once: 1 draws them one by one, more is faster
            and takes those of a group as independent given the rest.
        num_mixtures: Gaussians in the law of a component.
        dropout: Probability of dropping what a transformer's branch adds, while training.
    """

    num_features: int
    pitch: bool = False
    layers: int = 4
    channels: int = 192
    heads: int = 4
    reach_frames: int = 120
    hidden: int = 256
    group_size: int = 8
    num_mixtures: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("group_size", "num_mixtures", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"'{name}' is {getattr(self, name)}; give 1 or more")


class FramePrior(nn.Module):
    r"""Autoregressive density of frames `(B, F, C)`, mels with or without pitch.

    The mels are turned by the principal axes of their change from frame to frame and scaled to
    unit change (`calibrate`), so that the law of a component begins as a first-order process,
    :math:`u_{f,j} \approx a_j u_{f-1,j} + e`, and little is lost where a group of them is taken as
    independent. Each component has a mixture of Gaussians,

    .. math:: p(u_{f,j}) = \sum_k \pi_k \, N(u_{f,j};\; a_j u_{f-1,j} + r_j \mu_k,\; (r_j s_k)^2),
        \qquad h_{f,g} = \phi\Big(A c_f + \sum_{i<g} W_i u_{f,i}\Big)

    with :math:`\pi, \mu, s` linear in :math:`h_{f,g}`, and :math:`c_f` what the transformer made
    of the frames before.

    Log F0 means nothing in an unvoiced frame (corpora carry it across by interpolation), so there
    the density has no factor for it and does not look at it: nats count mels, voicing, and the log
    F0 of voiced frames. Drawn frames hold the last voiced value.

    Arguments:
        config: The shape.

    Example:
        >>> prior = FramePrior(FramePriorConfig(6, pitch=True, layers=1, channels=16, hidden=16))
        >>> frames = prior.sample(2, length=5)
        >>> frames.shape, prior.log_prob(frames).shape
        (torch.Size([2, 5, 6]), torch.Size([2]))
    """

    base: Base = "normal"

    def __init__(self, config: FramePriorConfig) -> None:
        super().__init__()
        self.config = config
        self.components = FrameComponents(config.num_features, pitch=config.pitch)
        num_mels, size = self.components.num_mels, config.group_size
        self._num_groups = 2 * config.pitch + math.ceil(num_mels / size)
        outputs = 3 * config.num_mixtures * size
        self.input = nn.Linear(num_mels + 2 * config.pitch, config.channels)
        self.transformer = CausalTransformer(
            config.layers, config.channels, config.heads, config.reach_frames, config.dropout
        )
        self.past = nn.Linear(config.channels, config.hidden)
        self.within = nn.Parameter(
            torch.randn(self._num_groups, size, config.hidden) / math.sqrt(num_mels)
        )
        self.out = nn.Parameter(
            0.1 * torch.randn(self._num_groups, config.hidden, outputs) / math.sqrt(config.hidden)
        )
        self.bias = nn.Parameter(torch.zeros(self._num_groups, outputs))
        self.decay = nn.Parameter(torch.zeros(num_mels))
        self.log_residual = nn.Parameter(torch.zeros(num_mels))
        with torch.no_grad():  # components at widths that part them
            shape = self.bias.view(self._num_groups, size, 3, config.num_mixtures)
            shape[:, :, 2] = torch.linspace(-1.0, 0.3, config.num_mixtures)

    @torch.no_grad()
    def calibrate(self, x: Tensor, frames: Tensor | None = None) -> None:
        """Set axes, scales and first-order prediction from frames `x (B, F, C)` or `(F, C)`.

        Raises:
            ValueError: If the columns are not the model's, or there are too few frames.
        """
        del frames
        x = x.unsqueeze(0) if x.dim() == 2 else x
        self.components.check(x)
        self.components.calibrate(x)
        u = self.components(x).components.double()
        before, after = u[:, :-1].flatten(0, 1), u[:, 1:].flatten(0, 1)
        decay = (before * after).mean(0) / before.square().mean(0).clamp_min(1e-12)
        self.decay.copy_(decay)
        self.log_residual.copy_((after - decay * before).std(0).clamp_min(1e-6).log())

    def log_prob(self, x: Float[Tensor, "B F C"], context: Context = None) -> Float[Tensor, " B"]:
        """Log-density of frames in nats, `(B,)`: see the class for what it counts."""
        return self.frame_log_probs(x, context).sum(-1)

    def frame_log_probs(
        self, x: Float[Tensor, "B F C"], context: Context = None
    ) -> Float[Tensor, "B F"]:
        r"""The terms :math:`\log p(z_f \mid z_{<f})`, in one pass.

        Raises:
            ValueError: If the columns are not the model's, voicing is neither 0 nor 1, or there is
                a context.
        """
        _require_no_context(context)
        parts = self.components(x)
        past = F.pad(self.embedded(parts)[:, :-1], (0, 0, 1, 0))
        features = self.past(self.transformer(past)).to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):  # the laws keep full precision
            return self._frame_log_probs(parts, features)

    def _frame_log_probs(self, parts: Parts, features: Tensor) -> Tensor:
        """The terms, from what the transformer made of the frames before, `(B, F, H)`."""
        seen = torch.einsum("bfgs,gsh->bfgh", self._groups(parts), self.within)
        seen = F.pad(seen.cumsum(2)[:, :, :-1], (0, 0, 1, 0))  # of the groups before
        hidden = F.gelu(features.unsqueeze(2) + seen)
        out = torch.einsum("bfgh,ghp->bfgp", hidden, self.out) + self.bias
        previous = F.pad(parts.components[:, :-1], (0, 0, 1, 0))
        first = 2 * self.config.pitch
        laws = self.component_laws(out[:, :, first:].flatten(2), previous, slice(None))
        log_prob = laws.log_prob(parts.components).sum(-1) + self.components.log_volume
        if not self.config.pitch:
            return log_prob
        log_f0, voicing = parts.pitch
        is_voiced = voicing > 0.5
        logit = out[:, :, 0, 0]
        log_voicing = F.logsigmoid(torch.where(is_voiced, logit, -logit))
        pitch_law = self.pitch_law(out[:, :, 1], F.pad(log_f0[:, :-1], (1, 0)))
        log_pitch = pitch_law.log_prob(log_f0) - self.components.pitch_unit[1].log()
        return log_prob + log_voicing + torch.where(is_voiced, log_pitch, 0.0)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        context: Context = None,
        *,
        length: int | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "B F C"]:
        """Frames drawn one after the other, `(num, length, C)`.

        Arguments:
            num: Sequences.
            context: None: the density is of frames alone.
            length: Frames of each.
            temperature: Factor on the noise; 1 draws from the density itself.
            generator: Source of the noise.

        Raises:
            ValueError: If the length is open.
        """
        _require_no_context(context)
        if length is None or length < 1:
            raise ValueError(f"'length' is {length}; say how many frames to draw")
        noise = standard_noise(
            self.base,
            (num, length, self.config.num_features),
            generator=generator,
            device=self.decay.device,
            dtype=self.decay.dtype,
        )
        return FrameSampler(self).extend(temperature * noise)

    def stream(
        self, num_frames: int, *, seed: int = 0, temperature: float = 1.0
    ) -> Iterator[Float[Tensor, "1 C"]]:
        """Frames as they are drawn, each `(1, C)`, of noise counted off from a seed.

        It is stream 1 of the seed: a decoder that counts off stream 0 has noise of its own.
        """
        sampler, width = FrameSampler(self), self.config.num_features
        for f in range(num_frames):
            noise = counter_noise(
                self.base,
                seed,
                1,
                width,
                start=f * width,
                first_stream=1,
                dtype=self.decay.dtype,
            )
            yield sampler.extend(temperature * noise.to(self.decay.device).unsqueeze(1))[0]

    def embedded(self, parts: Parts) -> Tensor:
        """What the transformer sees of each frame."""
        components, *pitch = self.components.seen(parts)
        columns = [components, *(column.unsqueeze(-1) for column in pitch)]
        embedded: Tensor = self.input(torch.cat(columns, -1))
        return embedded

    def _groups(self, parts: Parts) -> Tensor:
        """What the groups within a frame tell those after them, `(B, F, G, S)`."""
        size = self.config.group_size
        components, *pitch = self.components.seen(parts)
        padded = F.pad(components, (0, -components.shape[-1] % size))
        groups = [F.pad(column[..., None, None], (0, size - 1)) for column in reversed(pitch)]
        return torch.cat([*groups, padded.view(*padded.shape[:2], -1, size)], 2)

    def outputs(self, a: Tensor, group: int) -> Tensor:
        """The outputs `(B, P)` of one group, from what is known before it, `a (B, H)`."""
        return F.gelu(a) @ self.out[group] + self.bias[group]

    def component_laws(self, out: Tensor, previous: Tensor, which: slice) -> Mixture:
        """Laws of the components `which`, from outputs `(..., S * 3 K)` and the frame before."""
        decay, unit = self.decay[which], self.log_residual[which]
        out = out.view(*out.shape[:-1], -1, 3, self.config.num_mixtures)[..., : len(decay), :, :]
        logits, loc, log_scale = out.unbind(-2)
        loc = loc * unit.exp().unsqueeze(-1) + (decay * previous).unsqueeze(-1)
        return Mixture(logits, Normal(loc, _held(log_scale) + unit.unsqueeze(-1)))

    def pitch_law(self, out: Tensor, previous: Tensor) -> Mixture:
        """The law of log F0 in units of `pitch_unit`, from the outputs and its held value."""
        logits, loc, log_scale = out[..., : 3 * self.config.num_mixtures].chunk(3, dim=-1)
        return Mixture(logits, Normal(loc + previous.unsqueeze(-1), _held(log_scale)))


class FrameSampler:
    """Draws frames one after the other, and goes on where it ended.

    Arguments:
        prior: The density.
    """

    def __init__(self, prior: FramePrior) -> None:
        self._prior = prior
        self._state = prior.transformer.fresh_state()
        self._last: Parts | None = None

    @torch.no_grad()
    def extend(self, noise: Float[Tensor, "B n C"]) -> Float[Tensor, "B n C"]:
        """The next frames from their base draws, column for column.

        Components take the noise of the mels' columns, log F0 and voicing that of their own:
        :math:`v = [z > F^{-1}(1 - p)]`.
        """
        drawn = [self._next(z) for z in noise.unbind(1)]
        return torch.stack([self._prior.components.frames(parts) for parts in drawn], 1)

    def _next(self, z: Tensor) -> Parts:
        """One frame `(B, ...)` in the model's units."""
        prior, config = self._prior, self._prior.config
        size, num_mels = config.group_size, prior.components.num_mels
        last = self._last
        if last is None:
            embedded = z.new_zeros(len(z), config.channels)
            last = Parts(z.new_zeros(len(z), num_mels), z.new_zeros(len(z)))
        else:
            embedded = prior.embedded(last)
        a = prior.past(prior.transformer(embedded.unsqueeze(1), self._state)).squeeze(1)
        parts, group = Parts(torch.zeros_like(last.components)), 0
        if config.pitch:
            logit = prior.outputs(a, 0)[:, 0]
            voicing = (noise_to_log_odds(prior.base, z[:, -1]) > -logit).to(z.dtype)
            a = a + voicing.unsqueeze(-1) * prior.within[0, 0]
            assert last.log_f0 is not None
            drawn = prior.pitch_law(prior.outputs(a, 1), last.log_f0).from_noise(z[:, -2])
            log_f0 = torch.where(voicing > 0.5, drawn, last.log_f0)
            parts, group = Parts(parts.components, log_f0, voicing), 2
            seen = prior.components.seen(parts)[1]
            a = a + seen.unsqueeze(-1) * prior.within[1, 0]
        for start in range(0, num_mels, size):
            which = slice(start, min(start + size, num_mels))
            laws = prior.component_laws(prior.outputs(a, group), last.components[:, which], which)
            parts.components[:, which] = laws.from_noise(z[:, which])
            seen = prior.components.seen(parts)[0][:, which]
            a = a + seen @ prior.within[group, : seen.shape[-1]]
            group += 1
        self._last = parts
        return parts


def _held(log_scale: Tensor) -> Tensor:
    """Log-scales in units of the first-order residual.

    A Gaussian on one frame has no bound: held at e^-7, where only a frame repeated to three digits
    would want it narrower.
    """
    return log_scale.clamp(min=-7.0)


def _require_no_context(context: Context) -> None:
    if context is not None:
        raise ValueError("a context was given but this density is of frames alone; leave it out")

r"""From frames to samples, at a low rate as long as possible.

A small network runs at frame rate, its output is interpolated linearly to sub-frames of 1-2 ms (so
that nothing jumps where two frames meet), and each sub-frame is repeated over its samples by
whoever adds it to samples. Since interpolation, 1x1 products and repetition are linear and
commute, the layers' projections run at the sub-frame rate.

With pitch columns (log F0, voicing) a harmonic source joins the waveform at the input of the
network: sines and cosines of the harmonics of F0, which spare the student from having to find the
phase of a periodic sound in noise.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavestill.density import Conditioning


@dataclass(frozen=True)
class ConditioningConfig:
    """How frames and speakers condition a sequence model.

    Arguments:
        num_features: Columns of the frames; 0 for none. With `num_harmonics > 0` the last two are
            log F0 (in nats of Hz, continuous through unvoiced parts) and voicing (0 or 1).
        hop_samples: Samples per frame.
        sample_rate: Samples per second.
        channels: Width of the frame-rate network and of its output.
        subframe_samples: Samples per sub-frame, a divisor of the hop; 0 takes the largest of at
            most 2 ms.
        num_harmonics: Harmonics of F0 in the source signal; 0 for none.
        num_speakers: Size of the speaker embedding; 0 for none.
    """

    num_features: int = 0
    hop_samples: int = 0
    sample_rate: int = 0
    channels: int = 64
    subframe_samples: int = 0
    num_harmonics: int = 0
    num_speakers: int = 0

    def __post_init__(self) -> None:
        if self.subframe_samples and self.hop_samples % self.subframe_samples:
            raise ValueError(
                f"subframe_samples={self.subframe_samples} does not divide "
                f"hop_samples={self.hop_samples}; choose a divisor, or 0 for the default"
            )

    @property
    def resolved_subframe_samples(self) -> int:
        """Samples per sub-frame, the default resolved."""
        if self.subframe_samples:
            return self.subframe_samples
        longest = max(1, int(0.002 * self.sample_rate))
        return max(d for d in range(1, longest + 1) if self.hop_samples % d == 0)


@dataclass(frozen=True)
class Encoded:
    """A context after its network: what the layers add to their samples.

    Arguments:
        features: `(B, S, C)`, one row per sub-frame; one row in all where only a speaker is given.
        subframe_samples: Samples per row; 0 where the one row holds for ever.
        source: The harmonic source at sample rate, `(B, T, 2 * num_harmonics)`, or None.
        offset_samples: Position of the first sample asked for.
    """

    features: Tensor
    subframe_samples: int
    source: Tensor | None = None
    offset_samples: int = 0

    @property
    def num_samples(self) -> int | None:
        """Samples that are conditioned on; None where there is no end."""
        return self.features.shape[1] * self.subframe_samples if self.subframe_samples else None

    def at(self, offset_samples: int) -> "Encoded":
        """The same context, seen from sample `offset_samples` on."""
        return replace(self, offset_samples=offset_samples)

    def rows(self, num_samples: int) -> tuple[Tensor, int]:
        """The rows under the next samples, and how far into the first of them they begin."""
        if not self.subframe_samples:
            return self.features, 0
        end = self._end(num_samples)
        first = self.offset_samples // self.subframe_samples
        last = max(first, (end - 1) // self.subframe_samples)
        return self.features[
            :, first : last + 1
        ], self.offset_samples - first * self.subframe_samples

    def source_at(self, num_samples: int) -> Tensor | None:
        """The harmonic source of the next samples, `(B, n, 2 * num_harmonics)`."""
        if self.source is None:
            return None
        return self.source[:, self.offset_samples : self._end(num_samples)]

    def _end(self, num_samples: int) -> int:
        """Where the next samples end."""
        end, total = self.offset_samples + num_samples, self.num_samples
        if total is not None and end > total:
            raise ValueError(
                f"the sequence runs to sample {end} but its conditioning ends at {total}; "
                "give more frames"
            )
        return end


def add_rows(x: Tensor, rows: Tensor, subframe_samples: int, lead: int) -> Tensor:
    """`x (B, n, C)` plus each sample's row of `(B, S, C)`; `lead` of the first row are over."""
    batch, n, channels = x.shape
    num_rows = rows.shape[1]
    if num_rows == 1:
        return x + rows
    if n == num_rows * subframe_samples:
        return (x.view(batch, num_rows, subframe_samples, channels) + rows.unsqueeze(2)).view_as(x)
    index = (torch.arange(n, device=x.device) + lead) // subframe_samples
    return x + rows[:, index]


def harmonic_source(
    log_f0: Tensor, voicing: Tensor, hop_samples: int, sample_rate: int, num_harmonics: int
) -> Tensor:
    r"""Sines and cosines of the harmonics of F0, silent where unvoiced.

    .. math:: \phi_t = 2\pi \sum_{i \le t} f_i / f_s, \quad
        e_{t,k} = v_t \, (\sin k\phi_t, \cos k\phi_t), \quad k f_t < f_s / 2

    The phase is summed in float64, so that it holds over hours of sound.

    Arguments:
        log_f0: Log F0 in nats of Hz, `(B, F)`, interpolated through unvoiced frames.
        voicing: 0 or 1, `(B, F)`.
        hop_samples: Samples per frame.
        sample_rate: Samples per second.
        num_harmonics: Harmonics `K`; those above half the sampling rate are silent.

    Returns:
        `(B, F * hop_samples, 2 K)`, in the dtype of `log_f0`.
    """
    frequency = log_f0.double().exp().repeat_interleave(hop_samples, dim=1)  # (B, T)
    turns = torch.cumsum(frequency / sample_rate, dim=1) % 1.0
    order = torch.arange(1, num_harmonics + 1, device=log_f0.device, dtype=torch.float64)
    angle = 2 * math.pi * ((turns.unsqueeze(-1) * order) % 1.0)  # (B, T, K)
    audible = (frequency.unsqueeze(-1) * order < sample_rate / 2) & (
        voicing.repeat_interleave(hop_samples, dim=1).unsqueeze(-1) > 0.5
    )
    return (torch.cat([angle.sin(), angle.cos()], -1) * audible.repeat(1, 1, 2)).to(log_f0.dtype)


class FrameEncoder(nn.Module):
    """The conditioning network: frames and speaker to rows at the sub-frame rate.

    Two convolutions of three frames, then linear interpolation between frame centres: a sample
    sees up to three frames ahead of its own. Frames are normalised by the statistics given to
    `calibrate`.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, config: ConditioningConfig) -> None:
        super().__init__()
        self.config = config
        if config.num_harmonics and config.num_features < 2:
            raise ValueError(
                f"num_harmonics={config.num_harmonics} needs log F0 and voicing as the last two "
                f"features, but num_features={config.num_features}; use features with pitch"
            )
        if config.num_features:
            if not (config.hop_samples > 0 and config.sample_rate > 0):
                raise ValueError(
                    f"frames need a hop and a rate, not hop_samples={config.hop_samples} and "
                    f"sample_rate={config.sample_rate}"
                )
            self.register_buffer("feature_mean", torch.zeros(config.num_features))
            self.register_buffer("feature_std", torch.ones(config.num_features))
            self.near = nn.Conv1d(config.num_features, config.channels, 3)
            self.wide = nn.Conv1d(config.channels, config.channels, 3)
        if config.num_speakers:
            self.speaker = nn.Embedding(config.num_speakers, config.channels)

    @torch.no_grad()
    def calibrate(self, frames: Tensor) -> None:
        """Take mean and standard deviation of the features from `frames (N, C)`."""
        self.feature_mean.copy_(frames.mean(0))
        # A constant column (an unused band, a speaker always voiced) has no spread to divide by.
        self.feature_std.copy_(frames.std(0).clamp_min(1e-3))

    def forward(self, context: Conditioning | Tensor) -> Encoded:
        """Encode a whole context.

        Raises:
            ValueError: If the frames' columns or the speakers are not those the model was built
                for.
        """
        frames, speaker = context if isinstance(context, Conditioning) else (context, None)
        self._check(frames, speaker)
        features: Tensor | None = None
        if frames is not None and self.config.num_features:
            features = self._rows(frames)
        if self.config.num_speakers and speaker is not None:
            voice = self.speaker(speaker).unsqueeze(1)  # (B, 1, C)
            features = voice if features is None else features + voice
        if features is None:
            raise ValueError("the context is empty; give Conditioning(frames) or a speaker")
        subframe = self.config.resolved_subframe_samples if frames is not None else 0
        return Encoded(features, subframe, self._source(frames))

    def _rows(self, frames: Tensor) -> Tensor:
        normal = ((frames - self.feature_mean) / self.feature_std).transpose(1, 2)  # (B, C, F)
        hidden = F.leaky_relu(self.near(F.pad(normal, (1, 1), mode="replicate")), 0.4)
        hidden = F.leaky_relu(self.wide(F.pad(hidden, (1, 1), mode="replicate")), 0.4)
        rows = hidden.shape[-1] * (
            self.config.hop_samples // self.config.resolved_subframe_samples
        )
        return F.interpolate(hidden, size=rows, mode="linear", align_corners=False).transpose(1, 2)

    def _source(self, frames: Tensor | None) -> Tensor | None:
        config = self.config
        if frames is None or not config.num_harmonics:
            return None
        return harmonic_source(
            frames[..., -2],
            frames[..., -1],
            config.hop_samples,
            config.sample_rate,
            config.num_harmonics,
        )

    def _check(self, frames: Tensor | None, speaker: Tensor | None) -> None:
        columns = 0 if frames is None else frames.shape[-1]
        if columns != self.config.num_features:
            raise ValueError(
                f"the frames have {columns} columns but the model was built for "
                f"{self.config.num_features}; use the features it was trained with (its MelSpec)"
            )
        if frames is not None and (frames.dim() != 3 or frames.shape[1] == 0):
            raise ValueError(
                f"frames must be (batch, at least one frame, columns), not {tuple(frames.shape)}"
            )
        if (speaker is None) != (self.config.num_speakers == 0):
            raise ValueError(
                f"the model knows {self.config.num_speakers} speakers but "
                f"{'none was' if speaker is None else 'one was'} given"
            )
        if (
            speaker is not None
            and not 0 <= int(speaker.min()) <= int(speaker.max()) < self.config.num_speakers
        ):
            raise ValueError(
                f"speaker {int(speaker.max())} is not among the model's "
                f"{self.config.num_speakers}; the first is 0"
            )


class Conditioned(nn.Module):
    """Shared by sequence models: turns whatever context is given into its `Encoded` form, once.

    Arguments:
        config: None for an unconditional model.
    """

    def __init__(self, config: ConditioningConfig | None) -> None:
        super().__init__()
        self.encoder = None if config is None else FrameEncoder(config)

    def encode(self, context: Conditioning | Tensor | Encoded | None) -> Encoded | None:
        """The context's encoded form; one that is encoded already is returned as it is.

        Raises:
            ValueError: If a context is given to an unconditional model, or none to a conditional
                one.
        """
        if isinstance(context, Encoded):
            return context
        if (context is None) != (self.encoder is None):
            given, built = ("no", "a") if context is None else ("a", "no")
            raise ValueError(
                f"{given} context was given but the model was built with {built} conditioning"
            )
        if self.encoder is None or context is None:
            return None
        encoded: Encoded = self.encoder(context)
        return encoded

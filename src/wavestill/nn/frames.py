r"""From frames to rows at a low rate, whole or piece by piece.

A small network runs at frame rate and its output is interpolated linearly to sub-frames of 1-2 ms
(so that nothing jumps where two frames meet). With pitch columns (log F0, voicing) a harmonic
source joins the waveform at the input of the network: sines and cosines of the harmonics of F0,
which spare the student from having to find the phase of a periodic sound in noise.

A whole context is a stream that comes in one piece, so there is one implementation.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavestill.density import Conditioning
from wavestill.nn.conditioning import ConditioningConfig, Encoded

# A turn of the phase is 2^52 steps of an integer: sums are exact in any order and wrap by
# themselves, so pieces meet without a seam and nothing is lost over hours; float64 holds the rest.
_TURN = 2**52


class HarmonicSource:
    r"""Sines and cosines of the harmonics of F0, silent where unvoiced.

    .. math:: \phi_t = 2\pi \sum_{i \le t} f_i / f_s, \quad
        e_{t,k} = v_t \, (\sin k\phi_t, \cos k\phi_t), \quad k f_t < f_s / 2

    Arguments:
        hop_samples: Samples per frame.
        sample_rate: Samples per second.
        num_harmonics: Harmonics `K`; those above half the sampling rate are silent.
    """

    def __init__(self, hop_samples: int, sample_rate: int, num_harmonics: int) -> None:
        self._hop_samples = hop_samples
        self._sample_rate = sample_rate
        self._num_harmonics = num_harmonics
        self._phase: Tensor | None = None

    def extend(self, log_f0: Tensor, voicing: Tensor) -> Tensor:
        """The source of the next frames, `(B, F * hop_samples, 2 K)`, in the dtype of `log_f0`.

        Arguments:
            log_f0: Log F0 in nats of Hz, `(B, F)`, interpolated through unvoiced frames.
            voicing: 0 or 1, `(B, F)`.
        """
        frequency = log_f0.double().exp().repeat_interleave(self._hop_samples, dim=1)  # (B, T)
        steps = ((frequency / self._sample_rate % 1.0) * _TURN).round().long()
        phase = torch.cumsum(steps, dim=1)
        if self._phase is not None:
            phase = phase + self._phase
        self._phase = phase[:, -1:] % _TURN
        order = torch.arange(1, self._num_harmonics + 1, device=log_f0.device)
        turns = (phase % _TURN).unsqueeze(-1) * order % _TURN  # (B, T, K)
        angle = turns.double() * (2 * math.pi / _TURN)
        audible = (frequency.unsqueeze(-1) * order < self._sample_rate / 2) & (
            voicing.repeat_interleave(self._hop_samples, dim=1).unsqueeze(-1) > 0.5
        )
        source = torch.cat([angle.sin(), angle.cos()], -1) * audible.repeat(1, 1, 2)
        return source.to(log_f0.dtype)


class Neighbours:
    """Rows `(B, n, C)` as they come, each handed on once the row after it is known.

    Before the first row and after the last one the same row stands again.
    """

    def __init__(self) -> None:
        self._kept: Tensor | None = None

    def extend(self, rows: Tensor, *, is_last: bool) -> Tensor:
        """The rows that are ready, with one before and one after them: `(B, m + 2, C)`."""
        if self._kept is None and rows.shape[1] == 0:
            return rows
        parts = [rows[:, :1] if self._kept is None else self._kept, rows]
        if is_last:
            parts.append(rows[:, -1:] if rows.shape[1] else parts[0][:, -1:])
        together = torch.cat(parts, dim=1)
        self._kept = together[:, -2:]
        return together


class FrameEncoder(nn.Module):
    """The conditioning network: frames and speaker to rows at the sub-frame rate.

    Two convolutions of three frames, then linear interpolation between frame centres: a sample
    sees up to `LOOKAHEAD_FRAMES` ahead of its own. Frames are normalised by the statistics given
    to `calibrate`.
    """

    LOOKAHEAD_FRAMES = 3

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
        """Take mean and standard deviation of the features from `frames (N, C)`.

        Columns of zeros and ones only (which phone it is, voicing) are left as they are: divided
        by its spread, a phone that is rare in `frames` would come a hundred times as large as the
        others, and one that is not among them a thousand times.
        """
        is_flag = ((frames == 0) | (frames == 1)).all(0)
        self.feature_mean.copy_(frames.mean(0).masked_fill(is_flag, 0.0))
        # A constant column (an unused band) has no spread to divide by.
        self.feature_std.copy_(frames.std(0).clamp_min(1e-3).masked_fill(is_flag, 1.0))

    def forward(self, context: Conditioning | Tensor) -> Encoded:
        """Encode a whole context.

        Raises:
            ValueError: If the frames' columns or the speakers are not those the model was built
                for, or a sampler is given frames that are not finite.
        """
        frames, speaker = context if isinstance(context, Conditioning) else (context, None)
        self.check(frames, speaker)
        if frames is None or not self.config.num_features:
            if speaker is None:
                raise ValueError("the context is empty; give Conditioning(frames) or a speaker")
            return Encoded(self.speaker(speaker).unsqueeze(1), 0)
        return FrameStream(self, speaker).extend(frames, is_last=True)

    def check(self, frames: Tensor | None, speaker: Tensor | None) -> None:
        """Refuse what the model was not built for; see `forward`."""
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
        # Training looks at its loss instead, and need not wait for the device here.
        if (
            frames is not None
            and not torch.is_grad_enabled()
            and not bool(torch.isfinite(frames).all())
        ):
            raise ValueError(
                f"{int((~torch.isfinite(frames)).sum()):,} of {frames.numel():,} values of the "
                "frames are not finite; make the features anew"
            )


class FrameStream:
    """Frames as they come, to pieces of their `Encoded` form: the same rows as in one piece.

    Arguments:
        encoder: The network.
        speaker: `(B,)`; None for models of one voice.
    """

    def __init__(self, encoder: FrameEncoder, speaker: Tensor | None = None) -> None:
        config = encoder.config
        self._encoder = encoder
        self._speaker = speaker
        self._near, self._wide, self._rows = Neighbours(), Neighbours(), Neighbours()
        self._source = HarmonicSource(config.hop_samples, config.sample_rate, config.num_harmonics)
        self._pitch: Tensor | None = None
        self._start_samples = 0

    def extend(self, frames: Tensor, *, is_last: bool = False) -> Encoded:
        """The rows that become known with `frames (B, n, C)`.

        They lag behind by `LOOKAHEAD_FRAMES` until the last piece, which brings the rest and may
        be empty (n = 0) unless it is the first.
        """
        encoder, config = self._encoder, self._encoder.config
        if frames.shape[1]:
            encoder.check(frames, self._speaker)
        normal = (frames - encoder.feature_mean) / encoder.feature_std
        hidden = _convolved(encoder.near, self._near.extend(normal, is_last=is_last))
        hidden = _convolved(encoder.wide, self._wide.extend(hidden, is_last=is_last))
        features = self._interpolated(self._rows.extend(hidden, is_last=is_last))
        if config.num_speakers and self._speaker is not None:
            features = features + encoder.speaker(self._speaker).unsqueeze(1)
        start = self._start_samples
        subframe = config.resolved_subframe_samples
        self._start_samples += features.shape[1] * subframe
        return Encoded(features, subframe, self._source_of(frames, features), start, start)

    def _interpolated(self, hidden: Tensor) -> Tensor:
        """Frames `(B, m + 2, C)` to the sub-frames of the inner `m`, linear between centres."""
        config = self._encoder.config
        num = config.hop_samples // config.resolved_subframe_samples
        place = (torch.arange(num, device=hidden.device, dtype=hidden.dtype) + 0.5) / num - 0.5
        before, after = (-place).clamp(min=0), place.clamp(min=0)
        weights = torch.stack([before, 1 - before - after, after])  # (3, num)
        if hidden.shape[1] < 3:
            return hidden.new_zeros(len(hidden), 0, hidden.shape[2])
        windows = hidden.unfold(1, 3, 1)  # (B, m, C, 3)
        return (windows @ weights).transpose(2, 3).flatten(1, 2)

    def _source_of(self, frames: Tensor, features: Tensor) -> Tensor | None:
        """The harmonic source under the rows that are ready."""
        config = self._encoder.config
        if not config.num_harmonics:
            return None
        pitch = frames[..., -2:]
        if self._pitch is not None:
            pitch = torch.cat([self._pitch, pitch], dim=1)
        ready = features.shape[1] * config.resolved_subframe_samples // config.hop_samples
        self._pitch = pitch[:, ready:]
        if ready == 0:
            return features.new_zeros(len(features), 0, 2 * config.num_harmonics)
        return self._source.extend(pitch[:, :ready, 0], pitch[:, :ready, 1])


def _convolved(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution of three frames without padding and its activation, `(B, m + 2, C)` to m."""
    if x.shape[1] < 3:
        return x.new_zeros(len(x), 0, conv.out_channels)
    return F.leaky_relu(conv(x.transpose(1, 2)), 0.4).transpose(1, 2)


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

    def frame_stream(self, speaker: Tensor | None = None) -> FrameStream:
        """The conditioning network for frames that come piece by piece.

        Raises:
            ValueError: If the model takes no frames, or `speaker` is not what it was built for.
        """
        if self.encoder is None or not self.encoder.config.num_features:
            raise ValueError("the model was built without frames; it has nothing to stream from")
        return FrameStream(self.encoder, speaker)

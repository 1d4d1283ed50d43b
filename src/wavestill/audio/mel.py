r"""Mel spectra, and the record of how they were made that travels with every model.

`T` samples give exactly `T // hop` frames. With the padding "same" they are laid as in HiFi-GAN:
the sound is padded by reflection with `(n_fft - hop) / 2` samples at either end, and frame `i` is
centred at sample `(i + 0.5) * hop`. With "center" they are laid as by Tacotron 2 and Vocos:
`n_fft / 2` samples at either end, frame `i` centred at `i * hop`; theirs have one frame more,
centred at the sound's end, which is left out here.
"""

import math
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn


@dataclass(frozen=True)
class MelSpec:
    r"""How a sound becomes frames; models with equal specs understand each other's frames.

    .. math:: m_{ik} = \log \max\Big(\text{floor}, \sum_f W_{kf} \, |X_{if}|\Big)

    with `X` the short-time Fourier transform under a periodic Hann window and `W` triangular mel
    filters.

    Arguments:
        sample_rate: Samples per second of the sound.
        n_fft: Length of the transform in samples.
        hop_samples: Samples from one frame to the next.
        win_samples: Length of the window in samples, centred in the transform.
        num_mels: Number of mel bands.
        f_min_hz: Lower edge of the lowest band.
        f_max_hz: Upper edge of the highest band, at most half the sample rate.
        log: Base of the logarithm.
        floor: Band magnitudes below this are raised to it, since silence has no logarithm.
        pitch: Whether two columns follow the mels: log F0 (nats of Hz) and voicing (0 or 1), at
            sample `(i + 0.5) * hop_samples` whatever the padding: there models take a frame to be.
        padding: Where frames are centred: "same", frame `i` at `(i + 0.5) * hop_samples`, or
            "center", at `i * hop_samples`.
        mel_scale: Slaney's scale (linear to 1 kHz, then logarithmic), or HTK's `2595 log10(1 + f /
            700)`.
        filter_norm: "slaney": each filter has unit area; "none": each has unit peak.

    Raises:
        ValueError: If the values contradict each other.
    """

    sample_rate: int
    n_fft: int
    hop_samples: int
    win_samples: int
    num_mels: int
    f_min_hz: float
    f_max_hz: float
    log: Literal["natural", "log10"] = "natural"
    floor: float = 1e-5
    pitch: bool = False
    padding: Literal["same", "center"] = "same"
    mel_scale: Literal["slaney", "htk"] = "slaney"
    filter_norm: Literal["slaney", "none"] = "slaney"

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "hop_samples", "win_samples", "num_mels", "floor"):
            if not getattr(self, name) > 0:
                raise ValueError(f"'{name}' is {getattr(self, name)}; it must be positive")
        if not self.hop_samples <= self.win_samples <= self.n_fft:
            raise ValueError(
                f"'hop_samples' {self.hop_samples}, 'win_samples' {self.win_samples} and 'n_fft' "
                f"{self.n_fft} must not decrease in this order"
            )
        if self.padding == "same" and (self.n_fft - self.hop_samples) % 2:
            raise ValueError(
                f"'n_fft' {self.n_fft} minus 'hop_samples' {self.hop_samples} is odd; "
                "it must be even, since half of it pads either end"
            )
        if not 0 <= self.f_min_hz < self.f_max_hz <= self.sample_rate / 2:
            raise ValueError(
                f"bands from 'f_min_hz' {self.f_min_hz} to 'f_max_hz' {self.f_max_hz} do not lie "
                f"within 0 to {self.sample_rate / 2} Hz, half the sample rate"
            )

    @property
    def num_features(self) -> int:
        """Columns of a frame: the mels, and two more with pitch."""
        return self.num_mels + 2 * self.pitch

    @property
    def padding_samples(self) -> int:
        """Samples of reflection at either end; a sound must be longer than this."""
        if self.padding == "center":
            return self.n_fft // 2
        return (self.n_fft - self.hop_samples) // 2

    @property
    def min_samples(self) -> int:
        """The shortest sound that has frames."""
        return max(self.padding_samples + 1, self.hop_samples)

    @property
    def summary(self) -> str:
        """The frames in a few words."""
        return f"{self.num_mels} mels" + (", log F0 and voicing" if self.pitch else "")

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "MelSpec":
        """The spec that `to_dict` described; a whole number will do for a frequency.

        Raises:
            ValueError: If a field is missing, unknown or of another type.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise ValueError(f"a mel spec has no field {', '.join(unknown)}")
        checked: dict[str, Any] = {}
        for field in fields(cls):
            value = values.get(field.name, field.default)
            if value is MISSING:
                raise ValueError(f"the mel spec lacks the field {field.name}")
            if field.type is float and type(value) is int:
                value = float(value)
            allowed = get_args(field.type)
            if allowed and value not in allowed:
                raise ValueError(f"'{field.name}' is {value!r}; it must be one of {allowed}")
            if not allowed and type(value) is not field.type:
                kind = getattr(field.type, "__name__", field.type)
                raise ValueError(f"'{field.name}' is {value!r}, not of type {kind}")
            checked[field.name] = value
        return cls(**checked)

    def require_same(self, other: object) -> None:
        """Refuse frames of another spec.

        Raises:
            ValueError: If `other` is no mel spec, or any field differs; the message names each
                with the value here and there.
        """
        if not isinstance(other, MelSpec):
            raise ValueError(
                f"mels against frames of a {type(other).__name__}; make both with one spec"
            )
        differing = [
            f"{name} {value!r} against {getattr(other, name)!r}"
            for name, value in self.to_dict().items()
            if value != getattr(other, name)
        ]
        if differing:
            raise ValueError(
                f"features of another spec: {', '.join(differing)}; "
                "make both with the same mel spec"
            )


MEL_PRESETS: dict[str, MelSpec] = {
    # the public HiFi-GAN checkpoints' (config_v1.json)
    "hifigan_22k": MelSpec(22050, 1024, 256, 1024, 80, 0.0, 8000.0),
    # NVIDIA's Tacotron 2 and WaveGlow (layers.py, stft.py): HiFi-GAN's mels, half a hop earlier
    "tacotron2_22k": MelSpec(22050, 1024, 256, 1024, 80, 0.0, 8000.0, padding="center"),
    # charactr/vocos-mel-24khz: torchaudio's MelSpectrogram(power=1), clipped at 1e-7
    "vocos_24k": MelSpec(
        *(24000, 1024, 256, 1024, 100, 0.0, 12000.0, "natural", 1e-7),
        padding="center",
        mel_scale="htk",
        filter_norm="none",
    ),
    # ours: 12.5 ms hop, 50 ms window, all the way up
    "wavestill_8k": MelSpec(8000, 512, 100, 400, 64, 0.0, 4000.0),
    "wavestill_16k": MelSpec(16000, 1024, 200, 800, 80, 0.0, 8000.0),
    "wavestill_24k": MelSpec(24000, 2048, 300, 1200, 80, 0.0, 12000.0),
}


def mel_filters(spec: MelSpec) -> Float32[np.ndarray, "M K"]:
    """The triangular filters of a spec over the `K = n_fft / 2 + 1` magnitudes of a spectrum."""
    import librosa  # slow to import: here, and not in everybody's start

    return np.asarray(
        librosa.filters.mel(
            sr=spec.sample_rate,
            n_fft=spec.n_fft,
            n_mels=spec.num_mels,
            fmin=spec.f_min_hz,
            fmax=spec.f_max_hz,
            htk=spec.mel_scale == "htk",
            norm=None if spec.filter_norm == "none" else spec.filter_norm,
        ),
        np.float32,
    )


class MelSpectrogram(nn.Module):
    r"""The mels of a `MelSpec`, differentiable; agrees with librosa to 1e-4.

    Note:
        HiFi-GAN takes :math:`\sqrt{|X|^2 + 10^{-9}}` to keep the gradient finite. Here the
        magnitude is exact and its gradient at zero is zero; near the floor of 1e-5 the two differ
        by up to 0.01.

    Arguments:
        spec: What to compute; its pitch columns are not made here
            (`wavestill.audio.features.extract` does).

    Example:
        >>> MelSpectrogram(MEL_PRESETS["wavestill_8k"])(torch.zeros(2, 850)).shape
        torch.Size([2, 8, 64])
    """

    window: Tensor
    filters: Tensor

    def __init__(self, spec: MelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("window", torch.hann_window(spec.win_samples), persistent=False)
        filters = torch.from_numpy(mel_filters(spec).T.copy())  # (n_fft / 2 + 1, M)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, x: Float[Tensor, "B T"]) -> Float[Tensor, "B F M"]:
        """Log-mels of sounds in [-1, 1]; `F = T // hop_samples`.

        Raises:
            ValueError: If `x` is shorter than the padding reflects.
        """
        spec = self.spec
        if x.shape[-1] < spec.min_samples:
            raise ValueError(
                f"a sound of {x.shape[-1]} samples is too short for these features, which need "
                f"{spec.min_samples}; give a longer one"
            )
        pad = spec.padding_samples
        padded = nn.functional.pad(x[:, None], (pad, pad), mode="reflect")[:, 0]
        num_frames = x.shape[-1] // spec.hop_samples
        spectrum = torch.stft(
            padded,
            spec.n_fft,
            spec.hop_samples,
            spec.win_samples,
            self.window,
            center=False,
            return_complex=True,
        )  # (B, n_fft / 2 + 1, F)
        mels = spectrum[..., :num_frames].abs().transpose(1, 2) @ self.filters  # (B, F, M)
        log = mels.clamp_min(spec.floor).log()
        return log / math.log(10) if spec.log == "log10" else log

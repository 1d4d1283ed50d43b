"""Griffin-Lim: what one gets from mel frames without learning; the floor to stand above."""

import librosa
import numpy as np
from jaxtyping import Float, Float32

from wavestill.audio.mel import MelSpec


def griffin_lim(
    frames: Float[np.ndarray, "F C"], spec: MelSpec, *, iterations: int = 60, seed: int = 0
) -> Float32[np.ndarray, " T"]:
    r"""A sound whose spectrum has about these mels, `T = F * hop_samples`.

    The mel bands are spread over the spectrum by non-negative least squares, :math:`\min_{X \ge 0}
    \|W X - m\|`, and phases are found by alternating projections (fast Griffin-Lim, momentum
    0.99), from random ones.

    References:
        | Griffin and Lim, "Signal estimation from modified short-time Fourier transform" (1984)
        | Perraudin et al., "A fast Griffin-Lim algorithm" (2013)

    Arguments:
        frames: Log-mels, with or without the columns of pitch (which are not used).
        spec: How the frames were made.
        iterations: Projections.
        seed: Of the starting phases.
    """
    log_mels = np.asarray(frames[:, : spec.num_mels], np.float64)
    mels = (10.0 if spec.log == "log10" else np.e) ** log_mels
    # frames at the floor stand for anything below it: silence
    mels[mels <= 1.001 * spec.floor] = 0
    spectrum = librosa.feature.inverse.mel_to_stft(
        mels.T,
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        power=1.0,
        fmin=spec.f_min_hz,
        fmax=spec.f_max_hz,
        htk=spec.mel_scale == "htk",
        norm=None if spec.filter_norm == "none" else spec.filter_norm,
    )
    padded = librosa.griffinlim(
        spectrum,
        n_iter=iterations,
        hop_length=spec.hop_samples,
        win_length=spec.win_samples,
        n_fft=spec.n_fft,
        center=False,
        random_state=seed,
    )
    start, length = spec.padding_samples, len(frames) * spec.hop_samples
    return np.asarray(padded[start : start + length], np.float32)

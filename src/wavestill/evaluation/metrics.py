r"""How far a sound is from the recording it copies.

All of them compare two sounds of the same length, sample by sample in step: copies made from a
recording's own frames need no alignment. A sound that a metric is not defined for (silence, a few
milliseconds) raises `UndefinedMetric` with the reason, so that it can be counted and named.
"""

import importlib.util
import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import soxr
import torch
from jaxtyping import Float
from scipy.fft import dct

from wavestill.audio.mel import MelSpec, MelSpectrogram
from wavestill.audio.pitch import estimate_pitch, harmonicity

Wave = Float[np.ndarray, " _"]

AUDIBLE_DB = 80.0
"""Mel bands are compared down to this far below the recording's loudest; what lies lower is masked
or room noise."""

_ANY_LENGTH_SECONDS = 0.05  # below this there is not even one frame of any metric


class UndefinedMetric(ValueError):
    """A metric has no value for this sound; the message says why in a few words."""


def mel_distance_db(reference: Wave, other: Wave, spec: MelSpec) -> float:
    r"""Log-spectral distance over mel bands, in dB.

    .. math:: \frac{1}{F} \sum_i \sqrt{\frac{1}{M} \sum_k \big(L_{ik} - L'_{ik}\big)^2},
        \qquad L = 20 \log_{10} \text{mel}

    Bands lower than `AUDIBLE_DB` below the reference's loudest are raised to there in both.

    References:
        | Gray and Markel, "Distance measures for speech processing" (1976), the log spectral
          distance in its L2 norm
    """
    difference = _audible_db(reference, other, spec)
    return float(np.sqrt(np.mean(difference**2, axis=1)).mean())


def mcd_db(reference: Wave, other: Wave, spec: MelSpec, *, num_cepstra: int = 13) -> float:
    r"""Mel-cepstral distortion in dB, without the level :math:`c_0`.

    .. math:: \frac{10}{\ln 10} \frac{1}{F} \sum_i \sqrt{2 \sum_{m=1}^{13} (c_{im} - c'_{im})^2},
    \qquad
        \ln \text{mel}_{ik} = c_{i0} / 2 + \sum_m c_{im} \cos \frac{\pi m (k + 1/2)}{M}

    The cepstra are the cosine transform of the log mel magnitudes, in the scale of SPTK's
    mel-cepstra: with all
    :math:`M - 1` of them this is the log-spectral distance of `mel_distance_db` less its mean over
    the bands.

    Note:
        Figures from other mel banks or from WORLD's envelopes are lower or higher by a few tenths:
        compare within one table only.

    References:
        | Kubichek, "Mel-cepstral distance measure for objective speech quality assessment" (1993)
    """
    decibels = _audible_db(reference, other, spec)
    nepers = decibels * np.log(10) / 20
    cepstra = dct(nepers, type=2, axis=1)[:, 1 : num_cepstra + 1] / spec.num_mels
    return float(10 / np.log(10) * np.sqrt(2 * np.sum(cepstra**2, axis=1)).mean())


def pesq(reference: Wave, other: Wave, sample_rate: int) -> float:
    """PESQ as a mean opinion score (MOS-LQO), 1 to 4.6.

    Narrow-band at 8 kHz; everything else is taken to 16 kHz, wide-band.

    References:
        | ITU-T P.862.1 (narrow-band), P.862.2 (wide-band)

    Raises:
        UndefinedMetric: If either sound is silent, has no utterance, or is shorter than a quarter
        of a second.
    """
    from pesq import PesqError
    from pesq import pesq as score

    _require_sound(reference, other)
    rate, mode = (8000, "nb") if sample_rate == 8000 else (16000, "wb")
    pair = [_resampled(x, sample_rate, rate) for x in (reference, other)]
    if min(map(len, pair)) < rate // 4:
        raise UndefinedMetric("shorter than a quarter of a second")
    try:
        value = float(score(rate, *pair, mode))
    except (PesqError, ValueError) as error:
        # the C code's own words, e.g. b'No utterances detected'
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error.args[0])
        raise UndefinedMetric(reason.strip("b'").lower()) from None
    return _finite(value)


def stoi(reference: Wave, other: Wave, sample_rate: int) -> float:
    """Short-time objective intelligibility, 0 to 1.

    References:
        | Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted
          noisy speech" (2011)

    Raises:
        UndefinedMetric: If either sound is silent, or less than 0.4 s of the reference is louder
        than silence.
    """
    from pystoi import stoi as score

    _require_sound(reference, other)
    if len(reference) < 0.4 * sample_rate:  # 30 frames of 12.8 ms
        raise UndefinedMetric("shorter than 0.4 s")
    with warnings.catch_warnings():
        # where there is no value it warns and returns 1e-5
        warnings.simplefilter("error", RuntimeWarning)
        try:
            value = float(score(np.float64(reference), np.float64(other), sample_rate))
        except RuntimeWarning:
            raise UndefinedMetric("less than 0.4 s of it is not silence") from None
    return _finite(value)


def f0_rmse_cents(reference: Wave, other: Wave, spec: MelSpec) -> float:
    r"""Root mean square error of F0 where both sounds are voiced, in cents (1200 to the octave).

    .. math:: 1200 \sqrt{\operatorname{mean} \log_2^2 (f' / f)}

    Raises:
        UndefinedMetric: If no frame is voiced in both.
    """
    log_f0, voicing, other_log_f0, other_voicing = _pitches(reference, other, spec)
    both = voicing & other_voicing
    if not both.any():
        raise UndefinedMetric("no frame is voiced in both")
    return float(1200 / np.log(2) * np.sqrt(np.mean((log_f0 - other_log_f0)[both] ** 2)))


def voicing_error(reference: Wave, other: Wave, spec: MelSpec) -> float:
    """Share of the frames that are voiced in one sound and not in the other, 0 to 1."""
    _, voicing, _, other_voicing = _pitches(reference, other, spec)
    return float(np.mean(voicing != other_voicing))


def harmonicity_at_pitch(reference: Wave, other: Wave, spec: MelSpec) -> float:
    """Autocorrelation of `other` at the reference's pitch lag, over its voiced frames.

    A clear voice has about 0.8, a whisper next to nothing; the recording's own is the figure to
    compare with (`wavestill.audio.pitch.harmonicity`).

    Raises:
        UndefinedMetric: If the reference has no voiced frame.
    """
    _require_sound(reference)
    log_f0, voicing = torch.from_numpy(estimate_pitch(reference, spec)).T[:, None]
    wave = torch.from_numpy(np.ascontiguousarray(other, np.float64))[None]
    value = float(harmonicity(wave, log_f0, voicing, spec.sample_rate, spec.hop_samples))
    if np.isnan(value):
        raise UndefinedMetric("no frame is voiced")
    return value


def std_over_data(reference: Wave, other: Wave) -> float:
    """Standard deviation as a share of the reference's.

    Raises:
        UndefinedMetric: If the reference is silent.
    """
    _require_sound(reference)
    return float(np.std(other) / np.std(reference))


def compare(
    reference: Wave, other: Wave, spec: MelSpec
) -> tuple[dict[str, float], dict[str, str]]:
    """Every metric of a copy against its recording, and the reasons of those without a value.

    Metrics whose library is not installed are in neither: `missing_libraries` names these.

    Arguments:
        reference: The recording, `(T,)`.
        other: The copy, `(T,)`.
        spec: Gives sample rate, mel bands and frames.

    Raises:
        ValueError: If the lengths differ.
    """
    if len(reference) != len(other):
        raise ValueError(
            f"the recording has {len(reference)} samples and its copy {len(other)}; "
            "cut one to the other"
        )
    rate = spec.sample_rate
    metrics: dict[str, Callable[[], float]] = {
        "mel_distance_db": lambda: mel_distance_db(reference, other, spec),
        "mcd_db": lambda: mcd_db(reference, other, spec),
        "pesq": lambda: pesq(reference, other, rate),
        "stoi": lambda: stoi(reference, other, rate),
        "f0_rmse_cents": lambda: f0_rmse_cents(reference, other, spec),
        "voicing_error": lambda: voicing_error(reference, other, spec),
        "harmonicity": lambda: harmonicity_at_pitch(reference, other, spec),
        "std_over_data": lambda: std_over_data(reference, other),
    }
    for name in missing_libraries():
        del metrics[name]
    values, reasons = {}, {}
    for name, metric in metrics.items():
        try:
            if not np.isfinite(other).all():
                raise UndefinedMetric("the sound is not finite")
            if len(reference) < max(_ANY_LENGTH_SECONDS * rate, spec.min_samples):
                raise UndefinedMetric("the clip is too short for any frame")
            values[name] = metric()
        except UndefinedMetric as reason:
            reasons[name] = str(reason)
    return values, reasons


def missing_libraries() -> dict[str, str]:
    """Metrics that cannot be had here, each with the library it lacks."""
    libraries = {"pesq": "pesq", "stoi": "pystoi"}
    return {
        name: library
        for name, library in libraries.items()
        if importlib.util.find_spec(library) is None
    }


def _audible_db(reference: Wave, other: Wave, spec: MelSpec) -> Float[np.ndarray, "F M"]:
    """Difference of the log mel spectra, both raised to what is audible beside the reference."""
    here, there = _mel_db(reference, spec), _mel_db(other, spec)
    floor = here.max() - AUDIBLE_DB
    return np.asarray(np.maximum(here, floor) - np.maximum(there, floor))


def _mel_db(x: Wave, spec: MelSpec) -> Float[np.ndarray, "F M"]:
    with torch.no_grad():
        mels = _mel_spectrogram(spec)(torch.from_numpy(np.asarray(x, np.float64))[None])[0].numpy()
    return np.asarray(mels * (20 if spec.log == "log10" else 20 / np.log(10)))


@cache
def _mel_spectrogram(spec: MelSpec) -> MelSpectrogram:
    return MelSpectrogram(spec).double()


def _pitches(reference: Wave, other: Wave, spec: MelSpec) -> tuple[np.ndarray, ...]:
    here, there = estimate_pitch(reference, spec), estimate_pitch(other, spec)
    return here[:, 0], here[:, 1] > 0.5, there[:, 0], there[:, 1] > 0.5


def _resampled(x: Wave, from_rate: int, to_rate: int) -> Float[np.ndarray, " N"]:
    wave = np.asarray(x, np.float64)
    resampled = wave if from_rate == to_rate else soxr.resample(wave, from_rate, to_rate, "VHQ")
    return np.asarray(resampled, np.float32)


def _require_sound(*sounds: Wave) -> None:
    if any(np.ptp(x) == 0 for x in sounds):
        raise UndefinedMetric("silent")


def _finite(value: float) -> float:
    if not np.isfinite(value):
        raise UndefinedMetric("no finite value")
    return value

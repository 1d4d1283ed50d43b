"""Fundamental frequency at frame rate, and how harmonic a sound is at a given one."""

import importlib.util
from functools import cache
from importlib.machinery import PathFinder
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from wavestill.audio.spec import FeatureSpec

F0_MIN_HZ, F0_MAX_HZ = 60.0, 800.0
F0_UNVOICED_HZ = 150.0
"""F0 given to sounds without a single voiced frame, whose contour could be anything."""


def estimate_pitch(wave: Float[np.ndarray, " T"], spec: FeatureSpec) -> Float32[np.ndarray, "F 2"]:
    """Log F0 in nats of Hz and voicing (0 or 1), at each frame's centre `(i + 0.5) * hop_samples`.

    Log F0 is carried linearly through unvoiced stretches and held flat before the first and after
    the last voiced frame, so it is continuous; a wholly unvoiced sound has `F0_UNVOICED_HZ`
    throughout. The estimator is WORLD's DIO refined by StoneMask where pyworld is installed, else
    librosa's pYIN (some 20 times slower); `pitch_estimator` says which.

    References:
        | WORLD (Morise et al., 2016), section 3.1, https://doi.org/10.1587/transinf.2015EDP7457
        | pYIN (Mauch and Dixon, 2014), https://doi.org/10.1109/ICASSP.2014.6853678
    """
    hop = spec.hop_samples
    num_frames = len(wave) // hop
    # Both estimators look at times i * hop: without the first half hop these are the centres.
    shifted = np.ascontiguousarray(wave[hop // 2 : num_frames * hop], dtype=np.float64)
    world = _world()
    if world is not None:
        period_ms = 1e3 * hop / spec.sample_rate
        coarse_hz, times_s = world.dio(
            shifted, spec.sample_rate, F0_MIN_HZ, F0_MAX_HZ, frame_period=period_ms
        )
        f0_hz = world.stonemask(shifted, coarse_hz, times_s, spec.sample_rate)
    else:
        f0_hz = _pyin(shifted, spec)
    f0_hz = f0_hz[:num_frames]
    voiced = f0_hz > 0
    log_f0 = carried_through(np.log(np.where(voiced, f0_hz, 1.0)), voiced)
    return np.stack([log_f0, voiced], axis=1).astype(np.float32)


def carried_through(
    log_f0: Float[np.ndarray, " F"], voiced: Bool[np.ndarray, " F"]
) -> Float[np.ndarray, " F"]:
    """Log F0 of voiced frames, carried through the others as `estimate_pitch` says."""
    if not voiced.any():
        return np.full(len(log_f0), np.log(F0_UNVOICED_HZ))
    frame = np.arange(len(log_f0))
    return np.asarray(np.interp(frame, frame[voiced], log_f0[voiced]))


def pitch_estimator() -> str:
    """The estimator this machine uses."""
    return "pyin (librosa)" if _world() is None else "dio + stonemask (pyworld)"


@cache
def _world() -> ModuleType | None:
    """WORLD's compiled module, or None where pyworld is not installed.

    It is loaded past pyworld's own `__init__`, which imports pkg_resources: setuptools has dropped
    that.
    """
    package = importlib.util.find_spec("pyworld")
    if package is None or package.submodule_search_locations is None:
        return None
    found = PathFinder.find_spec("pyworld.pyworld", list(package.submodule_search_locations))
    if found is None or found.loader is None:
        return None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _pyin(wave: Float[np.ndarray, " T"], spec: FeatureSpec) -> Float[np.ndarray, " F"]:
    import librosa  # slow to import, and most have pyworld

    window = 1 << round(
        np.log2(4 * spec.sample_rate / F0_MIN_HZ)
    )  # about four periods of the lowest F0
    f0_hz, _, _ = librosa.pyin(
        wave,
        sr=spec.sample_rate,
        fmin=F0_MIN_HZ,
        fmax=F0_MAX_HZ,
        frame_length=window,
        hop_length=spec.hop_samples,
        fill_na=0.0,
    )
    return np.asarray(f0_hz)


def harmonicity(
    x: Float[Tensor, "B T"],
    log_f0: Float[Tensor, "B F"],
    voicing: Float[Tensor, "B F"],
    sample_rate: int,
    hop_samples: int,
) -> Float[Tensor, ""]:
    r"""Mean normalised autocorrelation at the pitch lag over voiced frames; a whisper has 0.

    .. math:: r = \frac{\sum_n x_n \, x_{n+L}}{\sqrt{\sum_n x_n^2 \, \sum_n x_{n+L}^2}}, \qquad
        L = \mathrm{round}(f_s / F_0)

    over 40 ms around each voiced frame's centre. Frames whose stretch would leave the sound are
    left out, and silent ones count as 0. NaN if no frame remains.

    Arguments:
        x: Sounds.
        log_f0: Log F0 of each frame, nats of Hz.
        voicing: Frames above 0.5 are voiced.
        sample_rate: Samples per second.
        hop_samples: Samples per frame; frame `i` is centred at `(i + 0.5) * hop_samples`.
    """
    length = round(0.04 * sample_rate)
    clip, frame = torch.nonzero(voicing > 0.5, as_tuple=True)  # (N,) each, N voiced frames
    lag = (sample_rate / log_f0[clip, frame].exp()).round().long()
    start = frame * hop_samples + hop_samples // 2 - (length + lag) // 2
    inside = (start >= 0) & (start + length + lag <= x.shape[1])
    clip, lag, start = clip[inside, None], lag[inside, None], start[inside, None]
    index = start + torch.arange(length, device=x.device)  # (N, length)
    here, later = x[clip, index], x[clip, index + lag]
    energy = (here.square().sum(1) * later.square().sum(1)).sqrt()
    tiny = torch.finfo(x.dtype).tiny  # silence: 0 / tiny = 0
    return ((here * later).sum(1) / energy.clamp_min(tiny)).mean()

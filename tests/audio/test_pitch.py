"""F0 on the frames' centres, and harmonicity."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from wavestill.audio import pitch
from wavestill.audio.mel import MEL_PRESETS
from wavestill.audio.pitch import F0_UNVOICED_HZ, estimate_pitch, harmonicity

SPEC = replace(MEL_PRESETS["wavestill_16k"], pitch=True)
RATE, HOP = SPEC.sample_rate, SPEC.hop_samples
NEEDS_WORLD = pytest.mark.skipif(
    "pyin" in pitch.pitch_estimator(), reason="pyworld is not installed"
)


def glide(num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """A tone complex whose F0 doubles, and its F0 at the centres of its frames."""
    time = np.arange(num_frames * HOP) / (num_frames * HOP)
    f0 = 100 * 2**time
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    wave = 0.1 * sum(np.sin(k * phase) / k for k in range(1, 12))
    centre = (np.arange(num_frames) + 0.5) / num_frames
    return wave, np.log(100 * 2**centre)


@pytest.fixture(params=[pytest.param("world", marks=NEEDS_WORLD), "pyin"])
def estimator(request, monkeypatch):
    if request.param == "pyin":
        monkeypatch.setattr(pitch, "_world", lambda: None)
    return request.param


def test_f0_is_that_of_the_frames_centre(estimator):
    wave, expected = glide(80)  # 0.87 % a frame: half a hop of shift would show
    log_f0, voicing = estimate_pitch(wave, SPEC).T
    inner = slice(8, -8)
    assert voicing[inner].all()
    tolerance = 0.002 if estimator == "world" else 0.006  # pYIN's grid is a tenth of a semitone
    assert np.abs(np.mean(log_f0[inner] - expected[inner])) < tolerance
    assert np.abs(log_f0[inner] - expected[inner]).max() < 0.02


@NEEDS_WORLD
@pytest.mark.parametrize("num_samples", [413, 600, 4000, 4001, 4199])
def test_a_row_per_whole_frame(voice, num_samples):
    frames = estimate_pitch(voice(0.5)[:num_samples], SPEC)
    assert frames.shape == (num_samples // HOP, 2)
    assert frames.dtype == np.float32
    assert np.isfinite(frames).all()


@NEEDS_WORLD
def test_log_f0_crosses_unvoiced_stretches_in_a_straight_line():
    wave, expected = glide(80)
    wave[30 * HOP : 50 * HOP] = 0
    wave[: 5 * HOP] = 0
    log_f0, voicing = estimate_pitch(wave, SPEC).T
    assert not voicing[35:45].any()
    assert not voicing[:4].any()
    last = np.flatnonzero(voicing[:40])[-1]
    following = 40 + np.flatnonzero(voicing[40:])[0]
    slope = np.diff(log_f0[last : following + 1])
    np.testing.assert_allclose(slope, slope[0], atol=1e-5)
    first = np.flatnonzero(voicing)[0]
    assert (log_f0[:first] == log_f0[first]).all()
    assert np.abs(log_f0[35:45] - expected[35:45]).max() < 0.05


def test_a_wholly_unvoiced_sound_has_a_constant(estimator):
    noise = np.random.default_rng(0).normal(size=40 * HOP) * (1e-5 if estimator == "pyin" else 0)
    monkey = estimate_pitch(noise, SPEC)
    assert not monkey[:, 1].any()
    np.testing.assert_allclose(monkey[:, 0], np.log(F0_UNVOICED_HZ), rtol=1e-6)


def test_harmonicity_tells_a_voice_from_a_whisper():
    wave, log_f0 = glide(60)
    noise = 0.1 * np.random.default_rng(0).normal(size=len(wave))
    x = torch.from_numpy(np.stack([wave, noise]))
    log_f0_of_both = torch.from_numpy(np.stack([log_f0, log_f0]))
    voicing = torch.ones(2, 60, dtype=torch.float64)
    voiced, whispered = (
        harmonicity(x[i : i + 1], log_f0_of_both[i : i + 1], voicing[i : i + 1], RATE, HOP)
        for i in (0, 1)
    )
    assert voiced > 0.95
    assert abs(whispered) < 0.05
    torch.testing.assert_close(
        harmonicity(x, log_f0_of_both, voicing, RATE, HOP), (voiced + whispered) / 2
    )


def test_harmonicity_is_the_formula_over_voiced_frames_only():
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.normal(size=(1, 30 * HOP)))
    log_f0 = torch.full((1, 30), float(np.log(163.0)), dtype=torch.float64)
    voicing = torch.zeros(1, 30, dtype=torch.float64)
    voicing[0, [7, 19]] = 1
    lag, length = round(RATE / 163), round(0.04 * RATE)
    values = []
    for frame in (7, 19):
        start = frame * HOP + HOP // 2 - (length + lag) // 2
        here, later = x[0, start : start + length], x[0, start + lag : start + lag + length]
        values.append((here @ later) / (here.norm() * later.norm()))
    torch.testing.assert_close(
        harmonicity(x, log_f0, voicing, RATE, HOP), torch.stack(values).mean(), rtol=1e-9, atol=0
    )


def test_harmonicity_without_voiced_frames_is_nan_and_of_silence_zero():
    x = torch.zeros(1, 30 * HOP)
    log_f0 = torch.full((1, 30), 5.0)
    assert harmonicity(x, log_f0, torch.zeros(1, 30), RATE, HOP).isnan()
    assert harmonicity(x, log_f0, torch.ones(1, 30), RATE, HOP) == 0

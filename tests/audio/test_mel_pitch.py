"""F0 from mels: that of tones and of speech; silence and noise have none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch

from wavestill.audio.features import extract
from wavestill.audio.files import read_sound
from wavestill.audio.mel import MEL_PRESETS, MelSpec
from wavestill.audio.mel_pitch import estimate_pitch_from_mels
from wavestill.audio.pitch import F0_UNVOICED_HZ

NAMES = sorted(MEL_PRESETS)
CENT = np.log(2) / 1200
SPEECH = Path(__file__).parents[3] / "shared" / "data" / "kathleen_24k" / "flac"


def vowel(spec: MelSpec, f0_hz: np.ndarray, *, noise: float = 0.002, seed: int = 0) -> np.ndarray:
    """Harmonics of `f0_hz (T,)` under two formants and a tilt, in a little noise."""
    phase = 2 * np.pi * np.cumsum(f0_hz) / spec.sample_rate
    wave = np.zeros(len(f0_hz))
    for k in range(1, int(spec.sample_rate / 2 / f0_hz.max())):
        hz = k * f0_hz.mean()
        gain = sum(1 / (1 + ((hz - formant) / 150) ** 2) for formant in (500, 1500)) + 0.03
        wave += gain * np.sin(k * phase) * min(1, 500 / hz)
    return 0.05 * wave + noise * np.random.default_rng(seed).normal(size=len(wave))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("start_hz", [90, 140, 220, 340])
def test_a_gliding_vowel_has_its_f0(name: str, start_hz: float) -> None:
    spec = MEL_PRESETS[name]
    num_frames = spec.sample_rate // spec.hop_samples
    f0_hz = start_hz * 1.2 ** np.linspace(0, 1, num_frames * spec.hop_samples)
    log_f0, voicing = estimate_pitch_from_mels(extract(vowel(spec, f0_hz), spec), spec).T
    centre = (np.arange(num_frames) + 0.5) * spec.hop_samples
    inner = slice(6, -6)
    assert voicing[inner].mean() > 0.95
    cents = (log_f0 - np.log(f0_hz[centre.astype(int)]))[inner] / CENT
    # a glide of 316 cents in a second: half a hop of shift would be 2 cents
    assert np.median(np.abs(cents)) < 20
    assert (np.abs(cents) < 100).mean() > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_only_the_voiced_part_is_voiced(name: str) -> None:
    spec = MEL_PRESETS[name]
    num_frames = 60
    wave = vowel(spec, np.full(num_frames * spec.hop_samples, 150.0))
    silent = slice(20 * spec.hop_samples, 40 * spec.hop_samples)
    wave[silent] = 0.01 * np.random.default_rng(1).normal(size=20 * spec.hop_samples)
    log_f0, voicing = estimate_pitch_from_mels(extract(wave, spec), spec).T
    assert voicing[4:16].all()
    assert voicing[44:56].all()
    assert voicing[26:34].sum() <= 2
    assert np.abs(log_f0[5:55] - np.log(150)).max() < 60 * CENT  # carried through


@pytest.mark.parametrize("wave", ["silence", "one frame", "noise"])
def test_what_has_no_pitch(wave: str) -> None:
    spec = MEL_PRESETS["wavestill_16k"]
    mels = np.full((1 if wave == "one frame" else 80, spec.num_mels), np.log(spec.floor))
    if wave == "noise":
        torch.manual_seed(0)
        mels = extract(0.1 * torch.randn(80 * spec.hop_samples).numpy(), spec)
    pitch = estimate_pitch_from_mels(mels, spec)
    assert pitch.shape == (len(mels), 2)
    assert pitch.dtype == np.float32
    assert pitch[:, 1].mean() < 0.2
    assert np.isfinite(pitch).all()
    if wave != "noise":
        assert np.allclose(pitch[:, 0], np.log(F0_UNVOICED_HZ))


def test_it_depends_neither_on_level_nor_on_the_logarithms_base() -> None:
    spec = MEL_PRESETS["wavestill_16k"]
    mels = extract(vowel(spec, np.full(16000, 130.0)), spec)
    pitch = estimate_pitch_from_mels(mels, spec)
    np.testing.assert_allclose(estimate_pitch_from_mels(mels - 3, spec), pitch, atol=1e-5)
    in_tens = replace(spec, log="log10")
    np.testing.assert_allclose(
        estimate_pitch_from_mels(mels / np.log(10), in_tens), pitch, atol=1e-5
    )


def test_frames_of_another_shape_are_refused() -> None:
    spec = MEL_PRESETS["wavestill_16k"]
    for shape in ((0, 80), (3, 82)):
        with pytest.raises(ValueError, match=r"must be \(frames, 80\)"):
            estimate_pitch_from_mels(np.zeros(shape), spec)


@pytest.mark.slow
@pytest.mark.skipif(not SPEECH.is_dir(), reason="the development speech is not here")
@pytest.mark.parametrize("name", ["wavestill_8k", "wavestill_16k", "wavestill_24k", "hifigan_22k"])
def test_speech_is_as_far_off_as_is_said(name: str) -> None:
    spec = replace(MEL_PRESETS[name], pitch=True)
    cents, is_wrong = [], []
    for path in sorted(SPEECH.glob("*.flac"))[::40]:
        wave, rate, _ = read_sound(path)
        frames = extract(soxr.resample(wave, rate, spec.sample_rate), spec)
        pitch = estimate_pitch_from_mels(frames[:, :-2], spec)
        both = (pitch[:, 1] > 0.5) & (frames[:, -1] > 0.5)
        cents.append((pitch[:, 0] - frames[:, -2])[both] / CENT)
        is_wrong.append(pitch[:, 1] != frames[:, -1])
    off, wrong = np.abs(np.concatenate(cents)), np.concatenate(is_wrong).mean()
    assert np.median(off) < 16
    assert (off > 1200 * np.log2(1.2)).mean() < 0.02
    assert wrong < 0.13

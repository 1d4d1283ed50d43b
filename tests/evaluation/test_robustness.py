"""Blurred frames, changed recordings, and the figures made of them."""

import numpy as np
import pytest
import torch

from wavestill.audio import Corpus
from wavestill.audio.mel import MEL_PRESETS
from wavestill.evaluation.robustness import blur_curve, blurred, generalisation
from wavestill.evaluation.stand_ins import room, stand_ins
from wavestill.models import IAFWaveNet, IAFWaveNetConfig, WaveNet, WaveNetConfig
from wavestill.nn.conditioning import ConditioningConfig
from wavestill.publish import Voice

SPEC = MEL_PRESETS["wavestill_8k"]


def test_a_blur_spreads_an_impulse_by_its_width_and_keeps_its_sum() -> None:
    frames = np.zeros((101, 66), np.float32)
    frames[50, 32] = 1.0
    frames[:, 64:] = np.random.default_rng(0).normal(size=(101, 2))
    smeared = blurred(frames, SPEC, 3.0, 2.0)
    assert np.array_equal(smeared[:, 64:], frames[:, 64:])  # pitch is left alone
    mels = smeared[:, :64].astype(np.float64)
    assert mels.sum() == pytest.approx(1.0, abs=1e-3)
    time, band = np.arange(101) - 50, np.arange(64) - 32
    assert np.sqrt(mels.sum(1) @ time**2) == pytest.approx(3.0, rel=0.01)
    assert np.sqrt(mels.sum(0) @ band**2) == pytest.approx(2.0, rel=0.01)


def test_no_blur_changes_nothing() -> None:
    frames = np.random.default_rng(0).normal(size=(20, 64)).astype(np.float32)
    assert np.array_equal(blurred(frames, SPEC, 0, 0), frames)


def test_a_room_dies_away_by_60_db() -> None:
    response = room(8000, np.random.default_rng(0), seconds=0.5)
    assert response[0] == 1.0
    early, late = (np.std(response[part]) for part in (slice(20, 420), slice(3600, 4000)))
    assert 20 * np.log10(early / late) == pytest.approx(60 * 3580 / 4000, abs=3.0)


def test_every_change_keeps_a_recording_finite_and_as_long(recordings) -> None:
    time_s = np.arange(8000) / 8000
    buzz = sum(np.sin(2 * np.pi * 120 * k * time_s) / k for k in range(1, 10))
    made = stand_ins({"buzz": 0.1 * buzz}, 8000)
    assert next(iter(made)) == "as recorded"
    for condition, sounds in made.items():
        for wave, rate in sounds.values():
            assert np.isfinite(wave).all(), condition
            assert np.abs(wave).max() <= 1.0
            if "flite" not in condition:
                assert len(wave) / rate == pytest.approx(1.0, abs=0.01)


def test_figures_of_a_voice(corpus: Corpus) -> None:
    clip, spec = corpus.split("test")[0], corpus.spec
    conditioning = ConditioningConfig(
        spec.num_features, spec.hop_samples, spec.sample_rate, channels=4
    )
    torch.manual_seed(0)
    student = IAFWaveNet(IAFWaveNetConfig((2, 2), channels=4, conditioning=conditioning))
    teacher = WaveNet(WaveNetConfig(3, 3, 4, 4, 4, conditioning=conditioning))
    for model in (teacher, student):
        model.calibrate(torch.from_numpy(clip.wave))
    voice = Voice(spec, teacher.eval(), student.eval())
    curve = blur_curve(voice, [clip], [(0, 0), (2, 2)], spec)
    assert [row.condition for row in curve] == ["0 frames, 0 bands", "2 frames, 2 bands"]
    assert all(row.num_clips == 1 and "mcd_db" in row.metrics for row in curve)
    exact = generalisation(voice, {"itself": [(clip, clip.wave)]}, spec)
    assert [row.system for row in exact] == ["student", "griffin_lim"]
    assert exact[0].metrics["mcd_db"] == 0.0
    assert exact[0].nats is not None
    assert exact[1].metrics["mcd_db"] > 0.0

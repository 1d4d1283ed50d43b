import numpy as np
import pytest

from wavestill.audio.features import extract
from wavestill.evaluation.griffin_lim import griffin_lim
from wavestill.evaluation.metrics import mel_distance_db


@pytest.mark.parametrize(
    "changes", [{}, {"log": "log10"}, {"pitch": True}, {"win_samples": 200}], ids=str
)
def test_it_returns_to_the_frames_it_was_given(wave, spec, changes):
    spec = type(spec)(**{**spec.to_dict(), **changes})
    wave = wave[: len(wave) // spec.hop_samples * spec.hop_samples]
    copy = griffin_lim(extract(wave, spec), spec)
    assert copy.shape == wave.shape
    assert copy.dtype == np.float32
    # in step to the frame: half a frame of delay would cost some 2 dB
    assert mel_distance_db(wave, copy, spec) < 2.5
    assert mel_distance_db(wave, np.roll(copy, 3 * spec.hop_samples), spec) > 5


def test_the_seed_decides(wave, spec):
    frames = extract(wave, spec)
    first, again, other = (
        griffin_lim(frames, spec, iterations=2, seed=seed) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("num_frames", [1, 2])
def test_silence_and_a_single_frame(spec, num_frames):
    frames = np.full((num_frames, spec.num_mels), np.log(spec.floor), np.float32)
    copy = griffin_lim(frames, spec)
    assert copy.shape == (num_frames * spec.hop_samples,)
    assert np.abs(copy).max() < 1e-6

"""Conversion between specs: what the sound itself would have given, or a refusal."""

from dataclasses import replace

import numpy as np
import pytest

from wavestill.audio.conversion import convert_frames
from wavestill.audio.features import extract, load_frames, save_frames
from wavestill.audio.mel import MEL_PRESETS

SPEC = replace(MEL_PRESETS["wavestill_8k"], pitch=True)
EXACT = {
    "nothing": {},
    "base": {"log": "log10"},
    "higher floor": {"floor": 3e-2},
    "no pitch": {"pitch": False},
    "all": {"log": "log10", "floor": 3e-2, "pitch": False},
}
ANOTHER = {
    "sample_rate": 8820,
    "n_fft": 514,
    "hop_samples": 80,
    "win_samples": 512,
    "num_mels": 40,
    "f_min_hz": 20.0,
    "f_max_hz": 3800.0,
    "padding": "center",
    "mel_scale": "htk",
    "filter_norm": "none",
}


@pytest.mark.parametrize("changes", EXACT.values(), ids=EXACT)
def test_converted_frames_are_those_of_the_sound(voice, changes):
    wave = voice(0.4, 8000)
    wanted = replace(SPEC, **changes)
    frames = extract(wave, SPEC)
    converted = convert_frames(frames, SPEC, wanted)
    assert converted.dtype == np.float32
    np.testing.assert_allclose(converted, extract(wave, wanted), rtol=0, atol=2e-6)
    if "floor" in changes:
        raised = frames[:, :64] < np.log(3e-2)
        assert 0.1 < raised.mean() < 0.9  # the floor is felt


def test_there_and_back_through_the_other_base(voice):
    frames = extract(voice(0.4, 8000), SPEC)
    decades = replace(SPEC, log="log10")
    back = convert_frames(convert_frames(frames, SPEC, decades), decades, SPEC)
    np.testing.assert_allclose(back, frames, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(convert_frames(frames, SPEC, SPEC), frames)


@pytest.mark.parametrize(("field", "value"), ANOTHER.items(), ids=ANOTHER)
def test_what_would_need_the_sound_is_refused_by_field(field, value):
    frames = np.zeros((3, 66), np.float32)
    with pytest.raises(ValueError, match=f"{field} .*, wanted {value!r}") as caught:
        convert_frames(frames, SPEC, replace(SPEC, **{field: value}))
    others = ANOTHER.keys() - {field}
    assert not [other for other in others if f" {other} " in str(caught.value)]
    assert "\n" not in str(caught.value)


def test_what_was_lost_does_not_come_back():
    frames = np.zeros((3, 64), np.float32)
    bare = replace(SPEC, pitch=False)
    with pytest.raises(ValueError, match=r"floor 1e-05, wanted 1e-07 \(a lower floor"):
        convert_frames(frames, bare, replace(bare, floor=1e-7))
    with pytest.raises(ValueError, match=r"pitch False, wanted True \(columns that are not there"):
        convert_frames(frames, bare, SPEC)
    with pytest.raises(ValueError, match=r"shape \(3, 64\), but .* \(frames, 66\)"):
        convert_frames(frames, SPEC, bare)


def test_saved_frames_are_converted_where_they_can_be(voice, tmp_path):
    frames = extract(voice(0.4, 8000), SPEC)
    save_frames(tmp_path / "a.npz", frames, SPEC)
    bare = replace(SPEC, pitch=False)
    np.testing.assert_array_equal(load_frames(tmp_path / "a.npz", bare), frames[:, :64])
    with pytest.raises(ValueError, match=r"a\.npz: .*n_fft 512, wanted 514"):
        load_frames(tmp_path / "a.npz", replace(SPEC, n_fft=514))

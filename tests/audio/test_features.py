"""Frames from sounds, and frames in files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from wavestill.audio.features import extract, load_frames, save_frames
from wavestill.audio.mel import MEL_PRESETS, MelSpectrogram
from wavestill.audio.pitch import estimate_pitch

PLAIN = MEL_PRESETS["wavestill_8k"]
SPEC = replace(PLAIN, pitch=True)


def test_features_are_mels_then_log_f0_and_voicing(voice):
    wave = voice(0.3, 8000)
    frames = extract(wave, SPEC)
    assert frames.shape == (24, 66)
    assert frames.dtype == np.float32
    mels = MelSpectrogram(PLAIN).double()(torch.from_numpy(wave).double()[None])[0]
    np.testing.assert_allclose(frames[:, :-2], mels, atol=1e-5)
    np.testing.assert_array_equal(frames[:, -2:], estimate_pitch(wave, SPEC))
    np.testing.assert_array_equal(extract(wave, PLAIN), frames[:, :-2])


def test_what_is_not_one_finite_sound_is_refused(voice):
    wave = voice(0.3, 8000)
    wave[7] = np.nan
    with pytest.raises(ValueError, match="1 of 2,400 samples are not finite"):
        extract(wave, PLAIN)
    with pytest.raises(ValueError, match=r"shape \(2, 900\)"):
        extract(np.zeros((2, 900), np.float32), PLAIN)
    with pytest.raises(ValueError, match="too short"):
        extract(np.zeros(100, np.float32), SPEC)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_saved_frames_come_back(voice, tmp_path, suffix):
    frames = extract(voice(0.3, 8000), SPEC)
    save_frames(tmp_path / f"a{suffix}", frames, SPEC)
    np.testing.assert_array_equal(load_frames(tmp_path / f"a{suffix}", SPEC), frames)


def test_frames_of_another_spec_are_refused_by_field(voice, tmp_path):
    save_frames(tmp_path / "a.npz", extract(voice(0.3, 8000), PLAIN), PLAIN)
    with pytest.raises(ValueError, match=r"a\.npz: .*f_max_hz 4000.0, wanted 3000.0") as caught:
        load_frames(tmp_path / "a.npz", replace(PLAIN, f_max_hz=3000.0))
    assert "num_mels" not in str(caught.value)


BAD_ARRAYS = {
    "too few columns": (np.zeros((5, 63), np.float32), r"shape \(5, 63\).*\(frames, 64\)"),
    "transposed": (np.zeros((64, 5), np.float32), "transpose them"),
    "batched": (np.zeros((1, 5, 64), np.float32), r"shape \(1, 5, 64\)"),
    "no frames": (np.zeros((0, 64), np.float32), "holds no frames"),
    "integers": (np.zeros((5, 64), np.int64), "int64, not floating"),
    "NaN": (np.full((5, 64), np.nan, np.float32), "320 of 320 values are not finite"),
    "objects": (np.array([[None] * 64]), "not readable as frames"),
}


@pytest.mark.parametrize(("array", "reason"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_bad_arrays_are_refused_in_one_line(tmp_path, array, reason, suffix):
    path = tmp_path / f"bad{suffix}"
    if suffix == ".npy":
        np.save(path, array, allow_pickle=True)
    else:
        np.savez(path, frames=array, spec=np.array(json.dumps(PLAIN.to_dict())))
    with pytest.raises(ValueError, match=reason) as caught:
        load_frames(path, PLAIN)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_that_hold_no_frames_are_refused_in_one_line(tmp_path):
    good = tmp_path / "good.npz"
    save_frames(good, np.zeros((50, 64), np.float32), PLAIN)
    cases = {
        "empty.npy": b"",
        "text.npz": b"hello",
        "half.npz": good.read_bytes()[:2000],
        "text.npy": b"x" * 500,
    }
    save_frames(tmp_path / "whole.npy", np.zeros((50, 64), np.float32), PLAIN)
    cases["half.npy"] = (tmp_path / "whole.npy").read_bytes()[:1000]
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    np.savez(tmp_path / "bare.npz", frames=np.zeros((5, 64)))
    (tmp_path / "really_npz.npy").write_bytes(good.read_bytes())
    (tmp_path / "really_npy.npz").write_bytes((tmp_path / "whole.npy").read_bytes())
    np.savez(tmp_path / "spec.npz", frames=np.zeros((5, 64)), spec=np.array("[1]"))
    for name in [
        *cases,
        "bare.npz",
        "spec.npz",
        "really_npz.npy",
        "really_npy.npz",
        "absent.npy",
        "frames.txt",
    ]:
        with pytest.raises(ValueError, match=name) as caught:
            load_frames(tmp_path / name, PLAIN)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"\.npz .*not '.wav'"):
        save_frames(tmp_path / "a.wav", np.zeros((5, 64), np.float32), PLAIN)

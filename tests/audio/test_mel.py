"""Mel frames: librosa's values, HiFi-GAN's framing, and specs that do not mix."""

from dataclasses import replace

import librosa
import numpy as np
import pytest
import torch

from wavestill.audio.mel import MEL_PRESETS, MelSpec, MelSpectrogram

SPECS = {**MEL_PRESETS, "log10": replace(MEL_PRESETS["wavestill_16k"], log="log10", floor=1e-4)}


def librosa_mels(wave: np.ndarray, spec: MelSpec) -> np.ndarray:
    if spec.padding == "same":
        wave = np.pad(wave, (spec.n_fft - spec.hop_samples) // 2, mode="reflect")
    magnitude = np.abs(
        librosa.stft(
            wave,
            n_fft=spec.n_fft,
            hop_length=spec.hop_samples,
            win_length=spec.win_samples,
            center=spec.padding == "center",
            pad_mode="reflect",
        )
    )
    if spec.padding == "center":
        magnitude = magnitude[:, :-1]
    filters = librosa.filters.mel(
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        n_mels=spec.num_mels,
        fmin=spec.f_min_hz,
        fmax=spec.f_max_hz,
        htk=spec.mel_scale == "htk",
        norm={"slaney": "slaney", "none": None}[spec.filter_norm],
    )
    mels = np.maximum(filters @ magnitude, spec.floor).T
    return np.log10(mels) if spec.log == "log10" else np.log(mels)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_mels_agree_with_librosa(voice, spec, dtype):
    wave = voice(0.7, spec.sample_rate)
    ours = MelSpectrogram(spec).to(dtype)(torch.from_numpy(wave)[None].to(dtype))[0]
    np.testing.assert_allclose(
        ours, librosa_mels(wave.astype(np.float64), spec), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_frames_are_whole_hops_centred_in_them(spec):
    hop = spec.hop_samples
    mel = MelSpectrogram(spec)
    for num_samples in (12 * hop, 12 * hop + 1, 13 * hop - 1):
        assert mel(torch.zeros(2, num_samples)).shape == (2, 12, spec.num_mels)
    click = torch.zeros(1, 24 * hop)
    click[0, 10 * hop + (hop // 2 if spec.padding == "same" else 0)] = 1  # the centre of frame 10
    level = mel(click)[0].mean(1)
    assert level.argmax() == 10
    torch.testing.assert_close(level[10 - 1], level[10 + 1], rtol=1e-2, atol=1e-2)


def test_gradient_is_finite_even_in_silence_and_right_elsewhere(voice):
    spec = MelSpec(8000, 32, 16, 32, 4, 0.0, 4000.0)
    mel = MelSpectrogram(spec).double()
    silence = torch.zeros(1, 200, dtype=torch.float64, requires_grad=True)
    mel(silence).sum().backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()
    x = torch.from_numpy(voice(0.01, 8000)).double()[None].requires_grad_()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    (gradient,) = torch.autograd.grad(mel(x).sum(), x)
    step = 1e-6 * direction
    slope = (mel(x + step).sum() - mel(x - step).sum()) / 2e-6
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-6, atol=0)


def test_buffers_stay_out_of_the_checkpoint():
    assert not MelSpectrogram(MEL_PRESETS["wavestill_8k"]).state_dict()


def test_too_short_a_sound_is_refused_with_both_lengths():
    spec = MEL_PRESETS["wavestill_16k"]
    assert (
        MelSpectrogram(spec)(torch.zeros(1, spec.min_samples)).shape[1] == spec.min_samples // 200
    )
    with pytest.raises(ValueError, match=r"412 samples is too short .* need 413"):
        MelSpectrogram(spec)(torch.zeros(1, spec.min_samples - 1))


def test_other_specs_are_refused_naming_each_field_with_both_values():
    spec = MEL_PRESETS["wavestill_16k"]
    spec.require_same(replace(spec))
    with pytest.raises(ValueError, match="another spec") as caught:
        spec.require_same(replace(spec, num_mels=64, log="log10"))
    message = str(caught.value)
    assert "num_mels 80 against 64" in message
    assert "log 'natural' against 'log10'" in message
    assert "hop_samples" not in message
    assert "\n" not in message


OTHER_VALUES = {
    "log": "log10",
    "pitch": True,
    "padding": "center",
    "mel_scale": "htk",
    "filter_norm": "none",
}


@pytest.mark.parametrize("field", MelSpec.__dataclass_fields__)
def test_no_field_is_left_out_of_the_comparison(field):
    spec = MelSpec(16000, 1024, 200, 800, 80, 0.0, 7000.0)
    other = OTHER_VALUES[field] if field in OTHER_VALUES else getattr(spec, field) + 2
    with pytest.raises(ValueError, match=f" {field} "):
        spec.require_same(replace(spec, **{field: other}))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_specs_survive_json(spec):
    assert MelSpec.from_dict(spec.to_dict()) == spec
    assert spec.num_features == spec.num_mels
    assert replace(spec, pitch=True).num_features == spec.num_mels + 2


def test_specs_written_before_they_had_padding_and_scale_still_load():
    """Voices and corpora of version 0.1 hold ten fields; they mean HiFi-GAN's framing."""
    spec = MEL_PRESETS["hifigan_22k"]
    values = spec.to_dict()
    for field in ("padding", "mel_scale", "filter_norm"):
        del values[field]
    assert MelSpec.from_dict(values) == spec


def test_an_odd_hop_is_refused_only_where_it_would_pad_unevenly():
    odd = {"n_fft": 1023, "hop_samples": 200}
    assert replace(MEL_PRESETS["wavestill_16k"], **odd, padding="center").padding_samples == 511
    with pytest.raises(ValueError, match="is odd"):
        replace(MEL_PRESETS["wavestill_16k"], **odd)


def test_tacotron_2_has_hifigans_mels_half_a_hop_earlier(voice):
    """Moved on by half a hop, the sound has the other's frames, but at its padded ends."""
    same, centred = MEL_PRESETS["hifigan_22k"], MEL_PRESETS["tacotron2_22k"]
    wave = torch.from_numpy(voice(0.5, 22050)).double()[None]
    moved = torch.cat([torch.zeros(1, 128, dtype=wave.dtype), wave], 1)
    here = MelSpectrogram(same).double()(wave)[:, 4:-4]
    there = MelSpectrogram(centred).double()(moved)
    torch.testing.assert_close(there[:, 5 : 5 + here.shape[1]], here, rtol=0, atol=1e-12)


def test_unknown_missing_and_ill_typed_fields_are_named():
    values = MEL_PRESETS["wavestill_8k"].to_dict()
    with pytest.raises(ValueError, match="no field hop_length"):
        MelSpec.from_dict({**values, "hop_length": 100})
    with pytest.raises(ValueError, match=r"'log' is 'db'.*'natural', 'log10'"):
        MelSpec.from_dict({**values, "log": "db"})
    for name, value in {"n_fft": "512", "num_mels": 64.0, "f_max_hz": None, "pitch": 1}.items():
        with pytest.raises(ValueError, match=f"'{name}' is '?{value}'?, not of type"):
            MelSpec.from_dict({**values, name: value})
    assert MelSpec.from_dict({**values, "f_max_hz": 4000}) == MEL_PRESETS["wavestill_8k"]
    del values["n_fft"]
    with pytest.raises(ValueError, match="lacks the field n_fft"):
        MelSpec.from_dict(values)


BAD_VALUES = {
    "hop_samples": 0,
    "sample_rate": -1,
    "floor": 0.0,
    "win_samples": 2048,
    "n_fft": 1023,
    "f_max_hz": 8001.0,
    "f_min_hz": -1.0,
}


@pytest.mark.parametrize(("field", "value"), BAD_VALUES.items(), ids=BAD_VALUES)
def test_contradictory_specs_are_refused(field, value):
    with pytest.raises(ValueError, match=f"'{field}' '?{value}|'{field}' is '?{value}"):
        replace(MEL_PRESETS["wavestill_16k"], **{field: value})

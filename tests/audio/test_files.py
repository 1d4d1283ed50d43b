"""Sound files: bad ones named in one line, conversions noted, no bit changed by writing."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavestill.audio.files import SoundError, read_sound, write_sound

RATE = 16000


def write(path: Path, wave: np.ndarray, subtype: str | None = None, rate: int = RATE) -> bytes:
    soundfile.write(path, wave, rate, subtype=subtype)
    return path.read_bytes()


def cut(path: Path, wave: np.ndarray, fraction: float) -> None:
    content = write(path, wave)
    path.write_bytes(content[: int(fraction * len(content))])


def not_finite(value: float) -> Callable[[Path, np.ndarray], None]:
    def make(path: Path, wave: np.ndarray) -> None:
        wave[100:103] = value
        write(path, wave, "FLOAT")

    return make


BAD = {
    "empty": ("a.wav", lambda p, w: p.write_bytes(b""), r"empty file \(0 bytes\)"),
    "wav cut in the header": (
        "a.wav",
        lambda p, w: cut(p, w, 0.001),
        "samples are missing|not a sound file",
    ),
    "wav cut": ("a.wav", lambda p, w: cut(p, w, 0.5), "truncated: .* of 16,000 bytes"),
    "wav cut by a sample": (
        "a.wav",
        lambda p, w: cut(p, w, 0.9999),
        "truncated: 15,99. of 16,000",
    ),
    "flac cut": ("a.flac", lambda p, w: cut(p, w, 0.5), "truncated"),
    "flac cut late": ("a.flac", lambda p, w: cut(p, w, 0.99), "truncated"),
    "ogg cut": ("a.ogg", lambda p, w: cut(p, w, 0.6), "truncated"),
    "mp3 cut": ("a.mp3", lambda p, w: cut(p, w, 0.5), "truncated"),
    "NaN": ("a.wav", not_finite(np.nan), r"3 of 8,000 samples are not finite"),
    "infinity": ("a.wav", not_finite(np.inf), r"3 of 8,000 samples are not finite"),
    "no samples": ("a.wav", lambda p, w: write(p, w[:0]), "holds no samples"),
    "text": ("a.wav", lambda p, w: p.write_text("I am no sound"), "not a sound file"),
    "text in flac": ("a.flac", lambda p, w: p.write_text("I am no sound"), "not a sound file"),
    "zeros in mp3": ("a.mp3", lambda p, w: p.write_bytes(bytes(900)), "not a sound file"),
    "folder": ("a.wav", lambda p, w: p.mkdir(), "directory"),
    "absent": ("a.wav", lambda p, w: None, "No such file"),
}


@pytest.mark.parametrize(("name", "make", "reason"), BAD.values(), ids=BAD)
def test_bad_files_are_named_with_the_reason_in_one_line(voice, tmp_path, name, make, reason):
    path = tmp_path / name
    make(path, voice(0.5))
    with pytest.raises(SoundError, match=reason) as caught:
        read_sound(path)
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert "\n" not in str(caught.value)
    assert caught.value.path == path


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_permission(voice, tmp_path):
    path = tmp_path / "a.wav"
    write(path, voice())
    path.chmod(0)
    with pytest.raises(SoundError, match="Permission denied"):
        read_sound(path)


def test_refused_by_the_system_is_one_line_for_root_too(voice, tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    write(path, voice())

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SoundError, match=r"a\.wav: Permission denied$"):
        read_sound(path)


FORMATS = {
    "16 bits": ("a.wav", "PCM_16", None, 2**-15),
    "flac": ("a.flac", "PCM_16", None, 2**-15),
    "8 bits": ("a.wav", "PCM_U8", "8-bit", 2**-6),
    "24 bits": ("a.wav", "PCM_24", "24-bit", 2**-23),
    "flac, 24 bits": ("a.flac", "PCM_24", "24-bit", 2**-23),
    "32 bits": ("a.wav", "PCM_32", "32-bit", 2**-23),
    "float": ("a.wav", "FLOAT", "floating-point", 0),
    "double": ("a.wav", "DOUBLE", "double", 0),
    "mu-law": ("a.wav", "ULAW", "ulaw", 0.02),
    "not seekable": ("a.wav", "GSM610", "gsm610", 1.0),
    "ogg": ("a.ogg", "VORBIS", "vorbis", 0.1),
    "mp3": ("a.mp3", "MPEG_LAYER_III", "mpeg", 0.2),
}


@pytest.mark.parametrize(("name", "subtype", "note", "tolerance"), FORMATS.values(), ids=FORMATS)
def test_formats_are_read_and_all_but_16_bits_noted(
    voice, tmp_path, name, subtype, note, tolerance
):
    wave = voice()
    write(tmp_path / name, wave, subtype)
    sound = read_sound(tmp_path / name)
    assert sound.sample_rate == RATE
    assert sound.wave.dtype == np.float32
    np.testing.assert_allclose(sound.wave[: len(wave)], wave, atol=tolerance)
    if note is None:
        assert sound.notes == ()
    else:
        assert len(sound.notes) == 1
        assert note in sound.notes[0]


def test_channels_are_averaged_and_noted(voice, tmp_path):
    left, right = voice(seed=1), voice(seed=2)
    write(tmp_path / "a.wav", np.stack([left, right], 1), "FLOAT")
    sound = read_sound(tmp_path / "a.wav")
    np.testing.assert_allclose(sound.wave, (left + right) / 2, atol=1e-7)
    assert sound.notes[0] == "2 channels averaged to one"


def test_a_wav_of_unknown_length_is_read_to_its_end(voice, tmp_path):
    content = bytearray(write(tmp_path / "a.wav", voice()))
    content[40:44] = b"\xff" * 4  # the length of the data chunk, as programs leave it in a pipe
    (tmp_path / "a.wav").write_bytes(content)
    assert len(read_sound(tmp_path / "a.wav").wave) == 8000


def test_a_flac_of_unknown_length_is_refused(voice, tmp_path):
    content = bytearray(write(tmp_path / "a.flac", voice()))
    content[21] &= 0xF0  # STREAMINFO's 36-bit count of samples
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(SoundError, match="gives no length"):
        read_sound(tmp_path / "a.flac")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".WAV"])
def test_writing_changes_no_bit_and_counts_what_it_clips(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    every_level = np.arange(-32768, 32768) / np.float32(32768)
    assert write_sound(path, every_level, 24000) == 0
    sound = read_sound(path)
    assert sound.sample_rate == 24000
    assert soundfile.info(path).subtype == "PCM_16"
    np.testing.assert_array_equal(sound.wave, every_level)
    assert write_sound(path, np.array([0.5, 1.0, -1.0, 1.5, -1.1, 0.99998]), 24000) == 3
    np.testing.assert_array_equal(read_sound(path).wave[[1, 3]], 32767 / 32768)


def test_what_cannot_be_written_is_refused_in_one_line(tmp_path):
    wave = np.zeros(100, np.float32)
    for path, sound, reason in [
        (tmp_path / "a.mp3", wave, r"\.wav or \.flac, not '\.mp3'"),
        (tmp_path / "absent" / "a.wav", wave, "cannot be written"),
        (tmp_path / "a.wav", np.zeros((2, 100)), r"shape \(2, 100\)"),
        (tmp_path / "a.wav", wave[:0], r"shape \(0,\)"),
        (tmp_path / "a.wav", wave * np.nan, "100 of 100 samples are not finite"),
    ]:
        with pytest.raises(SoundError, match=reason) as caught:
            write_sound(path, sound, RATE)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())

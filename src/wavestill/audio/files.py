"""Reading and writing one sound file; every reason not to, in one line."""

import os
import struct
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from jaxtyping import Float32

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
WRITE_SUFFIXES = (".wav", ".flac")

_BLOCK_SAMPLES = 1 << 20
_UNKNOWN_LENGTH = 2**63 - 1  # what libsndfile says of a FLAC stream whose header gives none

_NOTES = {
    "PCM_U8": "8-bit samples: noise of 1/256 of full scale is in the recording",
    "PCM_S8": "8-bit samples: noise of 1/256 of full scale is in the recording",
    "PCM_24": "24-bit samples",
    "PCM_32": "32-bit samples, of which 24 are kept",
    "FLOAT": "floating-point samples",
    "DOUBLE": "double-precision samples, of which 24 bits are kept",
}


class SoundError(ValueError):
    """A sound file that cannot be used; the message names the file and says why in one line.

    Arguments:
        path: The file.
        reason: Why, without the file's name.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Sound(NamedTuple):
    """A sound as read.

    Arguments:
        wave: Float32 samples, `(T,)`; within [-1, 1] unless the file holds floating-point samples
            beyond.
        sample_rate: Samples per second.
        notes: What had to be converted, for people; empty for 16-bit mono.
    """

    wave: Float32[np.ndarray, " T"]
    sample_rate: int
    notes: tuple[str, ...]


def read_sound(path: Path | str) -> Sound:
    """Read a WAV, FLAC, Ogg or MP3 file as one channel.

    Channels are averaged; 8, 24 and 32 bits, floating point and lossy codecs are taken as they
    are. Each such conversion is in `notes`. The rate stays the file's.

    Raises:
        SoundError: If the file is missing, unreadable, empty, truncated, not sound, without
            samples, or holds values that are not finite. (A truncated MP3 without a length in its
            header cannot be told from a shorter one.)
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return decode_sound(file, path)
    except OSError as error:
        raise SoundError(path, error.strerror or str(error)) from error


def decode_sound(file: BufferedIOBase, path: Path) -> Sound:
    """`read_sound` of what is open already, or in memory; `path` only names it in messages.

    Raises:
        SoundError: As `read_sound`.
    """
    try:
        if file.seek(0, os.SEEK_END) == 0:
            raise SoundError(path, "empty file (0 bytes)")
        file.seek(0)
        if shortfall := _truncation(file):
            raise SoundError(path, f"truncated: {shortfall}")
        file.seek(0)
        with soundfile.SoundFile(file) as sound:
            expected = sound.frames
            if expected == _UNKNOWN_LENGTH:  # soundfile cannot read these to their end
                raise SoundError(path, "its header gives no length; encode it again to a file")
            sample_rate, subtype = int(sound.samplerate), str(sound.subtype)
            samples = _read_all(sound)  # (T, channels)
    except soundfile.LibsndfileError as error:
        raise SoundError(path, _reason(error)) from error
    except soundfile.SoundFileError as error:
        raise SoundError(path, f"not readable as sound ({error})") from error
    if len(samples) < expected:
        raise SoundError(path, f"truncated: {len(samples):,} of {expected:,} samples are there")
    if len(samples) == 0:
        raise SoundError(path, "holds no samples")
    if not np.isfinite(samples).all():
        count = int(np.sum(~np.isfinite(samples)))
        raise SoundError(
            path, f"{count:,} of {samples.size:,} samples are not finite (NaN or infinite)"
        )
    notes = []
    num_channels = samples.shape[1]
    if num_channels > 1:
        notes.append(f"{num_channels} channels averaged to one")
    if subtype != "PCM_16":
        notes.append(_NOTES.get(subtype, f"decoded from {subtype.replace('_', ' ').lower()}"))
    return Sound(samples.mean(axis=1, dtype=np.float32), sample_rate, tuple(notes))


def _read_all(sound: soundfile.SoundFile) -> Float32[np.ndarray, "T channels"]:
    """Block by block, since a header may claim any length."""
    blocks = []
    while len(block := sound.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)):
        blocks.append(block)
    return np.concatenate(blocks) if blocks else np.empty((0, sound.channels), np.float32)


def _reason(error: soundfile.LibsndfileError) -> str:
    words = error.error_string.strip().rstrip(".")
    # libsndfile says of bytes in which no MP3 frame is found that the file does not exist
    if "Format not recognised" in words or "does not exist" in words:
        return "not a sound file (format not recognised)"
    # FLAC's decoder loses its thread where the file breaks off
    return f"damaged or truncated ({words})"


def _truncation(file: BufferedIOBase) -> str:
    """What the end of a WAV or Ogg file lacks, which libsndfile does not tell; '' if nothing."""
    head = file.read(12)
    size = file.seek(0, os.SEEK_END)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _wav_truncation(file, size)
    if head[:4] == b"OggS":
        return _ogg_truncation(file, size)
    return ""


def _wav_truncation(file: BufferedIOBase, size: int) -> str:
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        start = position + 8
        if name == b"data":
            # 0xFFFFFFFF: written to a pipe, of unknown length; the file's end is the sound's
            if length != 0xFFFFFFFF and start + length > size:
                return f"{size - start:,} of {length:,} bytes of samples are there"
            return ""
        position = start + length + length % 2
    return "the samples are missing"


def _ogg_truncation(file: BufferedIOBase, size: int) -> str:
    file.seek(max(0, size - 65536))  # a page is at most 65,307 bytes
    tail = file.read()
    page = tail.rfind(b"OggS")
    header = tail[page : page + 27]
    if page < 0 or len(header) < 27:
        return "its last page is incomplete"
    num_segments = header[26]
    segments = tail[page + 27 : page + 27 + num_segments]
    complete = len(segments) == num_segments and len(tail) - page - 27 - num_segments >= sum(
        segments
    )
    is_last = bool(header[5] & 4)  # Ogg's end-of-stream flag, RFC 3533 section 6
    return "" if complete and is_last else "its last page is missing or incomplete"


def write_sound(path: Path | str, wave: np.ndarray, sample_rate: int) -> int:
    """Write `wave (T,)` as 16-bit WAV or FLAC, by the suffix; returns how many samples it clipped.

    Samples are rounded to the grid of 1/32768 that `read_sound` returns, so 16-bit sounds survive
    unchanged.

    Raises:
        SoundError: If the suffix is neither, the folder cannot be written to, or `wave` is not one
            finite sound.
    """
    path = Path(path)
    wave = np.asarray(wave)
    if path.suffix.lower() not in WRITE_SUFFIXES:
        raise SoundError(path, f"sounds are written as .wav or .flac, not {path.suffix!r}")
    if wave.ndim != 1 or len(wave) == 0:
        raise SoundError(path, f"a sound of shape {wave.shape}; give one of shape (T,)")
    if not np.isfinite(wave).all():
        raise SoundError(
            path, f"{np.sum(~np.isfinite(wave)):,} of {len(wave):,} samples are not finite"
        )
    levels = np.rint(wave.astype(np.float64) * 32768)
    clipped = np.clip(levels, -32768, 32767)
    try:
        soundfile.write(path, clipped.astype(np.int16), sample_rate, subtype="PCM_16")
    except (OSError, soundfile.SoundFileError) as error:
        raise SoundError(path, f"cannot be written ({error})") from error
    return int(np.sum(levels != clipped))

"""Bytes from a client to frames. Nothing is opened, unpickled or allocated on a header's word."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jaxtyping import Float32

from wavestill.audio.files import Sound, SoundError, decode_sound
from wavestill.input_frames import Copied, copy_sound
from wavestill.publish import Voice
from wavestill.serving.limits import Limits
from wavestill.serving.refusals import Refusal

FRAME_VALUE_MAX = 100.0
"""Log-mels lie within -12 and 10, log F0 within 4 and 7; far beyond, networks overflow."""

_NPY_MAGIC = b"\x93NUMPY"
_NPY_HEADER_BYTES = 4096
_MAX_CHANNELS = 8
_RATES_HZ = (4_000, 192_000)
_SAMPLES_PER_SECOND = 384_000  # of all channels: eight at 48 kHz, two at 192 kHz
_NAME = Path("recording")


def frames_of_body(body: bytes, content_type: str, voice: Voice, limits: Limits) -> Copied:
    """The frames that a body holds or, if it is a recording, is copied by.

    Arguments:
        body: `.npy`, JSON (`{"frames": [[...], ...]}`), WAV or FLAC.
        content_type: Of the request; only JSON is told by it, the others by their first bytes.
        voice: Whose frames they must be.
        limits: On their number.

    Raises:
        Refusal: 413 if it is too long, 415 if it is of another kind, 422 if it cannot be used.
    """
    if not body:
        raise Refusal(422, "the body is empty; send frames (.npy, JSON) or a recording")
    if content_type.partition(";")[0].strip().lower() == "application/json":
        return Copied(_checked(_json_frames(body, voice, limits)), 0.0, ())
    if body.startswith(_NPY_MAGIC):
        return Copied(_checked(_npy_frames(body, voice, limits)), 0.0, ())
    if body[:4] == b"fLaC" or (body[:4] == b"RIFF" and body[8:12] == b"WAVE"):
        return _recording_frames(body, voice, limits)
    raise Refusal(
        415,
        "the body is neither .npy nor WAV nor FLAC, and its Content-Type is not application/json; "
        "send one of these",
    )


def frames_of_message(message: bytes, voice: Voice) -> Float32[np.ndarray, "n C"]:
    """Frames of a live stream: little-endian float32, row by row.

    Raises:
        Refusal: 422 if they are not whole frames, not finite or beyond what frames can be.
    """
    row_bytes = 4 * voice.spec.num_features
    if not message or len(message) % row_bytes:
        raise Refusal(
            422,
            f"a message of {len(message):,} bytes is no number of whole frames; a frame is "
            f"{row_bytes:,} bytes ({voice.spec.num_features} float32)",
        )
    frames = np.frombuffer(message, "<f4").reshape(-1, voice.spec.num_features)
    _check_values(frames)
    return frames.astype(np.float32)


def _json_frames(body: bytes, voice: Voice, limits: Limits) -> np.ndarray:
    """The array of `{"frames": rows}`; every value is looked at before an array is made."""
    try:
        told: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(422, f"the body is no JSON ({_one_line(error)})") from None
    if not isinstance(told, dict) or set(told) != {"frames"}:
        raise Refusal(422, 'the JSON must be {"frames": [[...], ...]} and hold nothing else')
    rows, columns = told["frames"], voice.spec.num_features
    if not isinstance(rows, list) or not rows:
        raise Refusal(422, "'frames' must be a list of at least one frame")
    _check_length(len(rows), voice, limits)
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != columns:
            size = f"{len(row)} values" if isinstance(row, list) else "no list"
            raise Refusal(422, f"frame {number} has {size}; this voice's have {columns} values")
        if not all(type(value) in (int, float) and abs(value) < math.inf for value in row):
            raise Refusal(422, f"frame {number} holds something that is no finite number")
    try:
        return np.array(rows, np.float64)
    except OverflowError:
        raise Refusal(422, "a whole number in the frames is beyond any float") from None


def _npy_frames(body: bytes, voice: Voice, limits: Limits) -> np.ndarray:
    """The array of a `.npy`, as a view of the body: what its header claims must lie there."""
    file = io.BytesIO(body)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(file)
        if version not in readers:
            raise Refusal(422, f"this .npy is of version {version}; save it as 1.0 or 2.0")
        shape, by_columns, dtype = readers[version](file, max_header_size=_NPY_HEADER_BYTES)
    except Refusal:
        raise
    except Exception as error:  # numpy parses with ast, tokenize and struct, each with its own
        raise Refusal(422, f"the header of the .npy is damaged ({_one_line(error)})") from None
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise Refusal(422, f"the .npy holds {dtype}; send float32 (or float16, float64)")
    columns = voice.spec.num_features
    if len(shape) != 2 or shape[1] != columns or shape[0] < 1:
        shown = str(shape) if len(str(shape)) < 60 else f"{len(shape)} dimensions"
        raise Refusal(
            422, f"the .npy has shape {shown}; this voice takes (frames, {columns}), frames >= 1"
        )
    _check_length(shape[0], voice, limits)
    claimed, there = shape[0] * shape[1] * dtype.itemsize, len(body) - file.tell()
    if claimed != there:
        raise Refusal(
            422, f"the .npy claims {claimed:,} bytes of values but {there:,} are there; send all"
        )
    values = np.frombuffer(body, dtype, offset=file.tell())
    return values.reshape(shape, order="F" if by_columns else "C")


def _recording_frames(body: bytes, voice: Voice, limits: Limits) -> Copied:
    """Decode, then copy as `wavestill synth` does."""
    try:
        _check_claims(io.BytesIO(body), limits)
        sound: Sound = decode_sound(io.BytesIO(body), _NAME)
        # what the decoder found may be more than the header claimed
        _check_seconds(len(sound.wave) / sound.sample_rate, limits)
        return copy_sound(sound, voice, _NAME)
    except SoundError as error:
        raise Refusal(422, f"the recording cannot be used: {error.reason}") from None
    except soundfile.LibsndfileError as error:  # its text would name our objects
        raise Refusal(422, f"the recording is damaged ({error.error_string})") from None
    except (soundfile.SoundFileError, ValueError, OSError) as error:
        raise Refusal(422, f"the recording is damaged ({_one_line(error)})") from None


def _check_claims(file: io.BytesIO, limits: Limits) -> None:
    """Refuse by the header alone what would be too much to decode."""
    with soundfile.SoundFile(file) as sound:
        if sound.channels > _MAX_CHANNELS:
            raise Refusal(
                422, f"the recording has {sound.channels} channels; send at most {_MAX_CHANNELS}"
            )
        low, high = _RATES_HZ
        if not low <= sound.samplerate <= high:
            raise Refusal(
                422, f"the recording has {sound.samplerate:,} Hz; send {low:,} to {high:,} Hz"
            )
        if 0 <= sound.frames < 2**62:  # more: a length unknown, which decoding refuses by name
            _check_seconds(sound.frames / sound.samplerate, limits)
            # silence is packed a thousandfold
            samples, most = sound.frames * sound.channels, limits.max_seconds * _SAMPLES_PER_SECOND
            if samples > most:
                raise Refusal(
                    413,
                    f"the recording unpacks to {samples:,} samples; send at most {most:,.0f}, of "
                    "fewer channels or a lower rate",
                )


def _check_seconds(seconds: float, limits: Limits) -> None:
    if seconds > limits.max_seconds:
        raise Refusal(
            413, f"the recording is {seconds:,.1f} s long; send at most {limits.max_seconds:g} s"
        )


def _check_length(num_frames: int, voice: Voice, limits: Limits) -> None:
    most = limits.max_frames(voice.spec)
    if num_frames > most:
        raise Refusal(413, f"there are {num_frames:,} frames; send at most {most:,} at a time")


def _checked(values: np.ndarray) -> Float32[np.ndarray, "F C"]:
    _check_values(values)
    return np.ascontiguousarray(values, np.float32)


def _check_values(values: np.ndarray) -> None:
    fine = np.abs(values) <= FRAME_VALUE_MAX  # NaN is not
    if not fine.all():
        raise Refusal(
            422,
            f"{int((~fine).sum()):,} of {fine.size:,} values are not finite or beyond "
            f"±{FRAME_VALUE_MAX:g}; send log-mels of the voice's spec (GET /v1/models)",
        )


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:120] + " ..."

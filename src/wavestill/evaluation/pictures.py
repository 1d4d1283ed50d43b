"""Pictures and sounds for the report, small enough to travel inside one HTML page."""

import base64
import io

import librosa
import numpy as np
import soundfile
from numpy.typing import NDArray

Sound = NDArray[np.float32]

RANGE_DB = 70  # below this the noise of any room takes over and the picture turns to snow
_COLUMNS, _ROWS = 400, 128  # about two pixels of a phone's screen per column
_COLOURS = 64  # the eye sees no more in a picture of this size, and the file halves


def data_uri(media_type: str, content: bytes) -> str:
    """`content` as an address that carries it, so that the page needs no other file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def wav(x: Sound, sample_rate_hz: int) -> bytes:
    """`x` as 16-bit WAV; samples beyond full scale are clipped and NaNs are silence.

    Not FLAC, though smaller: Chromium cannot seek in a FLAC file of a second or two.
    """
    file = io.BytesIO()
    clipped = np.clip(np.nan_to_num(x), -1, 1)
    soundfile.write(file, clipped, sample_rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue()


def spectrogram_db(x: Sound, sample_rate_hz: int) -> NDArray[np.float32]:
    """Log-magnitude spectrogram on a linear frequency axis, `(frequencies, frames)`, in dB.

    Hann windows of about 32 ms resolve the harmonics of a voice; a sound shorter than one window
    is padded with silence.
    """
    n_fft = 2 ** round(np.log2(0.032 * sample_rate_hz))
    padded = np.pad(np.nan_to_num(x), (0, max(0, n_fft - len(x))))
    hop_samples = max(1, len(padded) // _COLUMNS)
    magnitude = np.abs(librosa.stft(padded, n_fft=n_fft, hop_length=hop_samples))
    return np.asarray(20 * np.log10(np.maximum(magnitude, 1e-6)), np.float32)  # silence: -120 dB


def spectrogram_png(decibels: NDArray[np.float32], top_db: float) -> bytes:
    """A spectrogram as a palette PNG, colours spread over the 70 dB below `top_db`."""
    from matplotlib import colormaps
    from PIL import Image

    level = np.clip(1 + (decibels[::-1] - top_db) / RANGE_DB, 0, 1)
    picture = Image.fromarray(np.round(level * (_COLOURS - 1)).astype(np.uint8))
    picture = picture.resize((_COLUMNS, _ROWS), Image.Resampling.BOX)
    colours = colormaps["magma"](np.linspace(0.01, 0.97, _COLOURS))[:, :3]
    picture.putpalette((colours * 255).round().astype(np.uint8).tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def waveform_path(x: Sound, peak: float) -> str:
    """The envelope of `x` as an SVG path in a box of 400 x 100, with full height at `peak`."""
    padded = np.pad(np.nan_to_num(x), (0, max(0, _COLUMNS - len(x))))
    edges = np.linspace(0, len(padded), _COLUMNS + 1).astype(int)[:-1]
    top = np.maximum.reduceat(padded, edges)
    bottom = np.minimum.reduceat(padded, edges)

    def points(values: NDArray[np.float32], columns: NDArray[np.int64]) -> str:
        heights = 50 - 50 * np.clip(values / max(peak, 1e-6), -1, 1)
        return " ".join(
            f"{column},{height:.1f}" for column, height in zip(columns, heights, strict=True)
        )

    columns = np.arange(_COLUMNS)
    # half a unit apart at least, so that silence is a hairline and not nothing
    upper, lower = (
        points(np.maximum(top, bottom + 0.01 * peak), columns),
        points(bottom[::-1], columns[::-1]),
    )
    return f"M{upper} L{lower}Z"

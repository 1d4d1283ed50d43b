"""16-bit samples as they come to the bytes of a sound file, in one go."""

import io
import struct
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import soundfile
from jaxtyping import Int16

Format = Literal["wav", "flac", "pcm"]

MEDIA_TYPES: dict[Format, str] = {"wav": "audio/wav", "flac": "audio/flac", "pcm": "audio/pcm"}


@runtime_checkable
class Encoder(Protocol):
    """Levels to bytes.

    Arguments:
        num_bytes: Of the whole, where it is known beforehand.
    """

    num_bytes: int | None

    def feed(self, levels: Int16[np.ndarray, " n"]) -> bytes:
        """The bytes that become known with the next samples."""
        ...

    def end(self) -> bytes:
        """The bytes after the last sample."""
        ...


class Pcm:
    """Bare little-endian samples; with `header`, a WAV file as libsndfile writes it."""

    def __init__(self, num_samples: int, header: bytes = b"") -> None:
        self.num_bytes: int | None = len(header) + 2 * num_samples
        self._header = header

    def feed(self, levels: Int16[np.ndarray, " n"]) -> bytes:
        """See `Encoder`."""
        header, self._header = self._header, b""
        return header + levels.astype("<i2").tobytes()

    def end(self) -> bytes:
        """See `Encoder`."""
        return b""


class Flac:
    """FLAC by libsndfile, whose header says how long it will be.

    libFLAC goes back to its header at the end; what was sent cannot be changed, so the number of
    samples is written there at the beginning, and the checksum of all samples stays 0 (unknown),
    as RFC 9639 allows.
    """

    def __init__(self, num_samples: int, sample_rate: int) -> None:
        self.num_bytes: int | None = None
        self._num_samples = num_samples
        self._sink = _Sink()
        self._file = soundfile.SoundFile(
            self._sink, "w", sample_rate, 1, format="FLAC", subtype="PCM_16"
        )
        self._has_header = False

    def feed(self, levels: Int16[np.ndarray, " n"]) -> bytes:
        """See `Encoder`."""
        self._file.write(levels)
        return self._take()

    def end(self) -> bytes:
        """See `Encoder`."""
        self._file.close()
        return self._take()

    def _take(self) -> bytes:
        new = self._sink.take()
        if self._has_header or not new:
            return new
        self._has_header = True
        # "fLaC", block header (4), then STREAMINFO, whose bits 108 to 143 count the samples
        start = 8 + 13
        high = (new[start] & 0xF0) | (self._num_samples >> 32)
        low = struct.pack(">I", self._num_samples & 0xFFFFFFFF)
        return new[:start] + bytes([high]) + low + new[start + 5 :]


def encoder_of(name: Format, num_samples: int, sample_rate: int) -> Encoder:
    """The encoder of a format, for a sound of so many samples."""
    if name == "flac":
        return Flac(num_samples, sample_rate)
    return Pcm(num_samples, wav_header(num_samples, sample_rate) if name == "wav" else b"")


def wav_header(num_samples: int, sample_rate: int) -> bytes:
    """The 44 bytes before the samples of a 16-bit mono WAV file."""
    num_bytes = 2 * num_samples
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + num_bytes, b"WAVE"),
        *(b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16),
        *(b"data", num_bytes),
    )


class _Sink(io.RawIOBase):
    """A file that is taken away while it is written; going back to what has left does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = bytearray()
        self._start = self._position = 0

    def take(self) -> bytes:
        taken = bytes(self._kept)
        self._start += len(taken)
        self._kept.clear()
        return taken

    def write(self, data: bytes) -> int:  # type: ignore[override]
        offset = self._position - self._start
        if offset >= 0:
            self._kept[offset : offset + len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        end = self._start + len(self._kept)
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence, end)
        return self._position

    def tell(self) -> int:
        return self._position

"""Samples and frames in files of bounded size, read piece by piece."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int16

AUDIO_TYPE = np.dtype("<i2")
FRAMES_TYPE = np.dtype("<f4")


class DamagedClip(ValueError):
    """A clip whose bytes cannot be read, or are not those that `prepare` wrote.

    Arguments:
        path: The file that holds it.
        id: The clip.
        reason: What is wrong, without the file's name.
    """

    def __init__(self, path: Path, id: str, reason: str) -> None:
        super().__init__(path, id, reason)  # all three, so that it can be pickled
        self.path = path
        self.id = id
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: clip {self.id!r}: {self.reason}; prepare the corpus again"


class ShardError(ValueError):
    """A piece of a shard that cannot be read.

    Arguments:
        path: The shard's file.
        reason: Why, without its name.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Shard(NamedTuple):
    """Two `.npy` arrays of the same clips, one after the other.

    Arguments:
        audio: File of the samples, int16 `(num_frames * hop_samples,)`.
        frames: File of the frames, float32 `(num_frames, num_features)`.
        num_frames: Length of both, in frames.
        audio_crc32: Checksum of the samples' bytes; None in corpora that have none.
        frames_crc32: Checksum of the frames' bytes.
    """

    audio: str
    frames: str
    num_frames: int
    audio_crc32: int | None = None
    frames_crc32: int | None = None


class Shards:
    """The shards of a corpus, of which nothing is held.

    Every piece is read from its place in its file, so memory does not grow with the corpus and no
    file stays open. (The arrays can be mapped, but a map of a file that is cut short or on a
    failing disk ends the process by SIGBUS where a read raises an error, and mapped pages count as
    the process's own.)

    Arguments:
        folder: Where they are.
        shards: Their files.
        hop_samples: Samples per frame.
        num_features: Columns of a frame.
    """

    def __init__(
        self, folder: Path, shards: Sequence[Shard], hop_samples: int, num_features: int
    ) -> None:
        self.folder = folder
        self.shards = tuple(shards)
        self.hop_samples = hop_samples
        self.num_features = num_features
        self._paths = {name: folder / name for files in self.shards for name in files[:2]}
        self._starts: dict[str, int] = {}  # bytes of each file's header, once it is checked

    def __len__(self) -> int:
        return len(self.shards)

    def audio(self, shard: int, first: int, last: int) -> Int16[np.ndarray, " T"]:
        """The samples of frames `first` to `last` of one shard.

        Raises:
            ShardError: If they cannot be read.
        """
        hop, files = self.hop_samples, self.shards[shard]
        shape = (files.num_frames * hop,)
        read = self._read(files.audio, AUDIO_TYPE, shape, first * hop, last * hop)
        return read.astype(np.int16, copy=False)

    def frames(self, shard: int, first: int, last: int) -> Float32[np.ndarray, "F C"]:
        """The frames `first` to `last` of one shard.

        Raises:
            ShardError: If they cannot be read.
        """
        width, files = self.num_features, self.shards[shard]
        shape = (files.num_frames, width)
        read = self._read(files.frames, FRAMES_TYPE, shape, first * width, last * width)
        return read.reshape(-1, width).astype(np.float32, copy=False)

    def require_whole(self) -> None:
        """Check every file's header and length.

        Raises:
            ShardError: At the first that is missing, cut short or of another shape.
        """
        for shard in range(len(self)):
            last = self.shards[shard].num_frames
            self.audio(shard, max(0, last - 1), last)
            self.frames(shard, max(0, last - 1), last)

    def _read(
        self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], first: int, last: int
    ) -> np.ndarray:
        """Items `first` to `last` of the flattened array."""
        path = self._paths[name]
        try:
            with path.open("rb", buffering=0) as file:
                if name not in self._starts:
                    self._starts[name] = _check_header(file, path, dtype, shape)
                values = np.empty(last - first, dtype)
                file.seek(self._starts[name] + first * dtype.itemsize)
                target, filled = values.data.cast("B"), 0
                while filled < len(target):
                    got = file.readinto(target[filled:])
                    if not got:
                        raise ShardError(path, "cut short")
                    filled += got
        except OSError as error:
            raise ShardError(path, error.strerror or str(error)) from error
        return values


def _check_header(file: Any, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:  # noqa: ANN401
    """Bytes of the header of an `.npy` file; what follows is the array."""
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"of version {version}")
        found, in_columns, found_type = np.lib.format.read_array_header_1_0(file)
    except (ValueError, EOFError) as error:
        raise ShardError(path, "not an array of numbers (its first bytes are damaged)") from error
    if found_type != dtype or found != shape or in_columns:
        raise ShardError(
            path,
            f"holds {found_type} of shape {found}, but its index describes {dtype} of "
            f"shape {shape}",
        )
    return int(file.tell())

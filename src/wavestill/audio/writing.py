"""Writing a corpus: shard by shard, in a folder of its own until it is whole."""

import json
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int16

from wavestill.audio.clip_table import CLIPS_FILE, STRINGS_FILE, ClipTable
from wavestill.audio.corpus import FORMAT, FORMAT_VERSION, INDEX_FILE, read_index
from wavestill.audio.journal import STATE_FILES, Done
from wavestill.audio.shards import AUDIO_TYPE, FRAMES_TYPE, Shard
from wavestill.audio.spec import FeatureSpec, spec_from_dict
from wavestill.audio.splits import SPLITS

_OWN_FILES = {INDEX_FILE, CLIPS_FILE, STRINGS_FILE, *STATE_FILES} | {
    f"{split}_{kind}.npy" for split in SPLITS for kind in ("audio", "frames")
}
_SHARD_NAME = re.compile(r"(audio|frames)-(\d{5,})\.npy")
_BLOCK_BYTES = 1 << 24
_HEADER_BYTES = 128


def require_replaceable(out: Path, source: Path, spec: FeatureSpec) -> None:
    """Refuse a folder whose replacement would lose anything.

    Raises:
        ValueError: If `out` is neither absent, empty, nor a corpus of this source and spec and
            nothing else.
    """
    if not out.exists():
        return
    remedy = "choose another folder, or remove this one"
    if not out.is_dir():
        raise ValueError(f"{out}: is a file; {remedy}")
    files = {path.name for path in out.iterdir()}
    if not files:
        return
    foreign = sorted(name for name in files - _OWN_FILES if not _SHARD_NAME.fullmatch(name))
    if foreign:
        raise ValueError(f"{out}: holds {foreign[0]!r}, which 'prepare' did not make; {remedy}")
    index = read_index(out)
    if index.get("source") != str(source.resolve()):
        raise ValueError(
            f"{out}: holds a corpus of {index.get('source')}, not of {source.resolve()}; {remedy}"
        )
    try:
        spec.require_same(spec_from_dict(index["spec"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{out}: holds a corpus with {error}, or {remedy}") from error


class Place(NamedTuple):
    """Where a clip begins: its shard's number and its first frame there."""

    shard: int
    first_frame: int


class Checksums(NamedTuple):
    """CRC-32 of a clip's samples and frames, and of its shard's two arrays up to its end."""

    audio: int
    frames: int
    shard: tuple[int, int]


class ShardWriter:
    """Clips go in one by one; a shard is closed when the next clip would make it too large.

    Each clip is in its file when `add` returns, so a process killed later has lost nothing. Which
    clip goes where depends on the clips before it alone.

    Arguments:
        folder: Where to write.
        spec: How the frames are made.
        shard_bytes: Size of a shard's two files together; a longer clip has one to itself.
    """

    def __init__(self, folder: Path, spec: FeatureSpec, shard_bytes: int) -> None:
        self.folder = folder
        self.shards: list[Shard] = []
        self._frame_bytes = (
            spec.hop_samples * AUDIO_TYPE.itemsize,
            spec.num_features * FRAMES_TYPE.itemsize,
        )
        self._num_features = spec.num_features
        self._hop_samples = spec.hop_samples
        self._most_frames = shard_bytes // sum(self._frame_bytes)
        self._files: tuple[IO[bytes], IO[bytes]] | None = None
        self._num_frames = 0
        self._checksums = (0, 0)

    def places(self, lengths: Iterable[int]) -> Iterator[Place]:
        """Where clips of so many frames each go, from the first on."""
        shard = num_frames = 0
        for length in lengths:
            if num_frames and num_frames + length > self._most_frames:
                shard, num_frames = shard + 1, 0
            yield Place(shard, num_frames)
            num_frames += length

    def _is_full(self, length: int) -> bool:
        return bool(self._num_frames) and self._num_frames + length > self._most_frames

    def add(self, audio: Int16[np.ndarray, " T"], frames: Float32[np.ndarray, "F C"]) -> Checksums:
        """Take one clip."""
        if self._is_full(len(frames)):
            self.close_shard()
        data = (audio.astype(AUDIO_TYPE).tobytes(), frames.astype(FRAMES_TYPE).tobytes())
        for file, part in zip(self._open(), data, strict=True):
            file.write(part)
            file.flush()
        self._num_frames += len(frames)
        before = self._checksums
        self._checksums = (zlib.crc32(data[0], before[0]), zlib.crc32(data[1], before[1]))
        return Checksums(zlib.crc32(data[0]), zlib.crc32(data[1]), self._checksums)

    def resume(self, done: Sequence[Done]) -> int:
        """Take up the shards where these clips end; returns how many entries still hold.

        Closed shards are on the disk. The clips of the last one are compared with their checksums,
        since a machine that lost its power may have lost what it had written; what follows the
        last whole one is cut off.
        """
        used = [entry.num_frames for entry in done if entry.skipped is None]
        last = max((place.shard for place in self.places(used)), default=0)
        num_held = first_of_shard = 0
        for number, entry in enumerate(done):
            if entry.skipped is None:
                if self._is_full(entry.num_frames):
                    if not self._has_length():
                        self._num_frames, self._checksums, num_held = 0, (0, 0), first_of_shard
                        break
                    self._finish_shard()
                    first_of_shard = number
                if len(self.shards) == last and not self._is_next(entry):
                    break
                self._num_frames += entry.num_frames
                self._checksums = entry.shard_crc32
            num_held = number + 1
        self._cut()
        return num_held

    def _has_length(self) -> bool:
        """Whether the shard's files are as long as its clips."""
        try:
            sizes = [(self.folder / name).stat().st_size for name in _names(len(self.shards))]
        except OSError:
            return False
        return sizes == self._lengths()

    def _lengths(self) -> list[int]:
        return [_HEADER_BYTES + self._num_frames * size for size in self._frame_bytes]

    def _is_next(self, entry: Done) -> bool:
        """Whether what follows in the shard's files is this clip."""
        wanted = (entry.audio_crc32, entry.frames_crc32)
        for file, start, size, crc32 in zip(
            self._open(), self._lengths(), self._frame_bytes, wanted, strict=True
        ):
            file.seek(start)
            found, left = 0, entry.num_frames * size
            while left and (block := file.read(min(left, _BLOCK_BYTES))):
                found, left = zlib.crc32(block, found), left - len(block)
            if left or found != crc32:
                return False
        return True

    def _cut(self) -> None:
        """Leave nothing beyond the clips that count, in this shard's files or in later ones."""
        for path in self.folder.iterdir():
            match = _SHARD_NAME.fullmatch(path.name)
            if match and int(match.group(2)) > len(self.shards):
                path.unlink()
        for file, length in zip(self._open(), self._lengths(), strict=True):
            file.truncate(length)
            file.seek(0, os.SEEK_END)

    def close_shard(self) -> None:
        """Give the shard its header, and have it on the disk before its clips count as done."""
        headers = (
            _header((self._num_frames * self._hop_samples,), AUDIO_TYPE),
            _header((self._num_frames, self._num_features), FRAMES_TYPE),
        )
        for file, header in zip(self._open(), headers, strict=True):
            file.seek(0)
            file.write(header)
            file.flush()
            os.fsync(file.fileno())
        self._finish_shard()

    def close(self) -> None:
        """Close the files of a shard that may grow yet."""
        for file in self._files or ():
            file.close()
        self._files = None

    def _finish_shard(self) -> None:
        self.close()
        audio, frames = _names(len(self.shards))
        self.shards.append(Shard(audio, frames, self._num_frames, *self._checksums))
        self._num_frames, self._checksums = 0, (0, 0)

    def _open(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._files is None:
            audio, frames = (self.folder / name for name in _names(len(self.shards)))
            for path in (audio, frames):
                if not path.exists() or path.stat().st_size < _HEADER_BYTES:
                    path.write_bytes(bytes(_HEADER_BYTES))
            self._files = audio.open("r+b"), frames.open("r+b")
            for file in self._files:
                file.seek(0, os.SEEK_END)
        return self._files


def _names(shard: int) -> tuple[str, str]:
    return f"audio-{shard:05}.npy", f"frames-{shard:05}.npy"


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """NumPy's, which leaves room for the first axis to grow: its length is always the same."""
    buffer = BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    header = buffer.getvalue()
    assert len(header) == _HEADER_BYTES, "NumPy lays out headers in another way"
    return header


def write_index(
    folder: Path, table: ClipTable, shards: Sequence[Shard], header: dict[str, Any]
) -> None:
    """Write what makes shards a corpus: the table of clips, and at last the index."""
    index = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **header,
        **table.save(folder),
        "shards": [shard._asdict() for shard in shards],
    }
    with (folder / INDEX_FILE).open("w", encoding="utf-8") as file:
        file.write(json.dumps(index, indent=1, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def put_in_place(folder: Path, out: Path) -> None:
    """Make a whole corpus `out`; an old one is kept until that is done."""
    if out.exists():
        old = out.parent / f".{out.name}.old"
        shutil.rmtree(old, ignore_errors=True)  # left by a kill between the next two lines
        out.rename(old)
        folder.rename(out)
        shutil.rmtree(old)
    else:
        folder.rename(out)
    for name in STATE_FILES:
        (out / name).unlink(missing_ok=True)

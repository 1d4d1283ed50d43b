"""A prepared corpus: sounds and frames on disk, one clip at a time."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int16, Int64

from wavestill.audio.clip_table import ClipEntry, ClipTable, Entries
from wavestill.audio.shards import DamagedClip, Shard, ShardError, Shards
from wavestill.audio.spec import FeatureSpec, spec_from_dict
from wavestill.audio.splits import SPLITS

FORMAT = "wavestill corpus"
FORMAT_VERSION = 2
INDEX_FILE = "index.json"


class Clip(NamedTuple):
    """One clip: its samples in [-1, 1], `(T,)`, and frames `(F, C)`, with `T = F * hop_samples`.

    `speaker` is the number of its speaker in `Corpus.speakers`, or None in corpora that name none.
    """

    id: str
    text: str | None
    speaker: int | None
    wave: Float32[np.ndarray, " T"]
    frames: Float32[np.ndarray, "F C"]


class Piece(NamedTuple):
    """Some frames of a clip and the samples they stand for, on the 16-bit grid."""

    audio: Int16[np.ndarray, " T"]
    frames: Float32[np.ndarray, "F C"]


class Clips:
    """The clips of one split: `len(clips)`, `clips[i]`, iteration.

    Nothing is held in memory but the length of each clip. Its bytes are checked against its
    checksums when it is first read, whole, by each process; a corpus of format 1 has none.

    Arguments:
        spec: How the frames were made.
        table: All clips of the corpus.
        rows: Which of them are of this split.
        shards: Where their samples and frames are.
        checked: Whether the table holds checksums.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        table: ClipTable,
        rows: Int64[np.ndarray, " n"],
        shards: Shards,
        *,
        checked: bool = True,
    ) -> None:
        self.spec = spec
        self.entries = Entries(table, rows)
        self.num_frames: Int64[np.ndarray, " n"] = table.columns["num_frames"][rows]
        self._columns = table.columns
        self._rows = rows
        self._shards = shards
        self._sound = np.full(len(rows), fill_value=not checked)  # known to be whole

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Clip:
        entry = self.entries[i]
        audio, frames = self.piece(i)
        wave = audio.astype(np.float32) / np.float32(32768)
        return Clip(entry.id, entry.text, self.speaker(i), wave, frames)

    def __iter__(self) -> Iterator[Clip]:
        return (self[i] for i in range(len(self)))

    def piece(self, i: int, first: int = 0, last: int | None = None) -> Piece:
        """Frames `first` to `last` (the end) of clip `i`, and their samples.

        Raises:
            DamagedClip: If they cannot be read, or the clip is not what `prepare` wrote.
        """
        row = self._columns[self._rows[i]]
        last = int(row["num_frames"]) if last is None else last
        if self._sound[i]:
            return self._read(i, row, first, last)
        whole = self._read(i, row, 0, int(row["num_frames"]))
        files = self._shards.shards[row["shard"]]
        for values, crc32, name in (
            (whole.audio, row["audio_crc32"], files.audio),
            (whole.frames, row["frames_crc32"], files.frames),
        ):
            if zlib.crc32(values.data) != crc32:
                path = self._shards.folder / name
                raise DamagedClip(path, self.entries[i].id, "its checksum is another")
        self._sound[i] = True
        hop = self.spec.hop_samples
        return Piece(whole.audio[first * hop : last * hop], whole.frames[first:last])

    def _read(self, i: int, row: np.void, first: int, last: int) -> Piece:
        shard, start = int(row["shard"]), int(row["first_frame"])
        try:
            return Piece(
                self._shards.audio(shard, start + first, start + last),
                self._shards.frames(shard, start + first, start + last),
            )
        except ShardError as error:
            raise DamagedClip(error.path, self.entries[i].id, error.reason) from error

    def speaker(self, i: int) -> int | None:
        """The number of clip `i`'s speaker, if the corpus names speakers."""
        number = int(self._columns["speaker"][self._rows[i]])
        return None if number < 0 else number

    @property
    def audio(self) -> Int16[np.ndarray, " N"]:
        """All samples of the split, read into memory: for small corpora."""
        none = np.empty(0, np.int16)
        return np.concatenate([none, *(self.piece(i).audio for i in range(len(self)))])

    @property
    def frames(self) -> Float32[np.ndarray, "M C"]:
        """All frames of the split, read into memory: for small corpora."""
        none = np.empty((0, self.spec.num_features), np.float32)
        return np.concatenate([none, *(self.piece(i).frames for i in range(len(self)))])

    @property
    def seconds(self) -> float:
        """Length of all clips together."""
        return float(self.num_frames.sum()) * self.spec.hop_samples / self.spec.sample_rate


class Corpus:
    """A folder that `prepare` made.

    Shards are opened when a clip of theirs is read: one that is missing or damaged raises
    `DamagedClip` there, and `verification.verify` names it beforehand.

    Arguments:
        path: The folder.

    Raises:
        ValueError: If it is not one, its index is damaged, or of a format this version does not
            read.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.index = read_index(self.path)
        self.checked = self.index["format_version"] >= 2
        try:
            self.spec = spec_from_dict(self.index["spec"])
            self.level_dbfs = float(self.index["level_dbfs"])
            read = _read_version_2 if self.checked else _read_version_1
            self.table, files = read(self.path, self.index)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.path / INDEX_FILE}: damaged ({error}); prepare the corpus again"
            ) from error
        self.speakers = self.table.speakers
        self.shards = Shards(self.path, files, self.spec.hop_samples, self.spec.num_features)
        if not self.checked:  # without checksums, at least nothing may be missing
            try:
                self.shards.require_whole()
            except ShardError as error:
                raise ValueError(f"{error}; prepare the corpus again") from error
        self._splits = {
            split: Clips(
                self.spec,
                self.table,
                self.table.rows_of(split),
                self.shards,
                checked=self.checked,
            )
            for split in SPLITS
        }

    def split(self, name: str) -> Clips:
        """The clips of `train`, `valid` or `test`; a split may be empty.

        Raises:
            ValueError: If there is no such split.
        """
        if name not in SPLITS:
            raise ValueError(f"no split {name!r}; a corpus has {', '.join(SPLITS)}")
        return self._splits[name]

    def seconds(self, split: str) -> float:
        """Length of a split's clips together."""
        return self.split(split).seconds

    def frame_statistics(self) -> tuple[Float32[np.ndarray, " C"], Float32[np.ndarray, " C"]]:
        """Mean and standard deviation of each column over the training frames, clip by clip."""
        clips = self.split("train")
        if len(clips) == 0:
            raise ValueError(
                f"{self.path}: its train split is empty, so its frames have no statistics"
            )
        origin = clips.piece(0).frames.mean(axis=0, dtype=np.float64)  # sums lose less about it
        num, total, squares = 0, np.zeros_like(origin), np.zeros_like(origin)
        for i in range(len(clips)):
            deviation = clips.piece(i).frames - origin
            num += len(deviation)
            total += deviation.sum(axis=0)
            squares += np.square(deviation).sum(axis=0)
        mean = total / num
        std = np.sqrt(np.maximum(squares / num - np.square(mean), 0))  # rounding may go below
        return (origin + mean).astype(np.float32), std.astype(np.float32)


def read_index(path: Path) -> dict[str, Any]:
    """The index of a prepared corpus.

    Raises:
        ValueError: If the folder is none, or of another format version.
    """
    index_path = path / INDEX_FILE
    try:
        index = json.loads(index_path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{path}: not a prepared corpus (no {INDEX_FILE}); run 'wavestill prepare' first"
        ) from None
    except OSError as error:
        raise ValueError(f"{index_path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(
            f"{index_path}: not readable as JSON; prepare the corpus again"
        ) from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError(
            f"{index_path}: not the index of a prepared corpus; run 'wavestill prepare' first"
        )
    if index.get("format_version") not in (1, FORMAT_VERSION):
        raise ValueError(
            f"{index_path}: format version {index.get('format_version')}, but this version reads "
            f"1 and {FORMAT_VERSION}; prepare the corpus again"
        )
    return index


def _read_version_2(path: Path, index: dict[str, Any]) -> tuple[ClipTable, list[Shard]]:
    table, files = ClipTable.load(path, index), [Shard(**shard) for shard in index["shards"]]
    if int(table.columns["shard"].max()) >= len(files):
        raise ValueError("a clip's shard is not listed")
    return table, files


def _read_version_1(path: Path, index: dict[str, Any]) -> tuple[ClipTable, list[Shard]]:
    """Two arrays per split, no checksums, and every clip in the index."""
    entries, shards = [], []
    speakers = {None, *index["speakers"]}
    position = dict.fromkeys(SPLITS, 0)
    for clip in index["clips"]:
        if type(clip["num_frames"]) is not int or clip["speaker"] not in speakers:
            raise ValueError("a clip's speaker is not listed, or its length no whole number")
        facts = {**clip, "notes": tuple(clip["notes"]), "shard": SPLITS.index(clip["split"])}
        del facts["offset_samples"]
        entries.append(ClipEntry(**facts, first_frame=position[clip["split"]]))
        position[clip["split"]] += clip["num_frames"]
    for split, num_frames in position.items():
        shards.append(Shard(f"{split}_audio.npy", f"{split}_frames.npy", num_frames))
    return ClipTable.of(entries), shards

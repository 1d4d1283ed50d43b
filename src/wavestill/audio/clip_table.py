"""A corpus's clips as columns: what is known of each, in some 60 bytes and its words."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from wavestill.audio.splits import SPLITS

CLIPS_FILE = "clips.npy"
STRINGS_FILE = "strings.npy"

COLUMNS = np.dtype(
    [
        ("split", "u1"),  # position in SPLITS
        ("speaker", "<i4"),  # position in the corpus's speakers; -1: not known
        ("shard", "<i4"),
        ("first_frame", "<i8"),  # in its shard
        ("num_frames", "<i8"),
        ("gain_db", "<f8"),
        ("notes", "<i4"),  # position in the corpus's list of sets of notes
        ("audio_crc32", "<u4"),
        ("frames_crc32", "<u4"),
        ("strings", "<i8"),  # where id, source and text stand in strings.npy, one after the other
        ("id_bytes", "<i4"),
        ("source_bytes", "<i4"),
        ("text_bytes", "<i4"),  # -1: no text
    ]
)


@dataclass(frozen=True)
class ClipEntry:
    """What a corpus knows of a clip besides its samples and frames.

    Arguments:
        id: Unique in the corpus.
        split: `train`, `valid` or `test`.
        text: What is said, if known.
        speaker: Who says it, if known.
        source: The recording it was made from, relative to the corpus's source.
        shard: Number of the shard that holds it.
        first_frame: Where it begins there; `hop_samples` samples per frame.
        num_frames: Its length.
        gain_db: What it was raised by.
        notes: What was converted on the way.
        audio_crc32: Checksum of its samples' bytes; 0 in corpora that have none.
        frames_crc32: Checksum of its frames' bytes.
    """

    id: str
    split: str
    text: str | None
    speaker: str | None
    source: str
    shard: int
    first_frame: int
    num_frames: int
    gain_db: float
    notes: tuple[str, ...]
    audio_crc32: int = 0
    frames_crc32: int = 0


class ClipTable:
    """All clips of a corpus, in the order of its source; `table[i]` is one's `ClipEntry`.

    As columns, mapped from two files, a million clips cost about 60 MB and their words (some 200
    MB with texts), shared by all processes on a machine; a dictionary per clip would take ten
    times that in each.

    Arguments:
        columns: One row per clip.
        strings: Ids, sources and texts, UTF-8.
        speakers: Names; their order numbers them.
        notes: The sets of notes that occur.
    """

    def __init__(
        self,
        columns: Shaped[np.ndarray, " N"],
        strings: UInt8[np.ndarray, " S"],
        speakers: Sequence[str],
        notes: Sequence[Sequence[str]],
    ) -> None:
        self.columns = columns
        self.strings = strings
        self.speakers = tuple(speakers)
        self.notes = tuple(tuple(kinds) for kinds in notes)

    @classmethod
    def of(cls, entries: Sequence[ClipEntry]) -> "ClipTable":
        """The table of these entries."""
        speakers = sorted({entry.speaker for entry in entries if entry.speaker is not None})
        speaker_number = {name: number for number, name in enumerate(speakers)}
        notes: dict[tuple[str, ...], int] = {}
        strings = bytearray()
        columns = np.empty(len(entries), COLUMNS)
        for row, entry in zip(columns, entries, strict=True):
            id_, source, text = (
                part.encode() for part in (entry.id, entry.source, entry.text or "")
            )
            row["split"] = SPLITS.index(entry.split)
            row["speaker"] = -1 if entry.speaker is None else speaker_number[entry.speaker]
            row["notes"] = notes.setdefault(entry.notes, len(notes))
            row["strings"] = len(strings)
            row["id_bytes"], row["source_bytes"] = len(id_), len(source)
            row["text_bytes"] = -1 if entry.text is None else len(text)
            for name in ("shard", "first_frame", "num_frames", "gain_db"):
                row[name] = getattr(entry, name)
            row["audio_crc32"], row["frames_crc32"] = entry.audio_crc32, entry.frames_crc32
            strings += id_ + source + text
        return cls(columns, np.frombuffer(bytes(strings), np.uint8), speakers, list(notes))

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, i: int) -> ClipEntry:
        row = self.columns[i]
        start, parts = int(row["strings"]), []
        for name in ("id_bytes", "source_bytes", "text_bytes"):
            end = start + max(0, int(row[name]))
            parts.append(self.strings[start:end].tobytes().decode())
            start = end
        speaker = int(row["speaker"])
        return ClipEntry(
            id=parts[0],
            split=SPLITS[row["split"]],
            text=None if row["text_bytes"] < 0 else parts[2],
            speaker=None if speaker < 0 else self.speakers[speaker],
            source=parts[1],
            shard=int(row["shard"]),
            first_frame=int(row["first_frame"]),
            num_frames=int(row["num_frames"]),
            gain_db=float(row["gain_db"]),
            notes=self.notes[row["notes"]],
            audio_crc32=int(row["audio_crc32"]),
            frames_crc32=int(row["frames_crc32"]),
        )

    def rows_of(self, split: str) -> Int64[np.ndarray, " n"]:
        """Which rows are of a split."""
        return np.flatnonzero(self.columns["split"] == SPLITS.index(split)).astype(np.int64)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the two files; returns what the index must say for `load` to read them."""
        np.save(folder / CLIPS_FILE, self.columns)
        np.save(folder / STRINGS_FILE, self.strings)
        return {
            "speakers": list(self.speakers),
            "notes": [list(kinds) for kinds in self.notes],
            "clips": {
                "number": len(self),
                "crc32": zlib.crc32(np.ascontiguousarray(self.columns).data),
                "strings_crc32": zlib.crc32(np.ascontiguousarray(self.strings).data),
            },
        }

    @classmethod
    def load(cls, folder: Path, index: dict[str, Any]) -> "ClipTable":
        """The table of a folder, mapped.

        Raises:
            ValueError: If a file is missing or its checksum is not that of the index.
        """
        about = index["clips"]
        columns = _mapped(folder / CLIPS_FILE, about["crc32"])
        strings = _mapped(folder / STRINGS_FILE, about["strings_crc32"])
        if columns.dtype != COLUMNS or columns.shape != (about["number"],):
            raise ValueError(
                f"{CLIPS_FILE} holds {columns.shape} rows, the index names {about['number']}"
            )
        table = cls(columns, strings, index["speakers"], index["notes"])
        if int(columns["speaker"].max()) >= len(table.speakers):
            raise ValueError("a clip's speaker is not listed")
        return table


class Entries(Sequence[ClipEntry]):
    """Some clips' entries, each made when it is asked for.

    Arguments:
        table: All clips.
        rows: Which of them.
    """

    def __init__(self, table: ClipTable, rows: Int64[np.ndarray, " n"]) -> None:
        self._table = table
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, i: int) -> ClipEntry: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[ClipEntry]: ...
    def __getitem__(self, i: int | slice) -> ClipEntry | Sequence[ClipEntry]:
        if isinstance(i, slice):
            return Entries(self._table, self._rows[i])
        return self._table[int(self._rows[i])]

    def __iter__(self) -> Iterator[ClipEntry]:
        return (self._table[row] for row in self._rows.tolist())


def _mapped(path: Path, crc32: int) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path.name} is missing or damaged") from error
    if zlib.crc32(np.ascontiguousarray(array).data) != crc32:
        raise ValueError(f"the checksum of {path.name} is another")
    return array

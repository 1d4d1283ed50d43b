"""A prepared corpus: sounds and frames on disk, mapped into memory, one clip at a time."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int16

from wavestill.audio.mel import MelSpec
from wavestill.audio.splits import SPLITS

FORMAT = "wavestill corpus"
FORMAT_VERSION = 1
INDEX_FILE = "index.json"


@dataclass(frozen=True)
class ClipEntry:
    """A clip's line in the index.

    Arguments:
        id: Unique in the corpus.
        split: `train`, `valid` or `test`.
        text: What is said, if known.
        speaker: Who says it, if known.
        source: The recording it was made from, relative to the corpus's source.
        offset_samples: Where it begins in its split's array of samples.
        num_frames: Its length; `hop_samples` samples each.
        gain_db: What it was raised by.
        notes: What was converted on the way.
    """

    id: str
    split: str
    text: str | None
    speaker: str | None
    source: str
    offset_samples: int
    num_frames: int
    gain_db: float
    notes: tuple[str, ...]


class Clip(NamedTuple):
    """One clip: its samples in [-1, 1], `(T,)`, and frames `(F, C)`, with `T = F * hop_samples`.

    `speaker` is the number of its speaker in `Corpus.speakers`, or None in corpora that name none.
    """

    id: str
    text: str | None
    speaker: int | None
    wave: Float32[np.ndarray, " T"]
    frames: Float32[np.ndarray, "F C"]


class Clips:
    """The clips of one split: `len(clips)`, `clips[i]`, iteration.

    Arguments:
        spec: How the frames were made.
        entries: Their lines in the index, in the order they lie in the arrays.
        audio: All samples, on the 16-bit grid.
        frames: All frames.
        speakers: Names of the corpus's speakers; their order numbers them.
    """

    def __init__(
        self,
        spec: MelSpec,
        entries: tuple[ClipEntry, ...],
        audio: Int16[np.ndarray, " N"],
        frames: Float32[np.ndarray, "M C"],
        speakers: tuple[str, ...],
    ) -> None:
        self.spec = spec
        self.entries = entries
        self.audio = audio
        self.frames = frames
        self._speaker_number = {name: number for number, name in enumerate(speakers)}
        self.num_frames = np.array([entry.num_frames for entry in entries], dtype=np.int64)
        self.first_frame = np.cumsum(self.num_frames) - self.num_frames

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> Clip:
        entry = self.entries[i]
        first, last = int(self.first_frame[i]), int(self.first_frame[i] + self.num_frames[i])
        hop = self.spec.hop_samples
        wave = self.audio[first * hop : last * hop].astype(np.float32) / np.float32(32768)
        return Clip(entry.id, entry.text, self.speaker(i), wave, np.array(self.frames[first:last]))

    def __iter__(self) -> Iterator[Clip]:
        return (self[i] for i in range(len(self)))

    def speaker(self, i: int) -> int | None:
        """The number of clip `i`'s speaker, if the corpus names speakers."""
        name = self.entries[i].speaker
        return None if name is None else self._speaker_number[name]

    @property
    def seconds(self) -> float:
        """Length of all clips together."""
        return float(self.num_frames.sum()) * self.spec.hop_samples / self.spec.sample_rate


class Corpus:
    """A folder that `prepare` made.

    Arguments:
        path: The folder.

    Raises:
        ValueError: If it is not one, is damaged, or of a format this version does not read.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.index = read_index(self.path)
        try:
            self.spec = MelSpec.from_dict(self.index["spec"])
            self.level_dbfs = float(self.index["level_dbfs"])
            self.speakers: tuple[str, ...] = tuple(self.index["speakers"])
            entries = [
                ClipEntry(**{**clip, "notes": tuple(clip["notes"])})
                for clip in self.index["clips"]
            ]
            unknown = {entry.speaker for entry in entries} - {None, *self.speakers}
            if unknown or not all(type(entry.num_frames) is int for entry in entries):
                raise ValueError("a clip's speaker is not listed, or its length no whole number")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.path / INDEX_FILE}: damaged ({error}); prepare the corpus again"
            ) from error
        self._splits = {split: self._open(split, entries) for split in SPLITS}

    def _open(self, split: str, entries: list[ClipEntry]) -> Clips:
        chosen = tuple(entry for entry in entries if entry.split == split)
        num_frames = sum(entry.num_frames for entry in chosen)
        audio = self._map(f"{split}_audio.npy", (num_frames * self.spec.hop_samples,), np.int16)
        frames = self._map(f"{split}_frames.npy", (num_frames, self.spec.num_features), np.float32)
        return Clips(self.spec, chosen, audio, frames, self.speakers)

    def _map(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
        path = self.path / name
        try:
            # an empty file cannot be mapped
            array: np.ndarray = np.load(
                path, mmap_mode="r" if shape[0] else None, allow_pickle=False
            )
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path}: missing or damaged; prepare the corpus again") from error
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"{path}: holds {array.dtype} of shape {array.shape}, but its index describes "
                f"{np.dtype(dtype)} of shape {shape}; prepare the corpus again"
            )
        return array

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
        """Mean and standard deviation of each column over the training frames."""
        frames = self.split("train").frames
        if len(frames) == 0:
            raise ValueError(
                f"{self.path}: its train split is empty, so its frames have no statistics"
            )
        mean = frames.mean(axis=0, dtype=np.float64)
        return mean.astype(np.float32), frames.std(axis=0, dtype=np.float64).astype(np.float32)


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
    if index.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{index_path}: format version {index.get('format_version')}, but this version reads "
            f"{FORMAT_VERSION}; prepare the corpus again"
        )
    return index

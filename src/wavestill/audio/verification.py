"""Reading a corpus once from end to end, to name what is damaged before a training meets it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavestill.audio.corpus import Corpus
from wavestill.audio.shards import DamagedClip
from wavestill.audio.splits import SPLITS


@dataclass(frozen=True)
class Verification:
    """What was found.

    Arguments:
        path: The corpus.
        num_clips: Clips that were read.
        num_shards: Shards they lie in.
        checked: Whether there are checksums; a corpus of format 1 was only seen to be readable.
        damaged: Clips that cannot be used, each with its file and the reason.
    """

    path: Path
    num_clips: int
    num_shards: int
    checked: bool
    damaged: list[DamagedClip]

    @property
    def files(self) -> dict[str, int]:
        """The damaged files, and how many clips each spoils."""
        counts: dict[str, int] = {}
        for clip in self.damaged:
            counts[clip.path.name] = counts.get(clip.path.name, 0) + 1
        return counts

    def to_dict(self) -> dict[str, Any]:
        """The findings as plain values."""
        return {
            "num_clips": self.num_clips,
            "num_shards": self.num_shards,
            "checked": self.checked,
            "damaged_files": self.files,
            "damaged_clips": [
                {"id": clip.id, "file": clip.path.name, "reason": clip.reason}
                for clip in self.damaged
            ],
        }

    def __str__(self) -> str:
        """One line if all is well; otherwise one for each damaged file."""
        about = f"{self.path}: {self.num_clips:,} clips in {self.num_shards:,} shards"
        if not self.damaged:
            kind = "whole" if self.checked else "readable (format 1 has no checksums)"
            return f"{about}, all {kind}"
        lines = [f"{about}, {len(self.damaged):,} of them damaged"]
        for name, count in self.files.items():
            first = next(clip for clip in self.damaged if clip.path.name == name)
            which = f"clip {first.id!r}" if count == 1 else f"{count:,} clips, first {first.id!r}"
            lines.append(f"  {name}: {which}: {first.reason}")
        lines.append("training skips these clips; prepare the corpus again to have them back")
        return "\n".join(lines)


def verify(
    path: Path | str, *, progress: Callable[[int, int], None] | None = None
) -> Verification:
    """Read every clip of a corpus and compare it with its checksums.

    Arguments:
        path: A prepared corpus.
        progress: Called with the number of clips read and their total.

    Raises:
        ValueError: If it is none, or its index is damaged.
    """
    corpus = Corpus(path)
    total, done, damaged = len(corpus.table), 0, []
    for split in SPLITS:
        clips = corpus.split(split)
        for i in range(len(clips)):
            if progress is not None:
                progress(done, total)
            try:
                clips.piece(i)
            except DamagedClip as error:
                damaged.append(error)
            done += 1
    if progress is not None:
        progress(total, total)
    return Verification(corpus.path, total, len(corpus.shards), corpus.checked, damaged)

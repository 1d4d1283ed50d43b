"""What `prepare` did, for people and for JSON."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wavestill.audio.corpus import ClipEntry
from wavestill.audio.layouts import Skipped
from wavestill.audio.mel import MelSpec
from wavestill.audio.splits import SPLITS

_NAMED_IN_SUMMARY = 5


@dataclass(frozen=True)
class PreparationReport:
    """A corpus's making, recording by recording.

    Arguments:
        source: The folder of recordings.
        out: The corpus.
        layout: How the source was read: `metadata.psv`, `ljspeech` or `folder`.
        spec: How the frames were made.
        level_dbfs: The RMS asked for.
        pitch_estimator: What estimated F0; None without pitch.
        num_clips: Clips of each split.
        seconds: Their length together, split by split.
        skipped: What was left out, each with its reason.
        converted: What had to be converted, each with its notes.
        moved_to_train: Recordings whose prompt was also in another split.
        elapsed_s: How long it took (not part of the index).
    """

    source: str
    out: str
    layout: str
    spec: MelSpec
    level_dbfs: float
    pitch_estimator: str | None
    num_clips: dict[str, int]
    seconds: dict[str, float]
    skipped: list[Skipped]
    converted: dict[str, tuple[str, ...]]
    moved_to_train: list[str]
    elapsed_s: float | None = None

    @classmethod
    def of(cls, entries: Sequence[ClipEntry], **facts: Any) -> "PreparationReport":
        """The report of these clips; `facts` are the fields that they do not tell."""
        spec: MelSpec = facts["spec"]
        of_split = {split: [e.num_frames for e in entries if e.split == split] for split in SPLITS}
        frame_s = spec.hop_samples / spec.sample_rate
        return cls(
            num_clips={split: len(counts) for split, counts in of_split.items()},
            seconds={split: sum(counts) * frame_s for split, counts in of_split.items()},
            converted={entry.source: entry.notes for entry in entries if entry.notes},
            **facts,
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values; the folder's own name and the time taken stay out."""
        return {
            "layout": self.layout,
            "level_dbfs": self.level_dbfs,
            "pitch_estimator": self.pitch_estimator,
            "num_clips": self.num_clips,
            "seconds": {split: round(seconds, 3) for split, seconds in self.seconds.items()},
            "skipped": [skipped._asdict() for skipped in self.skipped],
            "converted": {name: list(notes) for name, notes in self.converted.items()},
            "moved_to_train": self.moved_to_train,
        }

    def __str__(self) -> str:
        """A few lines: splits, then every kind of conversion, then everything skipped."""
        spec = self.spec
        lines = [
            f"{self.out}: {sum(self.num_clips.values()):,} clips of {self.source} ({self.layout})"
        ]
        for split in SPLITS:
            minutes = self.seconds[split] / 60
            lines.append(f"  {split:5} {self.num_clips[split]:6,} clips, {minutes:8.2f} min")
        pitch = f", log F0 and voicing by {self.pitch_estimator}" if self.pitch_estimator else ""
        lines.append(
            f"  {spec.sample_rate:,} Hz, {self.level_dbfs:g} dBFS RMS, 16 bits with triangular "
            f"dither, whole frames of {spec.hop_samples} samples; {spec.num_mels} mels{pitch}"
        )
        kinds = defaultdict(list)
        for name, notes in self.converted.items():
            for note in notes:
                kinds[note].append(name)
        for note, names in kinds.items():
            lines.append(f"  {note}: {_listed(names)}")
        if self.moved_to_train:
            moved = _listed(self.moved_to_train)
            lines.append(f"  moved to train, their prompt is in several splits: {moved}")
        lines.extend(
            f"  no {split} split: the source has none, or too few prompts"
            for split in SPLITS
            if not self.num_clips[split]
        )
        lines.extend(f"  skipped {skipped.source}: {skipped.reason}" for skipped in self.skipped)
        return "\n".join(lines)


def _listed(names: list[str]) -> str:
    """All names of a short list; of a long one their number and the first."""
    if len(names) <= _NAMED_IN_SUMMARY:
        return ", ".join(names)
    return f"{len(names):,} recordings ({names[0]}, ...; all in index.json)"

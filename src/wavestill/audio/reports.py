"""What `prepare` did, for people and for JSON."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wavestill.audio.clip_table import ClipEntry
from wavestill.audio.recordings import Skipped
from wavestill.audio.spec import FeatureSpec
from wavestill.audio.splits import SPLITS

_NAMED_IN_SUMMARY = 5


@dataclass(frozen=True)
class PreparationReport:
    """A corpus's making, recording by recording.

    Arguments:
        source: The folder of recordings.
        out: The corpus.
        layout: How the source was read: `metadata.psv`, `ljspeech`, `vctk`, `libritts` or
            `folder`.
        spec: How the frames were made.
        level_dbfs: The RMS asked for.
        pitch_estimator: What estimated F0; None without pitch.
        num_clips: Clips of each split.
        seconds: Their length together, split by split.
        skipped: What was left out, each with its reason.
        converted: What had to be converted, each with its notes.
        moved_to_train: Recordings whose prompt was also in another split.
        notes: What else the layout has to say.
        killed: Recordings over which a worker was killed; what became of them is in the other
            fields (not part of the index).
        elapsed_s: How long it took (not part of the index).
    """

    source: str
    out: str
    layout: str
    spec: FeatureSpec
    level_dbfs: float
    pitch_estimator: str | None
    num_clips: dict[str, int]
    seconds: dict[str, float]
    skipped: list[Skipped]
    converted: dict[str, tuple[str, ...]]
    moved_to_train: list[str]
    notes: Sequence[str] = ()
    killed: Sequence[str] = ()
    elapsed_s: float | None = None

    @classmethod
    def of(cls, entries: Sequence[ClipEntry], **facts: Any) -> "PreparationReport":
        """The report of these clips; `facts` are the fields that they do not tell."""
        spec: FeatureSpec = facts["spec"]
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
            "notes": list(self.notes),
        }

    def to_index(self) -> dict[str, Any]:
        """What the index keeps: all but the notes of each clip, which the table of clips has."""
        facts = self.to_dict()
        del facts["converted"]
        return facts

    def __str__(self) -> str:
        """A few lines: splits, then every kind of conversion, then everything skipped."""
        spec = self.spec
        lines = [
            f"{self.out}: {sum(self.num_clips.values()):,} clips of {self.source} ({self.layout})"
        ]
        for split in SPLITS:
            minutes = self.seconds[split] / 60
            lines.append(f"  {split:5} {self.num_clips[split]:6,} clips, {minutes:8.2f} min")
        pitch = f" by {self.pitch_estimator}" if self.pitch_estimator else ""
        lines.append(
            f"  {spec.sample_rate:,} Hz, {self.level_dbfs:g} dBFS RMS, 16 bits with triangular "
            f"dither, whole frames of {spec.hop_samples} samples; {spec.summary}{pitch}"
        )
        kinds = defaultdict(list)
        for name, notes in self.converted.items():
            for note in notes:
                kinds[note].append(name)
        for note, names in kinds.items():
            lines.append(f"  {note}: {_listed(names)}")
        lines.extend(f"  {note}" for note in self.notes)
        if self.moved_to_train:
            moved = _listed(self.moved_to_train)
            lines.append(f"  moved to train, their prompt is in several splits: {moved}")
        lines.extend(
            f"  no {split} split: the source has none, or too few prompts"
            for split in SPLITS
            if not self.num_clips[split]
        )
        if self.killed:
            lines.append(f"  a worker was killed over: {_listed(list(self.killed))}")
        lines.extend(f"  skipped {skipped.source}: {skipped.reason}" for skipped in self.skipped)
        return "\n".join(lines)


def _listed(names: list[str]) -> str:
    """All names of a short list; of a long one their number and the first."""
    if len(names) <= _NAMED_IN_SUMMARY:
        return ", ".join(names)
    return f"{len(names):,} recordings ({names[0]}, ...; all in --json)"

"""What a corpus is found to hold, before anything is opened."""

from pathlib import Path
from typing import NamedTuple


class Recording(NamedTuple):
    """One recording of a corpus, not yet opened.

    Arguments:
        id: Unique in the corpus.
        path: The sound file.
        text: What is said, where the corpus knows.
        split: The split its corpus puts it in (as written there), where it says.
        speaker: Who says it, where the corpus knows.
        labels: File of its phones with their times (`.lab`, `.TextGrid`), where there is one.
    """

    id: str
    path: Path
    text: str | None = None
    split: str | None = None
    speaker: str | None = None
    labels: Path | None = None


class Skipped(NamedTuple):
    """A file or a row that is left out, and why."""

    source: str
    reason: str


class Layout(NamedTuple):
    """What was found.

    Arguments:
        name: The layout's.
        recordings: In the order of the corpus.
        skipped: What is left out.
        notes: What else is worth knowing of it.
    """

    name: str
    recordings: list[Recording]
    skipped: list[Skipped]
    notes: tuple[str, ...] = ()

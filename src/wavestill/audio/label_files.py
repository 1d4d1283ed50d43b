"""Label files that belong to recordings: beside them, or in a folder that runs parallel."""

from pathlib import Path

from wavestill.audio.labels import LABEL_SUFFIXES
from wavestill.audio.recordings import Recording

LABEL_FOLDERS = ("lab", "labels", "TextGrid")


class LabelFinder:
    """Finds the label file of a recording; every folder is listed once.

    A label file has the recording's stem, or its id (VCTK's `p225_001_mic1.flac` and
    `p225_001.lab`). It lies beside the recording, or in `lab/`, `labels/` or `TextGrid/` of the
    corpus: there directly, under the recording's own folders, or under these without the first
    (`wav48/p225/` and `lab/p225/`).

    Arguments:
        source: The corpus.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        self._listings: dict[Path, frozenset[str]] = {}
        self._roots = [source / name for name in LABEL_FOLDERS if (source / name).is_dir()]

    def find(self, recording: Recording) -> Path | None:
        """The label file, if there is one."""
        folder = recording.path.parent
        stems = dict.fromkeys((recording.path.stem, Path(recording.id).name))
        below = folder.relative_to(self._source)
        inner = Path(*below.parts[1:])
        places = [folder, *(root / part for root in self._roots for part in (inner, below, ""))]
        for place in dict.fromkeys(places):
            listing = self._listing(place)
            for stem in stems if listing else ():
                for suffix in LABEL_SUFFIXES:
                    if stem + suffix in listing:
                        return place / (stem + suffix)
        return None

    def _listing(self, folder: Path) -> frozenset[str]:
        if folder not in self._listings:
            try:
                names = [path.name for path in folder.iterdir() if path.suffix in LABEL_SUFFIXES]
            except OSError:
                names = []
            self._listings[folder] = frozenset(names)
        return self._listings[folder]

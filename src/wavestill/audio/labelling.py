"""Label files of a corpus's recordings, and the features that they make."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from wavestill.audio.labels import LABEL_SUFFIXES, Label, read_labels
from wavestill.audio.linguistic import LinguisticSpec, phone_inventory
from wavestill.audio.mel import MelSpec
from wavestill.audio.recordings import Layout, Recording


def label_recordings(layout: Layout, folder: Path) -> Layout:
    """The same recordings, each with its label file in a folder, where it has one there.

    Of a recording of id `p225/p225_001` these are tried: `p225/p225_001.lab`, `p225_001.lab`, and
    the same with `.TextGrid`; in the corpus itself also where `LabelFinder` finds them.

    Raises:
        ValueError: If the folder is none, or no recording has a label file there.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder of label files")
    found = [
        recording._replace(labels=_file_of(recording, folder)) for recording in layout.recordings
    ]
    if not any(recording.labels for recording in found):
        first = layout.recordings[0].id
        raise ValueError(
            f"{folder}: holds no label file of the {len(found)} recordings; that of '{first}' "
            f"would be {first}.lab or {first}.TextGrid"
        )
    return layout._replace(recordings=found)


def _file_of(recording: Recording, folder: Path) -> Path | None:
    names = (recording.id, Path(recording.id).name, recording.path.stem)
    candidates = (
        folder / f"{name}{suffix}" for name in dict.fromkeys(names) for suffix in LABEL_SUFFIXES
    )
    by_name = next((path for path in candidates if path.is_file()), None)
    known = recording.labels  # of a corpus that has its own
    if by_name is None and known is not None and known.resolve().is_relative_to(folder.resolve()):
        return known
    return by_name


def spec_of_labels(recordings: Sequence[Recording], like: MelSpec) -> LinguisticSpec:
    """The spec of the phones that occur, at the rate and hop of `like`, with its pitch.

    Label files that cannot be read are left for `prepare` to name.

    Raises:
        ValueError: If none can be read.
    """
    reasons: list[str] = []
    phones = phone_inventory(_readable(recordings, reasons))
    if reasons and len(reasons) == sum(recording.labels is not None for recording in recordings):
        raise ValueError(
            f"none of {len(reasons)} label files can be read; the first: {reasons[0]}"
        )
    return LinguisticSpec(like.sample_rate, like.hop_samples, phones, pitch=like.pitch)


def _readable(recordings: Sequence[Recording], reasons: list[str]) -> Iterator[tuple[Label, ...]]:
    for recording in recordings:
        if recording.labels is not None:
            try:
                yield read_labels(recording.labels)
            except ValueError as error:
                reasons.append(str(error))

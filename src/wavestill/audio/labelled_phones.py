"""The phone of every frame of a clip, from label files with times."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from wavestill.audio.corpus import Clip
from wavestill.audio.labels import LABEL_SUFFIXES, Label, read_labels

UNKNOWN = -1
"""The class of frames that nobody has labelled."""


@dataclass(frozen=True)
class LabelledPhones:
    """Phones as a folder of label files tells them: `<clip id>.lab` or `<clip id>.TextGrid`.

    Times are of the clip: label files of recordings that were cut in `prepare` do not fit.

    Arguments:
        folder: The folder.
        names: The phones; their order numbers the classes.
        hop_samples: Samples per frame.
        sample_rate: Samples per second.
    """

    folder: Path
    names: tuple[str, ...]
    hop_samples: int
    sample_rate: int

    @property
    def num_classes(self) -> int:
        """How many phones there are."""
        return len(self.names)

    def __call__(self, clip: Clip) -> Int64[Tensor, " F"]:
        """The class of each frame of a clip; `UNKNOWN` where its file does not say.

        Raises:
            ValueError: If its file cannot be read as labels.
        """
        path = label_file(self.folder, clip.id)
        labels = () if path is None else read_labels(path)
        return phones_of_frames(
            labels, len(clip.frames), self.names, self.hop_samples / self.sample_rate
        )


def label_file(folder: Path, clip_id: str) -> Path | None:
    """The label file of a clip, if there is one."""
    paths = (folder / f"{clip_id}{suffix}" for suffix in LABEL_SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def find_labelled_phones(
    folder: Path, clip_ids: Iterable[str], hop_samples: int, sample_rate: int
) -> LabelledPhones:
    """The phones that occur in the label files of some clips, in the order of their names.

    Raises:
        ValueError: If no clip has a label file, or one cannot be read.
    """
    names: set[str] = set()
    for clip_id in clip_ids:
        path = label_file(folder, clip_id)
        if path is not None:
            names |= {label.phone for label in read_labels(path)}
    if len(names) < 2:
        raise ValueError(
            f"the label files in '{folder}' name {len(names)} phones of these clips; they are "
            f"looked for as <clip id>{' or <clip id>'.join(LABEL_SUFFIXES)}"
        )
    return LabelledPhones(folder, tuple(sorted(names)), hop_samples, sample_rate)


def phones_of_frames(
    labels: Sequence[Label], num_frames: int, names: Sequence[str], hop_s: float
) -> Int64[Tensor, " F"]:
    """The class of the label under each frame's centre; `UNKNOWN` where none is known.

    Example:
        >>> labels = [Label(0.0, 0.02, "a"), Label(0.02, 0.03, "?")]
        >>> phones_of_frames(labels, 4, ["a", "b"], 0.01)
        tensor([ 0,  0, -1, -1])
    """
    number = {name: k for k, name in enumerate(names)}
    classes = torch.full((num_frames,), UNKNOWN, dtype=torch.long)
    centres_s = (torch.arange(num_frames, dtype=torch.float64) + 0.5) * hop_s
    for label in labels:
        within = (centres_s >= label.start_s) & (centres_s < label.end_s)
        classes[within] = number.get(label.phone, UNKNOWN)
    return classes

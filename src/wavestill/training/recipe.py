"""A recipe: everything that makes a voice of a corpus, as a YAML file."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from wavestill.audio.spec import FeatureSpec
from wavestill.distillation import ObjectiveConfig
from wavestill.models import IAFWaveNetConfig, WaveNetConfig
from wavestill.nn.conditioning import ConditioningConfig
from wavestill.settings import plain_settings, read_settings, require_seed
from wavestill.training.config import TrainingConfig

_OF_THE_CORPUS = ("num_features", "hop_samples", "sample_rate", "num_speakers")


@dataclass(frozen=True)
class Recipe:
    """What `wavestill fit` and `wavestill distill` are told.

    The run's folder `out` then holds `teacher/` and `student/` (figures, checkpoints, sounds) and
    `voice/`.

    Arguments:
        corpus: A folder made by `wavestill prepare`, relative to where the command runs.
        out: Folder of the run.
        seed: Seed of weights, batches and noise.
        teacher: Shape of the teacher. Its `conditioning` may give channels, sub-frames and
            harmonics; what depends on the corpus is filled in.
        fit: How the teacher is trained.
        student: Shape of the student; its conditioning is the teacher's unless it is given.
        student_begins: What becomes of the teacher's conditioning network in the student: `copy`
            trains on from it, `share` keeps it frozen, `fresh` begins anew.
        objective: What the student is trained on.
        distill: How the student is trained.
        teacher_path: Folder of the voice whose teacher is distilled; None: the one in `out`.
        more_teachers: Folders of further voices, of the same features, whose teachers are
            distilled with it (`objective.pool`).
    """

    corpus: Path
    out: Path
    fit: TrainingConfig
    distill: TrainingConfig
    seed: int = 0
    teacher: WaveNetConfig = field(default_factory=WaveNetConfig)
    student: IAFWaveNetConfig = field(default_factory=IAFWaveNetConfig)
    student_begins: Literal["copy", "share", "fresh"] = "copy"
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    teacher_path: Path | None = None
    more_teachers: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        require_seed(self.seed)
        _require_sizes(self.teacher, "teacher")
        _require_sizes(self.student, "student")
        for part, conditioning in (
            ("teacher", self.teacher.conditioning),
            ("student", self.student.conditioning),
        ):
            for name in _OF_THE_CORPUS:
                if conditioning is not None and getattr(conditioning, name):
                    raise ValueError(
                        f"'{part}.conditioning.{name}' follows from the corpus; leave it out"
                    )

    def teacher_config(self, spec: FeatureSpec, num_speakers: int) -> WaveNetConfig:
        """The teacher's shape, with what depends on the corpus filled in."""
        conditioning = self.teacher.conditioning or ConditioningConfig()
        return dataclasses.replace(
            self.teacher, conditioning=fill_in(conditioning, spec, num_speakers)
        )

    def student_config(
        self, teacher: WaveNetConfig, spec: FeatureSpec, num_speakers: int
    ) -> IAFWaveNetConfig:
        """The student's shape, with what depends on the corpus filled in."""
        own = self.student.conditioning
        conditioning = teacher.conditioning if own is None else fill_in(own, spec, num_speakers)
        return dataclasses.replace(self.student, conditioning=conditioning)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the YAML file has them."""
        plain: dict[str, Any] = plain_settings(self)
        for part in ("teacher", "student"):
            conditioning = plain[part]["conditioning"]
            if conditioning is not None:
                plain[part]["conditioning"] = {
                    k: v for k, v in conditioning.items() if k not in _OF_THE_CORPUS
                }
        return plain


_MAY_BE_ZERO = ("predictor_order", "subframe_samples", "num_harmonics", *_OF_THE_CORPUS)


def _require_sizes(config: object, key: str) -> None:
    """Check that every whole number of a model's shape can be one."""
    for name, value in plain_settings(config).items():
        if name == "conditioning" and value is not None:
            _require_sizes(getattr(config, name), f"{key}.{name}")
        least = 0 if name in _MAY_BE_ZERO else 1
        if isinstance(value, int) and value < least:
            raise ValueError(f"'{key}.{name}' is {value}; it must be {least} or more")


def fill_in(
    conditioning: ConditioningConfig, spec: FeatureSpec, num_speakers: int
) -> ConditioningConfig:
    """The conditioning of models of a corpus with this spec and so many named speakers.

    Raises:
        ValueError: If harmonics are asked for and the corpus has no pitch.
    """
    if conditioning.num_harmonics and not spec.pitch:
        raise ValueError(
            f"'num_harmonics' is {conditioning.num_harmonics} but the corpus has no pitch; "
            "prepare it with --pitch, or set it to 0"
        )
    return dataclasses.replace(
        conditioning,
        num_features=spec.num_features,
        hop_samples=spec.hop_samples,
        sample_rate=spec.sample_rate,
        num_speakers=num_speakers,
    )


def load_recipe(path: Path | str) -> Recipe:
    """Read a recipe for a voice.

    Raises:
        ValueError: In one line and with the key's name, if the file is missing or no YAML, or a
            key is unknown, missing, of the wrong type or out of range.
    """
    values = read_yaml(path)
    try:
        return read_settings(Recipe, values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_yaml(path: Path | str) -> dict[str, Any]:
    """The plain values of a recipe of any kind.

    Raises:
        ValueError: In one line, if the file is missing or no YAML, or holds no keys.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no recipe at '{path}'")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(
            f"'{path}' is not readable as YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(values, dict):
        raise ValueError(f"'{path}' is not a recipe: it holds no keys")
    return values

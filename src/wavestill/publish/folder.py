"""A voice: teacher and student, and what they are made for, as a folder that can be published.

    voice/
      config.json         format version, mel spec, level of the recordings, shapes of the models
      model.safetensors   weights, under `teacher.` and `student.`
      README.md           the card: what it is, how it was made, what was measured

Loading never unpickles.
"""

import dataclasses
import json
import math
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from wavestill.audio.spec import FeatureSpec, spec_from_dict
from wavestill.models import IAFWaveNet, IAFWaveNetConfig, WaveNet, WaveNetConfig
from wavestill.publish.card import card
from wavestill.publish.migrations import FORMAT_VERSION, migrated
from wavestill.publish.packaged import packaged_voices
from wavestill.publish.weights import load_weights, require_shapes, sha256_of, stored_shapes
from wavestill.settings import plain_settings, read_settings

FORMAT = "wavestill voice"

OWN_FILES = ("model.safetensors", "config.json", "README.md")
"""What a voice's folder holds of it."""


@dataclass
class Voice:
    """Models that turn frames into sound.

    Arguments:
        spec: How the frames are made; frames of another spec are refused.
        teacher: The autoregressive density, if the voice has it.
        student: The parallel sampler distilled from it, if the voice has it.
        level_dbfs: RMS of the recordings it was trained on, dB below full scale.
        speakers: Names of its speakers; their order numbers them. Empty for one nameless voice.
        measured: Figures for the card, as in `results.json`.
        made: How it was made: version, commit, command, machine.
        license: Under which it may be used, as the hub writes it (`cc-by-4.0`); None if not told.
    """

    spec: FeatureSpec
    teacher: WaveNet | None = None
    student: IAFWaveNet | None = None
    level_dbfs: float = -23.0
    speakers: tuple[str, ...] = ()
    measured: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)
    license: str | None = None

    def require_teacher(self) -> WaveNet:
        """The teacher.

        Raises:
            ValueError: If the voice has none.
        """
        if self.teacher is None:
            raise ValueError("this voice has no teacher; use --sampler student")
        return self.teacher

    def require_student(self) -> IAFWaveNet:
        """The student.

        Raises:
            ValueError: If the voice has none.
        """
        if self.student is None:
            raise ValueError(
                "this voice has no student yet; use --sampler cached, or run 'wavestill "
                "distill' first"
            )
        return self.student

    def speaker_number(self, name: str | None) -> int | None:
        """The number of a speaker, given by name or number; of the only one where none is given.

        Raises:
            ValueError: If the voice does not know the speaker, or knows several and none is given.
        """
        if not self.speakers:
            if name is not None:
                raise ValueError(
                    f"there is no speaker '{name}': this voice has one speaker without a name"
                )
            return None
        if name is None and len(self.speakers) == 1:
            return 0
        if name in self.speakers:
            return self.speakers.index(name)
        if name is not None and name.isdecimal() and int(name) < len(self.speakers):
            return int(name)
        asked = (
            "a speaker must be chosen (--speaker)"
            if name is None
            else f"there is no speaker '{name}'"
        )
        known = ", ".join(f"{own} ({number})" for number, own in enumerate(self.speakers))
        raise ValueError(f"{asked}; this voice has {known}")


def save(
    voice: Voice,
    path: Path | str,
    *,
    precision: Literal["float32", "float16"] = "float32",
    hub_id: str | None = None,
) -> None:
    """Write a voice; an older one in its place is replaced when the new one is whole.

    Arguments:
        voice: What is written.
        path: The folder.
        precision: Of matrices in the file; `float16` halves it. Vectors (biases, scales, the taps
            of linear filters) are few and stay in float32.
        hub_id: What its card calls it where it is on the hub.

    Raises:
        ValueError: If `path` holds something that is not a voice.
    """
    path = Path(path).resolve()  # a link stays one, and what it names is replaced
    require_replaceable(path)
    models = _models(voice)
    config: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "spec": voice.spec.to_dict(),
        "level_dbfs": voice.level_dbfs,
        "speakers": list(voice.speakers),
        **{
            name: None if model is None else plain_settings(model.config)
            for name, model in models.items()
        },
        "measured": voice.measured,
        "made": voice.made,
        "license": voice.license,
    }
    weights: dict[str, Tensor] = {
        f"{name}.{key}": _stored(value, precision)
        for name, model in models.items()
        if model is not None
        for key, value in model.state_dict().items()
    }
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    config["weights_sha256"] = sha256_of(partial / "model.safetensors")
    (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    text = card(path.name if hub_id is None else hub_id, config, weights)
    (partial / "README.md").write_text(text, encoding="utf-8")
    if not path.exists():
        partial.replace(path)
        return
    # Each file whole, and nothing else of the folder touched: it may hold sounds, or a repository.
    for name in OWN_FILES:
        (partial / name).replace(path / name)
    partial.rmdir()


def _stored(value: Tensor, precision: str) -> Tensor:
    value = value.detach().cpu().contiguous().clone()
    return value.half() if precision == "float16" and value.dim() > 1 else value


def require_replaceable(path: Path | str) -> None:
    """Check that a voice may be written to a folder: it is absent, empty or holds a voice.

    Raises:
        ValueError: If it is not, or the folder cannot be written to.
    """
    path = Path(path).resolve()
    if path.exists() and (
        not path.is_dir() or (any(path.iterdir()) and not (path / "config.json").exists())
    ):
        raise ValueError(
            f"'{path}' is no voice and will not be overwritten; choose another folder"
        )
    nearest = next(folder for folder in (path, *path.parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ValueError(f"'{path}' cannot be written to; choose another folder")


_KEYS: dict[str, tuple[Any, str]] = {
    "spec": (dict, "hold keys"),
    "level_dbfs": (int | float, "be a number"),
    "speakers": (list, "be a list of names"),
    "measured": (dict, "hold keys"),
    "made": (dict, "hold keys"),
    "license": (str | None, "be a text"),
    "weights_sha256": (str | None, "be a text"),
}
"""What stands in a config.json beside the models: its types, and what they are called."""


def load(path: Path | str) -> Voice:
    """Read a voice.

    Arguments:
        path: Its folder; the name of a voice that comes with wavestill (`kathleen`); or a name on
            the Hugging Face Hub: `owner/name`, `owner/name@revision`.

    Raises:
        ValueError: If there is none, or it is incomplete, of a newer format, or damaged.
    """
    path = located(path)
    config = _read_config(path)
    try:
        return _read(path, config)
    except ValueError:
        again = _read_config(path)
        if json.dumps(again) == json.dumps(config):
            raise
        return _read(path, again)  # it was saved anew while we read


def _read(path: Path, config: dict[str, Any]) -> Voice:
    """The voice in a folder, by its config.

    Raises:
        ValueError: If config or weights are damaged, or do not fit.
    """
    weights_path = path / "model.safetensors"
    shapes = stored_shapes(weights_path)
    try:
        voice = _described(config)
        own, others = config["teacher"], config["student"]
        teacher = None if own is None else read_settings(WaveNetConfig, own, "teacher")
        student = None if others is None else read_settings(IAFWaveNetConfig, others, "student")
        _check(voice.spec, teacher, student, len(shapes))
        with torch.device("meta"):  # no size is believed before it is that of the weights
            sketch = _built(voice, teacher, student)
    except (TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError) as error:
        # a RuntimeError is torch's: sizes that no tensor can have
        raise ValueError(
            f"'{path / 'config.json'}' is damaged: {_one_line(error)}; get it again"
        ) from error
    require_shapes(_models(sketch), shapes, weights_path)
    voice = _built(voice, teacher, student)
    load_weights(_models(voice), weights_path, config["weights_sha256"])
    return voice


def _described(config: dict[str, Any]) -> Voice:
    """What a config says of its voice, models aside.

    Raises:
        ValueError: If a key is missing or something has the wrong type.
    """
    for name in (*_KEYS, "teacher", "student"):
        if name not in config:
            raise ValueError(f"the key '{name}' is missing")
    for name, (kind, wanted) in _KEYS.items():
        if not isinstance(config[name], kind) or isinstance(config[name], bool):
            raise ValueError(f"'{name}' is {config[name]!r} but must {wanted}")
    if not all(isinstance(name, str) for name in config["speakers"]):
        raise ValueError(f"'speakers' is {config['speakers']!r} but must be a list of names")
    level_dbfs = float(config["level_dbfs"])
    if not math.isfinite(level_dbfs) or level_dbfs >= 0:
        raise ValueError(f"'level_dbfs' is {level_dbfs}; it must be finite and below 0")
    return Voice(
        spec=spec_from_dict(config["spec"]),
        level_dbfs=level_dbfs,
        speakers=tuple(config["speakers"]),
        measured=config["measured"],
        made=config["made"],
        license=config["license"],
    )


def _built(voice: Voice, teacher: WaveNetConfig | None, student: IAFWaveNetConfig | None) -> Voice:
    """The voice with its models, untrained."""
    return dataclasses.replace(
        voice,
        teacher=None if teacher is None else WaveNet(teacher).eval(),
        student=None if student is None else IAFWaveNet(student).eval(),
    )


def _models(voice: Voice) -> dict[str, WaveNet | IAFWaveNet | None]:
    return {"teacher": voice.teacher, "student": voice.student}


def located(path: Path | str) -> Path:
    """The folder of a voice: a path, the name of one that comes with wavestill, or one of the hub.

    A folder of one's own goes first, whatever its name.

    Raises:
        ValueError: If it is on the hub and cannot be had.
    """
    if Path(path).exists():
        return Path(path)
    if (packaged := packaged_voices().get(str(path))) is not None:
        return packaged
    from wavestill.publish import hub  # takes a while to import, and is seldom needed

    place = hub.remote(path)
    return Path(path) if place is None else hub.download(place)


def _check(
    spec: FeatureSpec,
    teacher: WaveNetConfig | None,
    student: IAFWaveNetConfig | None,
    num_tensors: int,
) -> None:
    """Check the settings of a voice's models against its spec, and their depth.

    Raises:
        ValueError: If they do not agree, or there are more layers than tensors.
    """
    for part, settings in (("teacher", teacher), ("student", student)):
        conditioning = None if settings is None else settings.conditioning
        for name in ("num_features", "hop_samples", "sample_rate"):
            own, wanted = getattr(conditioning, name, None), getattr(spec, name)
            if conditioning is not None and own != wanted:
                raise ValueError(f"'{part}' has {name} {own} but 'spec' {wanted}")
    own = () if teacher is None else (teacher.layers,)
    flows = () if student is None else student.flows
    for part, counts in (("teacher", own), ("student", flows)):
        if sum(counts) + len(counts) > num_tensors:
            raise ValueError(
                f"'{part}' has {sum(counts)} layers but model.safetensors {num_tensors} tensors"
            )


def _read_config(path: Path) -> dict[str, Any]:
    config_path = path / "config.json"
    if not path.exists():
        names = ", ".join(packaged_voices())
        raise ValueError(
            f"there is no voice at '{path}'; give a folder, a voice that comes with wavestill "
            f"({names}), or owner/name on the Hugging Face Hub"
        )
    if not config_path.is_file():
        raise ValueError(
            f"'{path}' is no voice: config.json is missing; give the folder 'wavestill fit' wrote "
            "(voice/)"
        )
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"'{config_path}' cannot be read: {_one_line(error)}; get it again"
        ) from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(
            f"'{config_path}' does not describe a voice of wavestill; give another folder"
        )
    try:
        return migrated(config)
    except ValueError as error:
        raise ValueError(f"'{config_path}': {error}") from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + " ..."

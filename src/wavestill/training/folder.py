"""The folder of a run: everything needed to know what was run, and to go on with it."""

import json
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from wavestill.machine import describe_machine, wavestill_commit, wavestill_version
from wavestill.training.changes import differences
from wavestill.training.checkpoint import CheckpointFiles
from wavestill.training.hardware import writes
from wavestill.training.history import write_whole

_MADE_AT_ONCE = {"recipe.yaml", "run.json", "tensorboard", "checkpoints", "sounds", "compiled"}


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run's folder.

    Arguments:
        path: The folder; it holds recipe.yaml, run.json, metrics.csv, tensorboard/, checkpoints/
            and sounds/, and compiled/ where networks are compiled.
    """

    path: Path

    @property
    def metrics(self) -> Path:
        """The figures, one row per logged step."""
        return self.path / "metrics.csv"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> CheckpointFiles:
        """The newest states of the run."""
        return CheckpointFiles(self.path / "checkpoints")

    @property
    def has_begun(self) -> bool:
        """Whether there is a state to go on from."""
        return bool(self.checkpoints.existing)

    @property
    def compiled(self) -> Path:
        """What torch.compile has made of the networks."""
        return self.path / "compiled"

    @property
    def sounds(self) -> Path:
        """Sounds drawn while training."""
        return self.path / "sounds"

    def add_note(self, line: str) -> None:
        """Keep a line about the newest session of the run in run.json."""
        runs = _records(self.path / "run.json")
        if runs:
            runs[-1].setdefault("notes", []).append(line)
            write_whole(self.path / "run.json", json.dumps(runs, indent=2) + "\n")


def open_run(
    path: Path,
    settings: dict[str, Any],
    seed: int,
    *,
    resume: bool,
    allow_changes: bool = False,
    beside: tuple[str, ...] = (),
) -> RunFolder:
    """Make the folder of a run, or open it to go on; the first of several processes does.

    Arguments:
        path: The folder.
        settings: The run's recipe.
        seed: Its seed.
        resume: Go on with the run that is there.
        allow_changes: Even if its recipe was another.
        beside: Keys of the recipe that this run does not depend on.

    Raises:
        ValueError: If the folder holds something already and `resume` is not asked for, is a
            file, or holds a run of another recipe, whose differences are named key by key.
    """
    folder = RunFolder(path)
    if not writes():
        return folder
    if path.is_file():
        raise ValueError(f"'{path}' is a file; a run needs a folder of its own")
    if path.exists() and not resume:
        # A run that failed before its first figure has left nothing worth keeping.
        foreign = [
            entry
            for entry in path.iterdir()
            if entry.name not in _MADE_AT_ONCE
            and not (entry == folder.metrics and not entry.read_bytes().strip())
        ]
        if foreign or folder.has_begun:
            raise ValueError(
                f"'{path}' holds a run already; resume it (--resume) or choose another folder"
            )
    recipe = path / "recipe.yaml"
    if folder.has_begun and not allow_changes:
        _require_same(recipe, settings, beside)
    for part in (folder.checkpoints.folder, folder.sounds):
        part.mkdir(parents=True, exist_ok=True)
    record = path / "run.json"
    runs = _records(record)
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    if folder.has_begun and recipe.exists() and recipe.read_text() != text:
        # what the run began with stays beside what it goes on with
        recipe.replace(path / f"recipe_before_{len(runs)}.yaml")
    write_whole(recipe, text)
    runs.append({**provenance(), "seed": seed})
    write_whole(record, json.dumps(runs, indent=2) + "\n")
    return folder


def _require_same(recipe: Path, settings: dict[str, Any], beside: tuple[str, ...]) -> None:
    """Refuse to go on with a run whose recipe was another."""
    try:
        began = yaml.safe_load(recipe.read_text(encoding="utf-8")) if recipe.exists() else None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(
            f"'{recipe}' is not readable as YAML any more; --allow-changes goes on without it"
        ) from error
    changes = differences(began, settings, beside) if isinstance(began, dict) else []
    if changes:
        raise ValueError(
            f"the run in '{recipe.parent}' began with another recipe: {'; '.join(changes)}; "
            "go on with the old one, allow the new one (--allow-changes), or choose another folder"
        )


def _records(path: Path) -> list[dict[str, Any]]:
    """The sessions of a run so far."""
    try:
        runs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
            raise ValueError("not a list of runs")
    except ValueError as error:
        raise ValueError(f"'{path}' is damaged ({error}); remove it to go on") from error
    return runs


def provenance() -> dict[str, Any]:
    """Which program, on which machine, called how and when."""
    return {
        "version": wavestill_version(),
        "commit": wavestill_commit(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": describe_machine(),
    }

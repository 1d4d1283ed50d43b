"""The folder of a run: everything needed to know what was run, and to go on with it."""

import json
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from wavestill.machine import describe_machine, wavestill_commit, wavestill_version

_MADE_AT_ONCE = {"recipe.yaml", "run.json", "tensorboard", "checkpoints", "sounds"}


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run's folder.

    Arguments:
        path: The folder; it holds recipe.yaml, run.json, metrics.csv, tensorboard/, checkpoints/
            and sounds/.
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
    def checkpoints(self) -> Path:
        """The newest state of the run."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint, if there is one."""
        path = self.checkpoints / "last.ckpt"
        return path if path.exists() else None

    @property
    def sounds(self) -> Path:
        """Sounds drawn while training."""
        return self.path / "sounds"


def open_run(path: Path, settings: dict[str, Any], seed: int, *, resume: bool) -> RunFolder:
    """Make the folder of a run, or open it to go on.

    Raises:
        ValueError: If the folder holds something already and `resume` is not asked for, is a
            file, or holds a run on other data.
    """
    if path.is_file():
        raise ValueError(f"'{path}' is a file; a run needs a folder of its own")
    folder = RunFolder(path)
    if path.exists() and not resume:
        # A run that failed before its first figure has left nothing worth keeping.
        foreign = [
            entry
            for entry in path.iterdir()
            if entry.name not in _MADE_AT_ONCE
            and not (entry == folder.metrics and not entry.read_bytes().strip())
        ]
        if foreign or folder.last_checkpoint is not None:
            raise ValueError(
                f"'{path}' holds a run already; resume it (--resume) or choose another folder"
            )
    if folder.last_checkpoint is not None:
        _require_same_data(path, settings)
    for part in (folder.checkpoints, folder.sounds):
        part.mkdir(parents=True, exist_ok=True)
    record = path / "run.json"
    try:
        runs = json.loads(record.read_text(encoding="utf-8")) if record.exists() else []
        if not isinstance(runs, list):
            raise ValueError("not a list of runs")
    except ValueError as error:
        raise ValueError(f"'{record}' is damaged ({error}); remove it to go on") from error
    recipe, text = (
        path / "recipe.yaml",
        yaml.safe_dump(settings, sort_keys=False, allow_unicode=True),
    )
    if folder.last_checkpoint is not None and recipe.exists() and recipe.read_text() != text:
        # what the run began with stays beside what it goes on with
        recipe.replace(path / f"recipe_before_{len(runs)}.yaml")
    recipe.write_text(text)
    runs.append({**provenance(), "seed": seed})
    record.write_text(json.dumps(runs, indent=2) + "\n")
    return folder


def _require_same_data(path: Path, settings: dict[str, Any]) -> None:
    """Refuse to go on with a run on other data than it began with."""
    recipe = path / "recipe.yaml"
    began = yaml.safe_load(recipe.read_text(encoding="utf-8")) if recipe.exists() else {}
    for key in ("data", "corpus"):
        before, now = (values.get(key) for values in (began, settings))
        if before and now and Path(before).resolve() != Path(now).resolve():
            raise ValueError(
                f"the run in '{path}' began with the {key} '{before}', not '{now}'; "
                "resume it with that, or choose another folder"
            )


def provenance() -> dict[str, Any]:
    """Which program, on which machine, called how and when."""
    return {
        "version": wavestill_version(),
        "commit": wavestill_commit(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": describe_machine(),
    }

"""What was changed in a recipe since its run began."""

import dataclasses
from pathlib import Path
from typing import Any

from wavestill.training.config import TrainingConfig

_PATHS = ("data", "corpus", "teacher_path")

_DEFAULTS = {
    field.name: field.default
    for field in dataclasses.fields(TrainingConfig)
    if field.default is not dataclasses.MISSING
}


def differences(
    before: dict[str, Any], now: dict[str, Any], beside: tuple[str, ...] = ()
) -> list[str]:
    """Each key that differs, with both values: `fit.learning_rate 0.002 -> 0.001`.

    A key that the recipe of an earlier version lacks is no difference where it now says what was
    meant before: nothing, or the default of `TrainingConfig`. Paths are compared by where they
    lead.

    Arguments:
        before: The recipe that the run began with, as plain values.
        now: The recipe that it would go on with.
        beside: Keys, at the top, that do not matter.

    Example:
        >>> differences({"seed": 1, "fit": {"betas": [0.9, 0.99]}}, {"seed": 2, "fit": {}})
        ['seed 1 -> 2', 'fit.betas [0.9, 0.99] -> absent']
    """
    flat_before, flat_now = _flat(before), _flat(now)
    found = []
    for key in [*flat_before, *(key for key in flat_now if key not in flat_before)]:
        if key.split(".")[0] in ("out", *beside):  # a folder may have been moved
            continue
        old, new = flat_before.get(key, _Absent()), flat_now.get(key, _Absent())
        if not _same(key, old, new):
            found.append(f"{key} {old!r} -> {new!r}")
    return found


class _Absent:
    def __repr__(self) -> str:
        return "absent"


def _same(key: str, old: object, new: object) -> bool:
    if isinstance(old, _Absent):
        return not new or new == _DEFAULTS.get(key.split(".")[-1])
    if key in _PATHS and isinstance(old, str) and isinstance(new, str):
        return Path(old).resolve() == Path(new).resolve()
    return old == new


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by their full names; lists are values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat

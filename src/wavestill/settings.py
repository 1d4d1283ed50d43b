"""Settings from plain values (YAML, JSON): every key and type checked, complaints by full name.

jsonargparse does this for the command line; for files its complaints run over several lines and do
not always name the key, so a recipe's user would not know what to change.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], values: Any, key: str = "") -> Settings:  # noqa: ANN401  (unchecked input)
    """An instance of the dataclass `kind`, nested ones included.

    Arguments:
        kind: A dataclass whose fields are scalars, literals, tuples, dictionaries or dataclasses.
        values: A mapping of plain values.
        key: Where the mapping stands in a larger one, for messages.

    Raises:
        ValueError: In one line, with the key's full name, if a key is unknown or missing, or a
            value has the wrong type or is out of range.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"'{key or kind.__name__}' is {values!r} but must hold keys")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, 1)
            remedy = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(fields)}"
            raise ValueError(f"unknown key '{_join(key, name)}'; {remedy}")
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in values:
            raise ValueError(f"the key '{_join(key, name)}' is missing")
    read = {name: _read(hints[name], value, _join(key, name)) for name, value in values.items()}
    try:
        return kind(**read)
    except ValueError as error:
        raise ValueError(f"{key}: {error}" if key else str(error)) from error


def require_seed(seed: int) -> None:
    """Check a seed, in the range that every generator in use takes.

    Raises:
        ValueError: If it is out of range.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"'seed' is {seed}; it must lie between 0 and {2**32 - 1}")


def plain_settings(value: Any) -> Any:  # noqa: ANN401  (any tree of settings)
    """The plain values that `read_settings` reads back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain_settings(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {key: plain_settings(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_settings(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _read(kind: Any, value: Any, key: str) -> Any:  # noqa: ANN401
    """One value of the type `kind`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        (only,) = (option for option in inner if option is not type(None))
        return _read(only, value, key)
    if dataclasses.is_dataclass(kind):
        return read_settings(kind, value, key)  # type: ignore[arg-type]
    if origin is Literal:
        if value not in inner:
            raise ValueError(f"'{key}' is {value!r}; choose among {', '.join(map(repr, inner))}")
        return value
    if origin is tuple and isinstance(value, list | tuple):
        items = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        if len(items) != len(value):
            raise ValueError(f"'{key}' has {len(value)} values but takes {len(items)}")
        return tuple(
            _read(item, v, f"{key}[{i}]")
            for i, (item, v) in enumerate(zip(items, value, strict=True))
        )
    if origin is dict and isinstance(value, Mapping):
        return {str(name): _read(inner[1], item, _join(key, name)) for name, item in value.items()}
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind is float and not isinstance(value, bool):
        try:  # YAML 1.1 takes 1e-3, without a point, for a string
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            pass
        else:
            if not math.isfinite(number):
                raise ValueError(f"'{key}' is {number} but must be a finite number")
            return number
    elif origin is None and kind is not Path and type(value) is kind:
        return value
    raise ValueError(f"'{key}' is {value!r} but must be {_name(kind)}")


def _name(kind: Any) -> str:  # noqa: ANN401
    names = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        Path: "a path",
    }
    if kind in names:
        return names[kind]
    return {tuple: "a list", dict: "a mapping"}.get(get_origin(kind), str(kind))


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)

"""The weights of a voice's models: read whole and of the right shapes, or refused."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import nn

_DTYPES = ("F32", "F16", "BF16", "F64")


def sha256_of(path: Path) -> str:
    """The SHA-256 sum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def stored_shapes(path: Path) -> dict[str, torch.Size]:
    """The shapes of the tensors in a safetensors file; its header alone is read.

    Raises:
        ValueError: If the file is missing or not whole, or holds other than floating point.
    """
    if not path.is_file():
        raise ValueError(f"'{path.parent}' is incomplete: {path.name} is missing; get it again")
    shapes = {}
    try:
        with safetensors.safe_open(path, "pt") as file:
            for key in sorted(file.keys()):
                stored = file.get_slice(key)
                if stored.get_dtype() not in _DTYPES:
                    raise ValueError(
                        f"'{path}': {key} is of type {stored.get_dtype()}, not one of "
                        f"{', '.join(_DTYPES)}; get it again"
                    )
                shapes[key] = torch.Size(stored.get_shape())
    except (OSError, safetensors.SafetensorError) as error:
        raise _unreadable(path, error) from error
    return shapes


def require_shapes(
    models: Mapping[str, nn.Module | None], shapes: Mapping[str, torch.Size], path: Path
) -> None:
    """Check that a file holds a voice's models: all of their tensors and no others.

    Arguments:
        models: By name; None for those that the voice lacks. They may be on the meta device.
        shapes: What the file holds.
        path: The file.

    Raises:
        ValueError: At the first tensor that is missing, of another shape or too many.
    """
    wanted = {
        f"{name}.{key}": value.shape
        for name, model in models.items()
        if model is not None
        for key, value in model.state_dict().items()
    }
    refused = f"'{path}' does not fit config.json"
    for key, shape in wanted.items():
        if key not in shapes:
            raise ValueError(f"{refused}: {key} is missing; get both again")
        if shapes[key] != shape:
            raise ValueError(
                f"{refused}: {key} has shape {tuple(shapes[key])}, not {tuple(shape)}; get both "
                "again"
            )
    for key in shapes:
        if key not in wanted:
            raise ValueError(f"{refused}: {key} is not of this voice; get both again")


def load_weights(models: Mapping[str, nn.Module | None], path: Path, sha256: str | None) -> None:
    """Give models their weights, kept as `<name>.<key>` in a safetensors file of their shapes.

    Arguments:
        models: By name; None for those that the voice lacks.
        path: The file.
        sha256: Its sum; None where it is not known.

    Raises:
        ValueError: If the file is not whole, or holds values that are not finite.
    """
    try:
        weights = load_file(path)
        is_whole = sha256 is None or sha256_of(path) == sha256
    except (OSError, safetensors.SafetensorError) as error:
        raise _unreadable(path, error) from error
    if not is_whole:
        raise ValueError(
            f"'{path}' is corrupted: its SHA-256 is not the one in config.json; get both again"
        )
    for key, value in weights.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"'{path}': {key} holds values that are not finite; get it again")
    for name, model in models.items():
        if model is not None:
            start = f"{name}."
            own = {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}
            model.load_state_dict(own)


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())[:300]
    return ValueError(f"'{path}' is corrupted and cannot be read ({reason}); get it again")

"""The weights of a voice's models: read whole and of the right shapes, or refused."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn


def sha256_of(path: Path) -> str:
    """The SHA-256 sum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def load_weights(models: Mapping[str, nn.Module | None], path: Path, sha256: str | None) -> None:
    """Give models their weights, kept as `<name>.<key>` in a safetensors file.

    Arguments:
        models: By name; None for those that the voice lacks.
        path: The file.
        sha256: Its sum; None where it is not known.

    Raises:
        ValueError: If the file is missing, not whole, does not fit the models, or holds values
            that are not finite.
    """
    if not path.is_file():
        raise ValueError(f"'{path.parent}' is incomplete: {path.name} is missing; get it again")
    try:
        weights = load_file(path)
        is_whole = sha256 is None or sha256_of(path) == sha256
    except (OSError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"'{path}' is corrupted and cannot be read ({reason}); get it again"
        ) from error
    if not is_whole:
        raise ValueError(
            f"'{path}' is corrupted: its SHA-256 is not the one in config.json; get both again"
        )
    for name, model in models.items():
        if model is not None:
            own = {
                key.removeprefix(f"{name}."): value
                for key, value in weights.items()
                if key.startswith(f"{name}.")
            }
            misfit = _misfit(model.state_dict(), own)
            if misfit:
                raise ValueError(f"'{path}' does not fit config.json: {name}.{misfit}")
            model.load_state_dict(own)


def _misfit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    """The first tensor that is not as the model wants it, and why."""
    for key, value in wanted.items():
        if key not in given:
            return f"{key} is missing"
        if given[key].shape != value.shape:
            return f"{key} has shape {tuple(given[key].shape)}, not {tuple(value.shape)}"
    for key, value in given.items():
        if key not in wanted:
            return f"{key} is not of this model"
        if not bool(torch.isfinite(value).all()):
            return f"{key} holds values that are not finite"
    return None

"""A density of vectors as a folder."""

from pathlib import Path
from typing import Any

from torch import nn

from wavestill.settings import plain_settings, read_settings
from wavestill.training.density_recipe import MODELS
from wavestill.training.model_folder import load_model, save_model


def save_density(model: nn.Module, path: Path, measured: dict[str, Any]) -> None:
    """Write a model; what stands in its place is replaced.

    Arguments:
        model: One of the recipes' models.
        path: The folder.
        measured: Figures to keep with it.
    """
    name = next(name for name, (_, kind) in MODELS.items() if isinstance(model, kind))
    config = {"model": name, name: plain_settings(model.config), "measured": measured}
    save_model(model, path, "density", config)


def load_density(path: Path | str) -> nn.Module:
    """The model of a folder that `wavestill fit` wrote, in eval mode.

    Raises:
        ValueError: In one line, if the folder holds none, or it is damaged.
    """
    return load_model(Path(path), "density", _built)


def _built(config: dict[str, Any]) -> nn.Module:
    name = config["model"]
    shape, kind = MODELS[name]
    model: nn.Module = kind(read_settings(shape, config[name], name))
    return model

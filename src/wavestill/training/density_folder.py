"""A density of vectors as a folder: config.json and model.safetensors; loading never unpickles."""

import json
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save_file
from torch import nn

from wavestill.settings import plain_settings, read_settings
from wavestill.training.density_recipe import MODELS

FORMAT = "wavestill density"
FORMAT_VERSION = 1


def save_density(model: nn.Module, path: Path, measured: dict[str, Any]) -> None:
    """Write a model; what stands in its place is replaced.

    Arguments:
        model: One of the recipes' models.
        path: The folder.
        measured: Figures to keep with it.
    """
    path.mkdir(parents=True, exist_ok=True)
    name = next(name for name, (_, kind) in MODELS.items() if isinstance(model, kind))
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": name,
        name: plain_settings(model.config),
        "measured": measured,
    }
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_density(path: Path | str) -> nn.Module:
    """The model of a folder that `wavestill fit` wrote, in eval mode.

    Raises:
        ValueError: In one line, if the folder holds none, or it is damaged.
    """
    path = Path(path)
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        if config.get("format") != FORMAT or config.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"its format is not '{FORMAT}' {FORMAT_VERSION}")
        name = config["model"]
        shape, kind = MODELS[name]
        model: nn.Module = kind(read_settings(shape, config[name], name))
        model.load_state_dict(load_file(path / "model.safetensors"))
    except FileNotFoundError as error:
        raise ValueError(
            f"'{path}' is no density: it has no {Path(error.filename).name}"
        ) from error
    except (
        *(ValueError, KeyError, AttributeError, TypeError),
        *(RuntimeError, OSError, safetensors.SafetensorError),
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"'{path}' is no whole density ({reason}); train it anew") from error
    return model.eval()

"""A model that is no voice as a folder: config.json and model.safetensors; never unpickled."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import safetensors
from safetensors.torch import load_file, save_file
from torch import nn

Model = TypeVar("Model", bound=nn.Module)

FORMAT_VERSION = 1


def save_model(model: nn.Module, path: Path, kind: str, config: dict[str, Any]) -> None:
    """Write a model; what stands in its place is replaced.

    Arguments:
        model: Whose weights are kept.
        path: The folder.
        kind: What it is, in words: `density`.
        config: All that it takes to build it again, and what is to be known of it.
    """
    path.mkdir(parents=True, exist_ok=True)
    config = {"format": f"wavestill {kind}", "format_version": FORMAT_VERSION, **config}
    state = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
    save_file(state, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_model(
    path: Path, kind: str, build: Callable[[dict[str, Any]], Model], *, remedy: str = ""
) -> Model:
    """The model of such a folder, in eval mode.

    Arguments:
        path: The folder.
        kind: As for `save_model`.
        build: Makes the model that its config describes.
        remedy: What to say where the folder holds none.

    Raises:
        ValueError: In one line, if the folder holds none, or it is damaged.
    """
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        format_name = f"wavestill {kind}"
        if config.get("format") != format_name or config.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"its format is not '{format_name}' {FORMAT_VERSION}")
        model = build(config)
        model.load_state_dict(load_file(path / "model.safetensors"))
    except FileNotFoundError as error:
        raise ValueError(
            f"'{path}' is no {kind}: it has no {Path(error.filename).name}{remedy}"
        ) from error
    except (
        *(ValueError, KeyError, AttributeError, TypeError),
        *(RuntimeError, OSError, safetensors.SafetensorError),
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"'{path}' is no whole {kind} ({reason}); train it anew") from error
    return model.eval()

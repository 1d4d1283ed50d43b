"""The voices that come with wavestill, known by name."""

import importlib.resources
from pathlib import Path


def packaged_voices() -> dict[str, Path]:
    """Folder of each, by name.

    Example:
        >>> "kathleen" in packaged_voices()
        True
    """
    folder = Path(str(importlib.resources.files("wavestill") / "data" / "voices"))
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/config.json"))}

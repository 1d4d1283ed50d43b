"""The versions of a voice's config.json, and how an older one becomes the present one.

A new version adds an entry to `MIGRATIONS` and a folder of the version before to tests/publish.
"""

from collections.abc import Callable, Mapping
from typing import Any

Config = dict[str, Any]


def _from_1(config: Config) -> Config:
    """Version 2 tells the licence, and the sum that shows whether the weights are whole."""
    return {**config, "license": None, "weights_sha256": None}


MIGRATIONS: Mapping[int, Callable[[Config], Config]] = {1: _from_1}
"""By version: what makes the next version's config of it."""

FORMAT_VERSION = max(MIGRATIONS) + 1


def migrated(config: Config) -> Config:
    """A config of any version up to the present one, as one of the present version.

    Raises:
        ValueError: If it is of a newer version, or of none.

    Example:
        >>> migrated({"format_version": 1})["format_version"] == FORMAT_VERSION
        True
    """
    version = config.get("format_version")
    if type(version) is not int or version < 1:
        raise ValueError(f"its format version is {version!r}; it is damaged; get it again")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"it has format version {version} but this program reads up to {FORMAT_VERSION}; "
            "update wavestill"
        )
    for number in range(version, FORMAT_VERSION):
        config = {**MIGRATIONS[number](config), "format_version": number + 1}
    return config

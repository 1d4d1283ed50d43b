"""What a bug report needs to know of a machine and an installation."""

import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from wavestill.machine import describe_machine, wavestill_commit, wavestill_version
from wavestill.models.packed_flow import kernel_set
from wavestill.nn import native

_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "asimd", "bf16")


def diagnose() -> dict[str, Any]:
    """Versions, processor, kernel, accelerator and extras; and `problems`, in one line each.

    Example:
        >>> sorted(diagnose())[:3]
        ['extras', 'kernel', 'machine']
    """
    required = _required()
    versions = {name: _version(name) for name in required[""]}
    extras = {
        extra: "installed" if not missing else f"lacks {' '.join(missing)}"
        for extra, names in required.items()
        if extra
        for missing in ([name for name in names if _version(name) is None],)
    }
    problems = [f"{name} is not installed" for name, own in versions.items() if own is None]
    sets = list(native.instruction_sets())
    if not sets:
        problems.append(
            "the native kernel is not built: sampling is slower; install a wheel, or a C++17 "
            "compiler and wavestill again"
        )
    has_mkldnn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return {
        "wavestill": f"{wavestill_version()} (commit {wavestill_commit()})",
        "where": str(Path(__file__).parent),
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "machine": describe_machine(),
        "processor_features": _features(),
        "kernel": {"runs_here": sets, "used": kernel_set()},
        "torch": {
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "mkldnn": has_mkldnn,
            "cuda": torch.version.cuda if torch.cuda.is_available() else None,
            "mps": torch.backends.mps.is_available(),
        },
        "versions": versions,
        "extras": extras,
        "problems": problems,
    }


def _required() -> dict[str, list[str]]:
    """What this package requires, by extra; its own requirements under the empty name."""
    required: dict[str, list[str]] = {"": []}
    for requirement in metadata.requires("wavestill") or []:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == [\"'](.+?)[\"']", requirement)
        own = required.setdefault(extra[1] if extra else "", [])
        if name and name[0] != "wavestill":
            own.append(name[0])
    return required


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _features() -> list[str]:
    """Instruction sets of the processor that matter here, as far as Linux tells."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return []
    text = path.read_text(errors="replace")
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    own = set(line[1].split()) if line else set()
    return [flag for flag in _FLAGS if flag in own]

"""Where and with what a figure was made."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


def describe_machine() -> dict[str, str | int | float]:
    """Processor, cores, memory, accelerator and versions: what a speed depends on."""
    machine: dict[str, str | int | float] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        "torch_threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        gibibytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        machine["memory_gib"] = round(gibibytes, 1)
    if torch.cuda.is_available():
        machine["accelerator"] = torch.cuda.get_device_name()
    return machine


def wavestill_version() -> str:
    """Version of the installed package."""
    try:
        return version("wavestill")
    except PackageNotFoundError:
        return "not installed"


def wavestill_commit() -> str:
    """Commit of the checkout this package runs from, `+changes` if changed; else "unknown"."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        # an installed copy may lie inside somebody else's repository: only our own checkout counts
        if git("ls-files", Path(__file__).name) == "":
            return "unknown"
        return git("rev-parse", "--short=12", "HEAD") + (
            "+changes" if git("status", "--porcelain", "-uno") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()

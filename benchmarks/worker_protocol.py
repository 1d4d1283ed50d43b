"""How a worker answers: one line about itself once it is warm, then seconds for every `run`."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch


def serve(run: Callable[[], object], *, packages: list[str], about: dict[str, Any]) -> None:
    """Warm up, say so, and time `run` for every line `run` on standard input.

    Arguments:
        run: Makes the sound once.
        packages: Whose versions are told.
        about: What else is told of the worker.
    """
    # Libraries may print: ours goes to the real standard output, theirs to the standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for _ in range(2):
        _seconds(run)
    versions = {name: version(name) for name in ["torch", *packages]}
    ready = {**about, "versions": {"python": platform.python_version(), **versions}}
    answers.write(json.dumps(ready) + "\n")
    for line in sys.stdin:
        if line.strip() == "run":
            answers.write(f"{_seconds(run)!r}\n")


@torch.no_grad()
def _seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin

"""What commands share: lines for people, figures for programs, a bar while they wait."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class Outcome(NamedTuple):
    """How a command ended.

    Arguments:
        figures: What it has to say, for `--json`.
        failed: Whether some of what was asked for could not be done (exit status 1).
    """

    figures: dict[str, Any]
    failed: bool = False


def say(line: str = "") -> None:
    """A line for people, on standard output."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def complain(line: str) -> None:
    """A line about what went wrong, on standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def make_folder(out: Path) -> None:
    """Make the folder of results before the work whose results it will hold.

    Raises:
        ValueError: If it cannot be made or written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        writable = os.access(out, os.W_OK)
        reason = "it is write-protected"
    except OSError as error:
        writable, reason = False, str(error.strerror or error)
    if not writable:
        raise ValueError(f"'{out}' cannot hold the results ({reason}); choose another --out")


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str, float], None]]:
    """A bar on standard error while something takes its time; nothing where that is no terminal.

    Yields:
        What to call with the name of the stage and the share of it that is done, 0 to 1.
    """
    if not sys.stderr.isatty():
        yield lambda stage, share: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda stage, share: bar.update(task, description=stage or what, completed=share)

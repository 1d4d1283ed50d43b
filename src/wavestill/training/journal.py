"""What happens to a run beside its figures: said once, and kept in run.json."""

import logging

from wavestill.training.folder import RunFolder

_LOGGER = logging.getLogger("wavestill.training")


class Journal:
    """Lines for the user, each once: on the log (standard error) and in run.json.

    Arguments:
        run: The run's folder; None: on the log only, or where another process writes, nowhere.
        speaks: Whether this process is the one that speaks.
    """

    def __init__(self, run: RunFolder | None, *, speaks: bool) -> None:
        self.run = run
        self.speaks = speaks
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        """Say a line, if it has not been said."""
        if line in self.lines or not self.speaks:
            return
        self.lines.append(line)
        _LOGGER.warning("wavestill: %s", line)
        if self.run is not None:
            self.run.add_note(line)

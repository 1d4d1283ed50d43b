"""Batches as a run takes them: made ahead, shared among processes, the waiting measured."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from queue import Empty, Full, Queue

from wavestill.training.data import Batch, InParts, Source
from wavestill.training.hardware import num_processes, process_number

AHEAD = 2
"""Batches that lie ready."""

_LOOK_EVERY_S = 0.5
"""How often one who waits looks whether the other is still there."""


class Steps:
    """An endless stream of a source's batches from one step on, for this process its part of each.

    Where batches are read from files a thread makes them ahead. Which batch is which step's
    depends on the step alone, so it does not matter who makes it: should the thread end, the run
    makes them itself from there on, and says so.

    Arguments:
        source: Where the batches come from.
        first_step: Number of the first batch.
        note: What to call with a line for the user.

    Attributes:
        waited_s: Seconds that the run has waited for batches so far.
    """

    def __init__(self, source: Source, first_step: int, note: Callable[[str], None]) -> None:
        self.source = source
        self.first_step = first_step
        self.note = note
        self.waited_s = 0.0

    def __iter__(self) -> Iterator[Batch]:
        """Batches without end."""
        batches = self._ahead() if self.source.reads_files else self._made_here(self.first_step)
        try:
            while True:
                started_s = time.monotonic()
                batch = next(batches)
                self.waited_s += time.monotonic() - started_s
                yield batch
        finally:
            batches.close()

    def batch(self, step: int) -> Batch:
        """This process's part of one step's batch."""
        if num_processes() == 1:
            return self.source.batch(step)
        if isinstance(self.source, InParts):
            return self.source.part(step, process_number(), num_processes())
        return self.source.batch(step).part(process_number(), num_processes())

    def _made_here(self, step: int) -> Generator[Batch, None, None]:
        while True:
            yield self.batch(step)
            step += 1

    def _ahead(self) -> Generator[Batch, None, None]:
        ready: Queue[Batch | Exception] = Queue(AHEAD)
        over = threading.Event()
        maker = threading.Thread(target=self._make, args=(ready, over), daemon=True)
        maker.start()
        step = self.first_step
        try:
            while maker.is_alive() or not ready.empty():
                try:
                    item = ready.get(timeout=_LOOK_EVERY_S)
                except Empty:
                    continue
                if isinstance(item, Exception):
                    raise item
                yield item
                step += 1
        finally:
            over.set()
        self.note(f"the thread that reads batches has ended at step {step}; the run reads them")
        yield from self._made_here(step)

    def _make(self, ready: "Queue[Batch | Exception]", over: threading.Event) -> None:
        """The thread: batches in order, until the run is over or one cannot be made."""
        step = self.first_step
        while not over.is_set():
            try:
                item: Batch | Exception = self.batch(step)
            except Exception as error:  # told to the run, which raises it
                item = error
            while not over.is_set():
                try:
                    ready.put(item, timeout=_LOOK_EVERY_S)
                    break
                except Full:
                    continue
            if isinstance(item, Exception):
                return
            step += 1

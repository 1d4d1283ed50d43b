"""Recordings treated by several processes, their results in the order of the recordings."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import torch

from wavestill.audio.files import SoundError
from wavestill.audio.recordings import Recording
from wavestill.audio.treatment import Treated
from wavestill.nn.threads import torch_threads

Treat = Callable[[Recording], Treated]

_AHEAD = 4
"""Results per worker that may wait for an earlier recording: bounds memory."""

_WORTH_A_PROCESS = 50
"""Recordings that take about as long as it takes to load PyTorch and librosa."""


class Outcome(NamedTuple):
    """What became of a recording.

    Arguments:
        treated: The clip; None if it is skipped.
        reason: Why it is skipped.
        killed: Whether a process that treated it was killed.
    """

    treated: Treated | None
    reason: str = ""
    killed: bool = False


def suitable_workers(num_recordings: int) -> int:
    """As many as this process has cores, or fewer where their start would take longer."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, min(cores, num_recordings // _WORTH_A_PROCESS))


def treat_in_order(
    treat: Treat, recordings: Sequence[Recording], num_workers: int
) -> Iterator[Outcome]:
    """Treat recordings, `num_workers` at a time; outcomes come in the order of the recordings.

    One worker is this very process. Several are processes of their own, each with one recording at
    a time, so that when one is killed (by the system, where memory runs out) it is known over
    what: that recording is tried once more, with nothing else running, and skipped if that fails.

    Arguments:
        treat: What to do with each; must be picklable for several workers.
        recordings: Them.
        num_workers: At least 1.

    Raises:
        ValueError: If processes cannot be started here.
    """
    if num_workers == 1 or len(recordings) < 2:
        yield from _treat_here(treat, recordings)
        return
    pool = _Pool(treat, min(num_workers, len(recordings)))
    try:
        yield from pool.run(recordings)
    finally:
        pool.close()


def _treat_here(treat: Treat, recordings: Sequence[Recording]) -> Iterator[Outcome]:
    for recording in recordings:
        with torch_threads(1):  # as workers have: sums round alike, so bytes are the same
            outcome = _outcome(treat, recording)
        yield outcome


def _outcome(treat: Treat, recording: Recording) -> Outcome:
    try:
        return Outcome(treat(recording))
    except SoundError as error:
        return Outcome(None, error.reason)
    except MemoryError:
        return Outcome(None, "longer than fits into memory")


class _Pool:
    """Executors of one process each: when one breaks, its one recording is to blame."""

    def __init__(self, treat: Treat, num_workers: int) -> None:
        methods = multiprocessing.get_all_start_methods()
        self._context = multiprocessing.get_context(
            "forkserver" if "forkserver" in methods else "spawn"
        )
        if "forkserver" in methods:  # libraries are loaded once, not once per worker
            self._context.set_forkserver_preload(["wavestill.audio.treatment", "librosa.filters"])
        self._treat = treat
        self._lanes = [self._lane() for _ in range(num_workers)]
        self._require_start(self._lanes[0])

    def _lane(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, self._context, initializer=_begin, initargs=(self._treat,))

    def _require_start(self, lane: ProcessPoolExecutor) -> None:
        try:
            lane.submit(os.getpid).result()
        except BrokenProcessPool:
            self.close()
            raise ValueError(
                "worker processes cannot be started; use one worker, or if a script of your own "
                "calls this, keep its work under 'if __name__ == \"__main__\":'"
            ) from None

    def run(self, recordings: Sequence[Recording]) -> Iterator[Outcome]:
        """The outcomes, in order."""
        running: dict[Future[Outcome], tuple[int, int]] = {}  # recording, lane
        finished: dict[int, Outcome] = {}
        suspects: list[int] = []
        num_begun = 0
        for awaited in range(len(recordings)):
            end = min(len(recordings), awaited + _AHEAD * len(self._lanes))
            while awaited not in finished:
                if suspects and not running:
                    number = suspects.pop()
                    finished[number] = self._alone(recordings[number])
                    continue
                busy = {lane for _, lane in running.values()}
                for lane in range(len(self._lanes)):
                    if lane not in busy and num_begun < end and not suspects:
                        future = self._submit(lane, recordings[num_begun])
                        running[future] = num_begun, lane
                        num_begun += 1
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    number, lane = running.pop(future)
                    try:
                        finished[number] = future.result()
                    except BrokenProcessPool:
                        self._replace(lane)
                        suspects.append(number)
            yield finished.pop(awaited)

    def _submit(self, lane: int, recording: Recording) -> Future[Outcome]:
        try:
            return self._lanes[lane].submit(_work, recording)
        except BrokenProcessPool:  # killed while it had nothing to do
            self._replace(lane)
            return self._lanes[lane].submit(_work, recording)

    def _replace(self, lane: int) -> None:
        self._lanes[lane].shutdown(wait=True)
        self._lanes[lane] = self._lane()

    def _alone(self, recording: Recording) -> Outcome:
        self._replace(0)
        self._require_start(self._lanes[0])
        try:
            outcome = self._lanes[0].submit(_work, recording).result()
        except BrokenProcessPool:
            self._replace(0)
            reason = "the process that treated it was killed, twice (does memory run out over it?)"
            return Outcome(None, reason, killed=True)
        return outcome._replace(killed=True)

    def close(self) -> None:
        """End the processes; each finishes the recording it is at."""
        for lane in self._lanes:
            lane.shutdown(wait=False, cancel_futures=True)


_treat: Treat | None = None
"""In a worker: what it was started to do."""


def _begin(treat: Treat) -> None:
    global _treat
    _treat = treat
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who ends us
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot tell its workers to end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(recording: Recording) -> Outcome:
    assert _treat is not None, "a worker begins with _begin"
    return _outcome(_treat, recording)

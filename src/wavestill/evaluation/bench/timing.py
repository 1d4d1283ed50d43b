"""Timing in rounds: whoever else uses the machine disturbs all that is compared alike."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch

Clock = Callable[[], float]
Tell = Callable[[str], None]


class Spread(NamedTuple):
    """A repeated figure."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Median and extremes; `values` are at least one."""
        return cls(statistics.median(values), min(values), max(values))


class Run(NamedTuple):
    """One timed call: how long it took, in seconds, and what it returned."""

    seconds: float
    result: object


@torch.no_grad()
def timed(job: Callable[[], object], clock: Clock = time.perf_counter) -> Run:
    """Call `job` and say how long it took."""
    begin = clock()
    result = job()
    return Run(clock() - begin, result)


def in_rounds(
    jobs: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    clock: Clock = time.perf_counter,
    tell: Tell | None = None,
) -> dict[str, list[Run]]:
    """Time every job once in each round, in turn, after a round that does not count.

    Arguments:
        jobs: What to time, by name.
        repeats: Rounds that count, >= 1.
        clock: Seconds since some moment.
        tell: Told the name of each job before it runs.

    Returns:
        The runs of each job, `repeats` of them.
    """
    runs: dict[str, list[Run]] = {name: [] for name in jobs}
    for _ in range(repeats + 1):
        for name, job in jobs.items():
            if tell is not None:
                tell(name)
            runs[name].append(timed(job, clock))
    return {name: own[1:] for name, own in runs.items()}


def size_for(
    draw: Callable[[int], object],
    seconds: float,
    *,
    most: int,
    clock: Clock = time.perf_counter,
) -> int:
    """How much to ask of `draw` so that it takes about so many seconds.

    Tries doubled sizes until one takes a quarter of them: what a call costs in any case would
    deceive a smaller trial.

    Arguments:
        draw: Called with a size, >= 1.
        seconds: Time wanted.
        most: Largest size, >= 1.
        clock: Seconds since some moment.
    """
    timed(lambda: draw(1), clock)  # a first call may have to pack weights
    size = 1
    while True:
        taken = timed(partial(draw, size), clock).seconds
        if taken >= seconds / 4 or size == most:
            return max(1, min(most, math.ceil(size * seconds / max(taken, 1e-9))))
        size = min(most, 2 * size)

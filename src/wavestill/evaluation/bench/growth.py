r"""How the time of a draw grows with its length.

Naive sampling of `T` samples passes over all that came before, at most over a receptive field `R`,
for each of them:

.. math:: \sum_{t=1}^{T} c(\min(t, R + 1))

with `c(n)` the time of one pass over `n` samples: quadratic in `T` at first, then linear with `R`
as its factor. A cached step costs the same wherever it stands, so `T` of them are linear. The
student's one pass is near flat until it fills the cores, then linear.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from wavestill.evaluation.bench.samplers import Sampler
from wavestill.evaluation.bench.timing import Clock, Tell, timed

_FACTOR = 4
_FIRST = 16
_LAST = 1 << 18  # 11 s at 24 kHz
_REPEATS = 3


@dataclass(frozen=True)
class Growth:
    """Time against length.

    Arguments:
        num_samples: Lengths of a draw.
        seconds: Median time of each.
        summed: Whether these are sums of single passes that were timed, not whole draws.
    """

    num_samples: list[int]
    seconds: list[float]
    summed: bool = False


def growth(
    samplers: Mapping[str, Sampler],
    receptive_field: int,
    budget_s: float,
    *,
    clock: Clock = time.perf_counter,
    tell: Tell | None = None,
) -> dict[str, Growth]:
    """Time draws of growing length, each sampler until one takes longer than it may.

    Arguments:
        samplers: What to measure; those that do not grow are left out.
        receptive_field: Of the teacher, for the naive sampler.
        budget_s: Time of one draw, in seconds, beyond which no longer one is tried.
        clock: Seconds since some moment.
        tell: Told the name of each sampler.
    """
    grown: dict[str, Growth] = {}
    for name, sampler in samplers.items():
        if not sampler.grows:
            continue
        if tell is not None:
            tell(name)
        if sampler.pass_time is None:
            lengths, seconds = _series(sampler.draw, budget_s, clock)
            grown[name] = Growth(lengths, seconds)
        else:
            grown[name] = _summed(sampler.pass_time, receptive_field + 1, clock)
    return grown


def _series(
    draw: Callable[[int], object], budget_s: float, clock: Clock
) -> tuple[list[int], list[float]]:
    lengths, seconds = [], []
    length = _FIRST
    while length <= _LAST:
        timed(partial(draw, length), clock)
        seconds.append(_median(draw, length, clock))
        lengths.append(length)
        if seconds[-1] > budget_s:
            break
        length *= _FACTOR
    return lengths, seconds


def _summed(one_pass: Callable[[int], object], longest: int, clock: Clock) -> Growth:
    """Whole draws from single passes: at a few lengths up to `longest`, linear in between."""
    nodes = np.unique(np.geomspace(1, longest, 12).round().astype(int))
    for node in nodes:
        one_pass(int(node))
    times = [_median(one_pass, int(node), clock) for node in nodes]
    lengths = [_FIRST]
    while lengths[-1] * _FACTOR <= _LAST:
        lengths.append(lengths[-1] * _FACTOR)
    per_step = np.interp(np.arange(1, lengths[-1] + 1), nodes, times)
    return Growth(lengths, [float(per_step[:length].sum()) for length in lengths], summed=True)


def _median(call: Callable[[int], object], size: int, clock: Clock) -> float:
    return statistics.median(timed(partial(call, size), clock).seconds for _ in range(_REPEATS))

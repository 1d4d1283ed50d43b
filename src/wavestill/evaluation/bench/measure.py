"""The measure: how fast every way to draw is, beside what the machine can do at best."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from functools import partial
from typing import Any

import torch

from wavestill.evaluation.bench.cost import num_weights, pass_flops
from wavestill.evaluation.bench.growth import growth
from wavestill.evaluation.bench.machine import Precision, matrix_product, streaming_read
from wavestill.evaluation.bench.samplers import Sampler, Work
from wavestill.evaluation.bench.subject import Subject
from wavestill.evaluation.bench.table import samplers
from wavestill.evaluation.bench.timing import Clock, Run, Spread, in_rounds, size_for
from wavestill.machine import describe_machine, wavestill_commit, wavestill_version
from wavestill.nn.threads import torch_threads

FIRST_SOUND_S = 0.02
"""How much sound must be ready before it can be played, in seconds."""

_LONGEST_S = 20  # of sound in one run: more tells nothing new and costs memory
_PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def bench(
    subject: Subject,
    *,
    groups: Sequence[str] | None = None,
    num_threads: int | None = None,
    repeats: int = 5,
    seconds: float = 1.0,
    clock: Clock = time.perf_counter,
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:
    """Measure samplers in turns, with the machine's own limits among them.

    Arguments:
        subject: The networks.
        groups: Which samplers; None takes all that can be measured.
        num_threads: For torch and for samplers with threads of their own; None keeps torch's.
        repeats: Rounds, of which medians and extremes are reported.
        seconds: About how long one measured run takes.
        clock: Seconds since some moment.
        progress: Told what is measured, and the share of it that is done, 0 to 1.

    Returns:
        Finite figures and strings: `machine`, `subject`, `peaks`, `samplers`, `growth`, `skipped`.

    Raises:
        ValueError: If a number is not positive, or a sampler unknown or not to be had.
    """
    num_threads = torch.get_num_threads() if num_threads is None else num_threads
    if num_threads < 1 or repeats < 1 or not 0 < seconds < math.inf:
        raise ValueError(
            f"threads {num_threads}, repeats {repeats} and seconds {seconds:g} must be positive"
        )
    progress = progress or (lambda stage, share: None)
    with torch_threads(num_threads):
        ready, skipped = samplers(subject, groups, num_threads)
        if not ready:
            raise ValueError("there is nothing to measure: " + "; ".join(skipped.values()))
        figures, peaks = _speeds(ready, subject, repeats, seconds, clock, progress)
        reach = 0 if subject.teacher is None else subject.teacher.receptive_field
        done = iter(range(len(ready)))
        grown = growth(
            ready,
            reach,
            seconds,
            clock=clock,
            tell=lambda name: progress(f"growth: {name}", next(done) / len(ready)),
        )
        machine = describe_machine()
    return {
        "machine": machine,
        "version": wavestill_version(),
        "commit": wavestill_commit(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "settings": {"threads": num_threads, "repeats": repeats, "seconds": seconds},
        "subject": _describe(subject),
        "peaks": peaks,
        "samplers": figures,
        "growth": {name: asdict(own) for name, own in grown.items()},
        "skipped": skipped,
    }


def _speeds(
    ready: dict[str, Sampler],
    subject: Subject,
    repeats: int,
    seconds: float,
    clock: Clock,
    progress: Callable[[str, float], None],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of every sampler, and the machine's peaks, from the same rounds."""
    chunk = math.ceil(FIRST_SOUND_S * subject.sample_rate)
    most = _LONGEST_S * subject.sample_rate
    jobs: dict[str, Callable[[], object]] = {}
    for kind in _PRECISIONS:
        jobs[f"product {kind}"] = matrix_product(kind)
    for done, (name, sampler) in enumerate(ready.items()):
        progress(f"sizing: {name}", done / len(ready))
        size = size_for(sampler.draw, seconds, most=most, clock=clock)
        jobs[f"read {sampler.step_bytes}"] = streaming_read(sampler.step_bytes)
        jobs[f"draw {name}"] = partial(sampler.draw, size)
        jobs[f"first {name}"] = partial(sampler.first, chunk)
    done_runs = iter(range((repeats + 1) * len(jobs)))
    total = (repeats + 1) * len(jobs)
    runs = in_rounds(
        jobs, repeats, clock=clock, tell=lambda name: progress(name, next(done_runs) / total)
    )
    product = {kind: _median(runs[f"product {kind}"]) for kind in _PRECISIONS}
    read = {
        sampler.step_bytes: _median(runs[f"read {sampler.step_bytes}"])
        for sampler in ready.values()
    }
    figures = {
        name: figures_of(
            sampler,
            runs[f"draw {name}"],
            runs[f"first {name}"],
            subject.sample_rate,
            product[sampler.arithmetic],
            read[sampler.step_bytes],
        )
        for name, sampler in ready.items()
    }
    peaks = {
        "matrix_product_gflops": dict(product),
        "streaming_read_gbytes_per_second": {str(size): rate for size, rate in read.items()},
    }
    return figures, peaks


def figures_of(
    sampler: Sampler,
    draws: Sequence[Run],
    firsts: Sequence[Run],
    sample_rate: int,
    peak_gflops: float,
    peak_gbytes: float,
) -> dict[str, Any]:
    """Figures of one sampler from its runs.

    Arguments:
        sampler: Its line in the table.
        draws: Its runs; their results say what they amounted to.
        firsts: Runs that ended with the first sound.
        sample_rate: Samples per second.
        peak_gflops: The machine's matrix product, 1e9 operations per second.
        peak_gbytes: The machine's streaming read, 1e9 bytes per second.
    """
    works = [work_of(run) for run in draws]
    timed = list(zip(draws, works, strict=True))
    rate = Spread.of([work.num_samples / run.seconds for run, work in timed])
    first_ms = Spread.of([1000 * run.seconds for run in firsts])
    gflops = Spread.of([work.flops / run.seconds / 1e9 for run, work in timed]).median
    gbytes = Spread.of([work.weight_bytes / run.seconds / 1e9 for run, work in timed]).median
    return {
        "label": sampler.label,
        "precision": sampler.precision,
        "num_streams": sampler.num_streams,
        "num_samples": works[0].num_samples,
        "samples_per_second": rate.median,
        "samples_per_second_min": rate.low,
        "samples_per_second_max": rate.high,
        "times_real_time": rate.median / sample_rate,
        "first_sound_ms": first_ms.median,
        "first_sound_ms_min": first_ms.low,
        "first_sound_ms_max": first_ms.high,
        "flops_per_sample": works[0].flops / works[0].num_samples,
        "gflops": gflops,
        "share_of_matrix_product": gflops / peak_gflops,
        "step_weight_bytes": sampler.step_bytes,
        "gbytes_per_second": gbytes,
        "share_of_streaming_read": gbytes / peak_gbytes,
        **works[0].more,
    }


def work_of(run: Run) -> Work:
    """What a timed draw amounted to."""
    assert isinstance(run.result, Work)
    return run.result


def _median(runs: Sequence[Run]) -> float:
    """The median of what runs of a peak returned."""
    rates = [run.result for run in runs]
    assert all(isinstance(rate, float) for rate in rates)
    return Spread.of([rate for rate in rates if isinstance(rate, float)]).median


def _describe(subject: Subject) -> dict[str, Any]:
    described: dict[str, Any] = {
        "about": subject.about,
        "trained": subject.trained,
        "sample_rate_hz": subject.sample_rate,
        "hop_samples": subject.hop_samples,
    }
    for part in ("teacher", "student"):
        model = getattr(subject, part)
        if model is not None:
            described[part] = {
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "weights_per_pass": num_weights(model.config),
                "step_flops": pass_flops(model.config, 1),
                "receptive_field_samples": model.receptive_field,
            }
    return described

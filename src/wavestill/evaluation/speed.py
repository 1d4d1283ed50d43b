"""Samples per second of each way to draw from a voice: one sequence at a time, medians of runs."""

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch

from wavestill.audio.corpus import Clip
from wavestill.audio.mel import MelSpec
from wavestill.density import Autoregressive, InverseAutoregressive
from wavestill.evaluation.bench.samplers import Work
from wavestill.evaluation.bench.subject import Subject
from wavestill.evaluation.bench.table import ROWS
from wavestill.evaluation.bench.timing import Spread, in_rounds, size_for
from wavestill.models import IAFWaveNet, WaveNet

Speed = dict[str, float | int]

_ROWS = {
    "naive": "naive",
    "cached": "cached",
    "native": "native",
    "jacobi": "jacobi_with_student",
    "speculative": "speculative",
    "student": "student_packed",
}
"""What results.json calls a sampler, and its line in the bench's table."""


def measure_speed(
    teacher: Autoregressive | None,
    student: InverseAutoregressive | None,
    clip: Clip,
    spec: MelSpec,
    *,
    names: Sequence[str] = tuple(_ROWS),
    repeats: int = 5,
    seconds_per_run: float = 0.5,
) -> dict[str, Speed]:
    """Speed of the samplers that the voice's networks allow, batch 1, on torch's threads.

    Noise and conditioning network are part of what is timed. Each runs once unmeasured, to warm
    up, and then in turns with the others. For all the samplers there are, and the machine's limits
    beside them, see `wavestill bench`.

    Arguments:
        teacher: A WaveNet; other densities, and None, are left out.
        student: An IAF WaveNet; likewise.
        clip: Gives the frames.
        spec: Gives hop and sample rate.
        names: Which samplers.
        repeats: Measured runs, of which the median counts.
        seconds_per_run: About how long a run takes.

    Returns:
        For each sampler `samples_per_second`, its extremes over the runs `..._min` and `..._max`,
        `times_real_time`, `num_samples` of a run, and what else it tells of itself
        (`samples_per_round`, `samples_per_pass`).
    """
    subject = Subject(
        teacher if isinstance(teacher, WaveNet) else None,
        student if isinstance(student, IAFWaveNet) else None,
        torch.tensor(clip.frames),
        sample_rate=spec.sample_rate,
        hop_samples=spec.hop_samples,
        speaker=clip.speaker,
        trained=True,
        about=clip.id,
    )
    rows = {name: ROWS[_ROWS[name]] for name in names}
    ready = {
        name: row.make(subject, 1)
        for name, row in rows.items()
        if row.missing() is None and all(getattr(subject, part) is not None for part in row.parts)
    }
    sizes = {
        name: size_for(sampler.draw, seconds_per_run, most=len(clip.wave))
        for name, sampler in ready.items()
    }
    runs = in_rounds(
        {name: partial(sampler.draw, sizes[name]) for name, sampler in ready.items()}, repeats
    )
    speeds: dict[str, Speed] = {}
    for name, own in runs.items():
        works = [cast("Work", run.result) for run in own]
        rate = Spread.of([w.num_samples / r.seconds for w, r in zip(works, own, strict=True)])
        speeds[name] = {
            "samples_per_second": rate.median,
            "samples_per_second_min": rate.low,
            "samples_per_second_max": rate.high,
            "times_real_time": rate.median / spec.sample_rate,
            "num_samples": sizes[name],
            **works[0].more,
        }
    return speeds

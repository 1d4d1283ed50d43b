"""Samples per second of each way to draw: one sequence at a time, the median of repeated runs."""

import statistics
import time
from collections.abc import Callable

import torch

from wavestill.audio.corpus import Clip
from wavestill.audio.mel import MelSpec
from wavestill.density import Autoregressive, InverseAutoregressive
from wavestill.evaluation.inputs import context_for, device_of, dtype_of, noise_for
from wavestill.sampling import cached

Run = Callable[[int], object]


def measure_speed(
    teacher: Autoregressive | None,
    student: InverseAutoregressive | None,
    clip: Clip,
    spec: MelSpec,
    *,
    repeats: int = 5,
    seconds_per_run: float = 0.5,
) -> dict[str, dict[str, float | int]]:
    """Speed of the teacher's naive and cached samplers and of the student's single pass, batch 1.

    The step-by-step samplers, whose cost per sample is constant, run for about `seconds_per_run`;
    the student draws the whole clip. Noise and conditioning network are part of what is timed.
    Each runs once unmeasured, to warm up.

    Arguments:
        teacher: Measured as `naive` and `cached`; None: left out.
        student: Measured as `student`; None: left out.
        clip: Gives the frames.
        spec: Gives hop and sample rate.
        repeats: Measured runs, of which the median counts.
        seconds_per_run: About how long a step-by-step sampler runs each time.

    Returns:
        For each sampler `samples_per_second`, its extremes over the runs `..._min` and `..._max`,
        `times_real_time`, and `num_samples` of a run.
    """
    length = len(clip.wave)
    runs: dict[str, tuple[Run, int]] = {}
    if teacher is not None:
        naive_run, cached_run = _naive_run(teacher, clip, spec), _cached_run(teacher, clip, spec)
        runs["naive"] = naive_run, _num_samples(naive_run, length, seconds_per_run)
        runs["cached"] = cached_run, _num_samples(cached_run, length, seconds_per_run)
    if student is not None:
        runs["student"] = _student_run(student, clip), length
    speeds: dict[str, dict[str, float | int]] = {}
    for name, (run, count) in runs.items():
        rates = [count / _seconds(run, count) for _ in range(repeats + 1)][1:]
        rate = statistics.median(rates)
        speeds[name] = {
            "samples_per_second": rate,
            "samples_per_second_min": min(rates),
            "samples_per_second_max": max(rates),
            "times_real_time": rate / spec.sample_rate,
            "num_samples": count,
        }
    return speeds


def _naive_run(model: Autoregressive, clip: Clip, spec: MelSpec) -> Run:
    """What `sampling.naive` does for each sample once a whole receptive field lies behind it."""
    # a density that does not say how far it reaches is taken at the length of the clip
    reach = int(getattr(model, "receptive_field", len(clip.wave)))
    needed_frames = -(-(reach + 1) // spec.hop_samples)
    context = context_for(model, [_of_frames(clip, needed_frames)])
    past = torch.zeros(1, reach + 1, device=device_of(model), dtype=dtype_of(model))

    def run(num_samples: int) -> None:
        encoded = model.encode(context) if hasattr(model, "encode") else context
        noise = noise_for(model, 1, num_samples, torch.Generator())
        for t in range(num_samples):
            past[:, -1:] = model.conditionals(past, encoded)[:, -1:].from_noise(
                noise[:, t : t + 1]
            )

    return run


def _cached_run(model: Autoregressive, clip: Clip, spec: MelSpec) -> Run:
    def run(num_samples: int) -> None:
        # only the frames in use: a short run should not pay for encoding a whole clip
        context = context_for(model, [_of_frames(clip, -(-num_samples // spec.hop_samples))])
        cached(model, noise_for(model, 1, num_samples, torch.Generator()), context)

    return run


def _student_run(model: InverseAutoregressive, clip: Clip) -> Run:
    context = context_for(model, [clip])
    return lambda num_samples: model.rsample(
        noise_for(model, 1, num_samples, torch.Generator()), context
    )


def _of_frames(clip: Clip, num_frames: int) -> Clip:
    """The clip with so many frames: cut, or begun anew where it ends."""
    rounds = -(-num_frames // len(clip.frames))
    tiled = clip.frames if rounds <= 1 else clip.frames.repeat(rounds, axis=0)
    return clip._replace(frames=tiled[:num_frames])


def _num_samples(run: Run, most: int, seconds: float) -> int:
    """Samples that take about so many seconds, by a short trial."""
    trial = min(most, 4)
    run(trial)
    return max(1, min(most, round(seconds * trial / _seconds(run, trial))))


@torch.no_grad()
def _seconds(run: Run, num_samples: int) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begin = time.perf_counter()
    run(num_samples)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin

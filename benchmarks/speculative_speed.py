"""Draft-and-verify on speech: samples per round of a voice, and the time it saves a large teacher.

    python benchmarks/speculative_speed.py VOICE CORPUS [--json FILE] [--clips 16] [--copies 8]

The first part draws held-out clips and counts, with drafts refined by what the teacher said of
them (`sampling/refinement.py`) and without. The second widens the teacher without changing its
function (`widen.py`), so that a step costs what a large teacher's does, and times its samplers in
turns: a step-by-step sampler reads all weights for each sample, a verified window reads them once.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from widen import widened

from wavestill import Conditioning, Corpus, WaveNet, load
from wavestill.machine import describe_machine, wavestill_commit
from wavestill.models import IAFWaveNet
from wavestill.sampling import cached, counter_noise, native, speculative

WINDOW = 32  # where drafts are counted: long enough that it cuts few runs of accepted ones short


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voice", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--clips", type=int, default=16, help="held-out clips that are drawn")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each clip")
    parser.add_argument("--copies", type=int, default=8, help="channels over the teacher's own")
    parser.add_argument("--samples", type=int, default=400, help="samples of a timed run")
    parser.add_argument("--window", type=int, default=6, help="drafts per round of a timed run")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each sampler")
    arguments = parser.parse_args()
    voice = load(arguments.voice)
    teacher, student = voice.require_teacher(), voice.require_student()
    hop = voice.spec.hop_samples
    num_frames = math.floor(arguments.seconds * voice.spec.sample_rate / hop)
    clips = Corpus(arguments.corpus).split("test")
    chosen = np.linspace(0, len(clips) - 1, arguments.clips).round().astype(int)
    # From a quarter into each clip on: speech rather than the silence before it.
    frames = [
        np.resize(clip.frames[len(clip.frames) // 4 :], (num_frames, clip.frames.shape[1]))
        for clip in (clips[int(i)] for i in chosen)
    ]
    context = Conditioning(torch.tensor(np.stack(frames)))
    figures = {
        "machine": describe_machine(),
        "commit": wavestill_commit(),
        "voice": str(arguments.voice),
        "drafting": drafting(teacher, student, context, num_frames * hop),
        "wide": wide_teacher(teacher, student, frames[0], arguments),
    }
    print(json.dumps({name: figures[name] for name in ("drafting", "wide")}, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def drafting(
    teacher: WaveNet, student: IAFWaveNet, context: Conditioning, length: int
) -> dict[str, float]:
    """Samples per round, refined and the student's own, and total variation of the latter."""
    num = len(context.frames)
    figures: dict[str, float] = {"num_clips": num, "window": WINDOW, "samples_per_clip": length}
    for name, refine in (("", True), ("own_", False)):
        drawn = speculative(
            teacher,
            student,
            counter_noise(student.base, 0, num, length),
            context,
            generator=torch.Generator().manual_seed(0),
            window=WINDOW,
            refine=refine,
        )
        per_clip = length / drawn.rounds.double()
        figures |= {
            f"{name}samples_per_round": drawn.samples_per_round,
            f"{name}samples_per_round_standard_error": float(per_clip.std() / num**0.5),
            f"{name}samples_per_round_bound": length / drawn.expected_rounds,
            f"{name}tv_per_step_under_teacher": drawn.tv_per_step,
        }
    return figures


def wide_teacher(
    teacher: WaveNet, student: IAFWaveNet, frames: np.ndarray, arguments: argparse.Namespace
) -> dict[str, float | int]:
    """Samples per second of the widened teacher's samplers, in turns; medians."""
    wide = widened(teacher, arguments.copies)
    length = arguments.samples
    hop = teacher.config.conditioning.hop_samples
    context = Conditioning(torch.tensor(frames[None, : -(-length // hop)]))
    encoded = wide.encode(context)
    noise = counter_noise(teacher.base, 0, 1, length)
    fresh = counter_noise(student.base, 0, 1, length)
    rounds: list[float] = []

    def draft_and_verify() -> None:
        generator = torch.Generator().manual_seed(0)
        drawn = speculative(
            wide, student, fresh, context, generator=generator, window=arguments.window
        )
        rounds.append(drawn.samples_per_round)

    runs: dict[str, Callable[[], object]] = {
        "cached": lambda: cached(wide, noise, encoded),
        "native": lambda: native(wide, noise, encoded),
        "native_bfloat16": lambda: native(wide, noise, encoded, weights="bfloat16"),
        "speculative": draft_and_verify,
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.repeats + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            rates[name].append(length / (time.perf_counter() - begin))
    median = {name: statistics.median(values[1:]) for name, values in rates.items()}
    return {
        "channels": wide.config.residual_channels,
        "parameters": sum(parameter.numel() for parameter in wide.parameters()),
        "threads": torch.get_num_threads(),
        "num_samples": length,
        "window": arguments.window,
        "samples_per_round": rounds[0],
        **{f"{name}_samples_per_second": rate for name, rate in median.items()},
        **{
            f"speculative_over_{name}": median["speculative"] / median[name]
            for name in ("cached", "native", "native_bfloat16")
        },
    }


if __name__ == "__main__":
    main()

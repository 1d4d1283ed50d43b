"""Training of our teacher beside the same WaveNet written with Conv1d: fwd + bwd + Adam.

OMP_NUM_THREADS=1 python benchmarks/training_speed.py --json training_speed.json

Both take steps in turn in one process; figures are medians over the rounds. On a CPU the clock is
the process's own, which other processes disturb less than the wall's.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from wavestill.audio.mel import MEL_PRESETS
from wavestill.evaluation.bench.training import training_speed
from wavestill.machine import describe_machine, wavestill_commit
from wavestill.models import WaveNetConfig
from wavestill.nn.conditioning import ConditioningConfig


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--cycle", type=int, default=9)
    parser.add_argument("--channels", type=int, default=64, help="residual and gate")
    parser.add_argument("--skip", type=int, default=128)
    parser.add_argument("--preset", default="wavestill_16k", choices=sorted(MEL_PRESETS))
    parser.add_argument("--batch", type=int, default=2, help="clips per step")
    parser.add_argument("--clip", type=int, default=8000, help="samples per clip")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    spec = MEL_PRESETS[options.preset]
    config = WaveNetConfig(
        options.layers,
        options.cycle,
        options.channels,
        options.channels,
        options.skip,
        predictor_order=16,
        conditioning=ConditioningConfig(
            spec.num_mels + 2, spec.hop_samples, spec.sample_rate, num_harmonics=4
        ),
    )
    speeds = []
    for precision in ("float32", "bfloat16"):
        speed = training_speed(
            config,
            options.batch,
            options.clip,
            precision,
            repeats=options.rounds,
            device=options.device,
            clock="processor" if options.device == "cpu" else "wall",
        )
        speeds.append(speed)
        print(
            f"{precision}: ours {speed.ours.median:,.0f} samples/s, Conv1d "
            f"{speed.plain.median:,.0f}, ratio {speed.ratio.median:.2f} "
            f"({speed.ratio.low:.2f} to {speed.ratio.high:.2f}), "
            f"{speed.share_of_peak:.0%} of {speed.peak_gflops:,.0f} GFLOP/s"
        )
    if options.json is not None:
        figures = {
            "command": " ".join(["python", *sys.argv]),
            "machine": describe_machine(),
            "threads": torch.get_num_threads(),
            "commit": wavestill_commit(),
            "device": options.device,
            "rounds": options.rounds,
            "batch_size": options.batch,
            "clip_samples": options.clip,
            "model": asdict(config),
            "speeds": [asdict(speed) for speed in speeds],
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

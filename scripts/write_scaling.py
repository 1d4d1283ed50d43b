"""Write docs/scaling.md: the cost model of training, its measured points, and what it predicts.

python benchmarks/training_speed.py --json training_speed.json
python scripts/write_scaling.py training_speed.json
"""

import argparse
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from wavestill.audio.mel import MEL_PRESETS
from wavestill.evaluation.training_cost import (
    ACCELERATORS,
    BETWEEN_NODES,
    BYTES_PER_WEIGHT,
    Accelerator,
    StepCost,
    distillation_cost,
    likelihood_cost,
    step_seconds,
    sum_seconds,
)
from wavestill.models import IAFWaveNetConfig, WaveNetConfig
from wavestill.training.recipe import Recipe, load_recipe

ROOT = Path(__file__).resolve().parent.parent
NUM_DEVICES = (1, 8, 64)
SPEAKERS = {"vctk_multispeaker_24k": 109}


def main() -> None:
    """Read the measured points, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("speeds", type=Path, nargs="+", help="from benchmarks/training_speed.py")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    speeds = [json.loads(path.read_text(encoding="utf-8")) for path in options.speeds]
    page = write_page(speeds)
    (options.docs / "scaling.md").write_text(page, encoding="utf-8")
    print(f"wrote {options.docs / 'scaling.md'}")


@cache
def recipes() -> dict[str, tuple[Recipe, WaveNetConfig, IAFWaveNetConfig]]:
    """Every recipe of a voice, with its models' shapes."""
    found = {}
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        preset = re.search(r"--preset (\w+)", text)
        if preset is None or "\nteacher:" not in text:
            continue
        spec = replace(MEL_PRESETS[preset[1]], pitch="--pitch" in text)
        recipe = load_recipe(path)
        teacher = recipe.teacher_config(spec, SPEAKERS.get(path.stem, 0))
        student = recipe.student_config(teacher, spec, SPEAKERS.get(path.stem, 0))
        found[path.stem] = (recipe, teacher, student)
    return found


def measured(speeds: list[dict]) -> list[str]:
    """What was measured, ours beside the usual way."""
    rows = [
        "| teacher | batch | precision | ours, samples/s | Conv1d, samples/s | ratio | "
        "share of peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for figures in speeds:
        model = figures["model"]
        name = (
            f"{model['layers']} × {model['residual_channels']}, skip {model['skip_channels']}, "
            f"on {figures['device']}"
        )
        batch = f"{figures['batch_size']} × {figures['clip_samples']:,}"
        for speed in figures["speeds"]:
            median, low, high = speed["ratio"]
            rows.append(
                f"| {name} | {batch} | {speed['precision']} | {speed['ours'][0]:,.0f} | "
                f"{speed['plain'][0]:,.0f} | {median:.2f} ({low:.2f}–{high:.2f}) | "
                f"{speed['share_of_peak']:.0%} of {speed['peak_gflops']:,.0f} GFLOP/s |"
            )
    return rows


def costs_of(name: str, *, devices: int = 1) -> dict[str, tuple[StepCost, int]]:
    """Costs of a step of both runs on one of several devices, and samples of the whole batch."""
    recipe, teacher, student = recipes()[name]
    fit, distill = recipe.fit, recipe.distill
    return {
        "teacher": (
            likelihood_cost(teacher, max(1, fit.batch_size // devices), fit.clip_samples),
            max(fit.batch_size, devices) * fit.clip_samples,
        ),
        "student": (
            distillation_cost(
                teacher, student, max(1, distill.batch_size // devices), distill.clip_samples
            ),
            max(distill.batch_size, devices) * distill.clip_samples,
        ),
    }


def needed() -> list[str]:
    """Operations, memory and traffic of every recipe's steps."""
    rows = [
        "| recipe | run | GFLOP per sample | kept, GB | moved, GB | weights and optimiser, MB | "
        "summed, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in recipes():
        for run, (cost, samples) in costs_of(name).items():
            rows.append(
                f"| {name} | {run} | {1e-9 * cost.flops / samples:.3f} | "
                f"{1e-9 * cost.activation_bytes:.1f} | {1e-9 * cost.moved_bytes:.0f} | "
                f"{1e-6 * cost.state_bytes:.0f} | {1e-6 * cost.reduced_bytes:.1f} |"
            )
    return rows


def gate_of(cost: StepCost, device: Accelerator) -> str:
    """Which of the three sets the pace."""
    times = {
        "products": cost.flops / (device.share_of_peak * device.peak_flops),
        "memory": cost.moved_bytes / (device.share_of_bandwidth * device.memory_bandwidth),
        "starts": cost.kernels * device.launch_s,
    }
    return max(times, key=lambda gate: times[gate])


def predicted() -> list[str]:
    """Seconds per step and samples per second on one, eight and sixty-four devices."""
    rows = [
        "| recipe | run | device | devices | ms per step | of it summing | samples/s | "
        "of linear | gate |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in recipes():
        if name.endswith("_cpu"):
            continue
        for run in ("teacher", "student"):
            for device in ACCELERATORS.values():
                alone = 0.0
                for num in NUM_DEVICES:
                    cost, samples = costs_of(name, devices=num)[run]
                    adding = sum_seconds(cost.reduced_bytes, num, device)
                    seconds = step_seconds(cost, device) + adding
                    rate = samples / seconds
                    alone = alone or rate
                    rows.append(
                        f"| {name} | {run} | {device.name} | {num} | {1e3 * seconds:.1f} | "
                        f"{1e3 * adding:.1f} | {rate:,.0f} | {rate / alone / num:.0%} | "
                        f"{gate_of(cost, device)} |"
                    )
    return rows


def write_page(speeds: list[dict]) -> str:
    """The page as Markdown."""
    machine, device = speeds[0]["machine"], ACCELERATORS["H100"]
    specifications = "\n".join(
        f"| {a.name} | {1e-12 * a.peak_flops:,.0f} TFLOP/s "
        f"| {1e-12 * a.memory_bandwidth:.2f} TB/s | {1e-9 * a.memory_bytes:.0f} GB "
        f"| {1e-9 * a.link_bandwidth:.0f} GB/s |"
        for a in ACCELERATORS.values()
    )
    commands = "; ".join(f"`{figures['command']}`" for figures in speeds)
    return f"""# Scaling

<!-- written by scripts/write_scaling.py; do not edit -->

What a training step costs, from the shape of the models alone
(`wavestill/evaluation/training_cost.py`), what was measured, and what the model predicts for
machines that were not at hand.

## The model

**Operations.** Of products only: what `torch.utils.flop_counter` counts, to the operation
(`tests/evaluation/test_training_cost.py`). A step by maximum likelihood is one pass forward and
two back; of distillation, the same for the student, and for the teacher one pass forward and one
back to its input, since its weights rest. Spectral terms cost next to none, `contrastive` more
passes, the perceptual terms those of the classifier: they are not in the figures below.

**Memory.** What the backward pass finds kept: per layer and sample the taps side by side and three
times the gate's width (a frozen teacher: twice the gate's width), in the precision of the
products; the law of a mixture in float32. Checked against the tensors autograd keeps, within 15 %.
On a CPU less is kept (`nn/fused_gated.py`: the layer's input and the gate's two halves). For each
weight {BYTES_PER_WEIGHT} bytes: itself, its gradient, Adam's two moments and the average.
`fit.accumulate` divides the activations, `fit.chunk_samples` bounds them by the piece.

**Communication.** One sum of all gradients per optimiser step, however many parts the step is
accumulated from: 2 (N − 1) / N × 4 bytes per weight through a ring.

**Time.** The narrowest of three gates, and the ring's time on top, none of it hidden behind the
backward pass: products at {device.share_of_peak:.0%} of the peak; every operation's reads and
writes at {device.share_of_bandwidth:.0%} of the memory's bandwidth (nothing fused: eager mode);
{1e6 * device.launch_s:.0f} µs between the starts of kernels. These three shares are assumed.

{chr(10).join(needed())}

Batches are the recipes'; kept and moved with bfloat16 activations.

## Measured

{commands}: {machine["processor"]}, {speeds[0]["threads"]} thread, commit {speeds[0]["commit"]};
medians over {speeds[0]["rounds"]} rounds in which both take turns, forward, backward, clipping and
Adam, in time of the process on the processor; in brackets the least and most of the rounds'
ratios. The peak is that of large products on the same core in the same rounds.

{chr(10).join(measured(speeds))}

**On a GPU nothing has been measured**: none was at hand. `benchmarks/training_speed.py --device
cuda` measures the same there.

## Predicted

The batch is the recipe's and is shared; where there are more devices than clips each gets one
clip, and the batch grows. Within a node of eight, NVLink; between nodes,
{1e-9 * BETWEEN_NODES:.0f} GB/s for each device. Specifications as the maker publishes them:

| device | dense bfloat16 | memory | size | link, one way |
|---|---|---|---|---|
{specifications}

{chr(10).join(predicted())}

What to read from it: networks of 64 to 128 channels move far more than they multiply. On these
devices memory sets the pace of a large batch, and the start of kernels that of a small one; a few
clips on each of many devices therefore gain little, and a larger batch, or `compile: true`, which
fuses what lies between the products, gains more. The gradients are small (1 to 100 MB): summing
them is no obstacle within a node.
"""


if __name__ == "__main__":
    main()

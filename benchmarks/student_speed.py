"""The student's fast path against plain Conv1d: `python benchmarks/student_speed.py`.

The paper's student (flows of 10, 10, 10 and 30 layers, 64 channels, 24 kHz, mels) with random
weights, three ways, one after the other in every round, so that whatever else the machine does
falls on all of them: plain convolutions (`plain_conv.py`), packed in float32, packed in bfloat16.
Prints medians over the rounds, ratios of the medians, and the share of this machine's fastest
matrix product, measured in the same rounds.

Plain convolutions cost more per second the longer the sound is: their activations (12 MB each at
1 s) leave the caches, and beyond about 1 s each is fresh memory from the system. Hence more than
one length; the packed student's chunks do not know how long the sound is.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from plain_conv import PlainStudent
from torch import Tensor

from wavestill.density import Conditioning
from wavestill.distributions import standard_noise
from wavestill.models import IAFWaveNet, IAFWaveNetConfig
from wavestill.models.packed_student import PackedStudent
from wavestill.nn.conditioning import ConditioningConfig

SAMPLE_RATE, HOP_SAMPLES, NUM_MELS = 24_000, 300, 80
PRODUCT = 1536  # side of the square product that shows the peak


def paper_student() -> IAFWaveNet:
    """The paper's student; heads off zero, so that every layer is heard."""
    torch.manual_seed(0)
    student = IAFWaveNet(
        IAFWaveNetConfig(conditioning=ConditioningConfig(NUM_MELS, HOP_SAMPLES, SAMPLE_RATE))
    )
    with torch.no_grad():
        for flow in student.flows:
            flow.output.weight.normal_(0.0, 0.3 / 8)
    return student.eval()


def flop_per_sample(student: IAFWaveNet) -> int:
    """Floating-point operations of the layers, the conditioning's left out."""
    layers = [layer for flow in student.flows for layer in flow.stack.layers]
    return sum(2 * (layer.conv.taps.weight.numel() + layer.out.weight.numel()) for layer in layers)


def seconds_of(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def products(dtype: torch.dtype) -> list[Callable[[], Tensor]]:
    """Square matrix products, by each library that PyTorch has at hand."""
    a = torch.randn(PRODUCT, PRODUCT).to(dtype)
    ways: list[Callable[[], Tensor]] = [lambda: a @ a]
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        ways.append(lambda: torch.ops.mkldnn._linear_pointwise(a, a, None, "none", [], ""))
    return ways


def signal_to_error_db(x: Tensor, reference: Tensor) -> float:
    """Power of the reference over that of the difference, in dB."""
    error = (x.double() - reference.double()).square().sum()
    return float(10 * torch.log10(reference.double().square().sum() / error))


@torch.no_grad()
def measure(seconds: float, rounds: int) -> dict[str, object]:
    """All ways in turn, `rounds` times, on `seconds` of sound."""
    student = paper_student()
    num_frames = round(seconds * SAMPLE_RATE / HOP_SAMPLES)
    num_samples = num_frames * HOP_SAMPLES
    noise = standard_noise(
        "logistic", (1, num_samples), generator=torch.Generator().manual_seed(0)
    )
    context = Conditioning(torch.randn(1, num_frames, NUM_MELS))
    plain = PlainStudent(student)
    ways: dict[str, Callable[[], Tensor]] = {"plain": lambda: plain(noise, context)}
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    for name, dtype in dtypes.items():
        packed = PackedStudent(student, dtype=dtype)
        ways[name] = lambda packed=packed: packed.rsample(noise, context).x
    peaks = {
        (name, i): way for name, dtype in dtypes.items() for i, way in enumerate(products(dtype))
    }
    sounds = {name: way() for name, way in ways.items()}  # and warm
    for way in peaks.values():
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    fastest = dict.fromkeys(dtypes, float("inf"))
    load_before = os.getloadavg()[0]
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(seconds_of(way))
        for (name, _), way in peaks.items():
            fastest[name] = min(fastest[name], seconds_of(way))
    length = num_samples / SAMPLE_RATE
    results: dict[str, object] = {
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "load_average": [load_before, os.getloadavg()[0]],
    }
    for name, times in taken.items():
        median = statistics.median(times)
        row = {
            "seconds_per_second": median / length,
            "fastest_seconds_per_second": min(times) / length,
            "times_real_time": length / median,
            "times_plain": statistics.median(taken["plain"]) / median,
            "times_plain_by_fastest": min(taken["plain"]) / min(times),
        }
        if name in dtypes:
            peak = 2 * PRODUCT**3 / fastest[name]
            row["share_of_matrix_product"] = flop_per_sample(student) * num_samples / median / peak
            row["matrix_product_gflops"] = peak / 1e9
            row["signal_to_error_db"] = signal_to_error_db(sounds[name], sounds["plain"])
        results[name] = row
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[1.0, 3.0], help="of sound per draw"
    )
    parser.add_argument("--rounds", type=int, default=7, help="of which medians are taken")
    parser.add_argument("--threads", type=int, help="PyTorch's default if not given")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    results = {
        f"{seconds:g} s": measure(seconds, arguments.rounds) for seconds in arguments.seconds
    }
    for length, result in results.items():
        print(f"sound of {length}")
        for name, value in result.items():
            if isinstance(value, dict):
                value = "  ".join(f"{key} {figure:.3g}" for key, figure in value.items())
            print(f"  {name}: {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

"""The native sampler against an eager PyTorch loop of the same network, on one thread, in turns.

    OMP_NUM_THREADS=1 python benchmarks/eager_loop.py [--rounds 7] [--json FILE]

The network is that of DESIGN's prototype: 30 layers x 64 channels x 256 skip, filter 3, mixture of
10 logistics, unconditional. The loop is written as one would by hand: weights at the side, ring
buffers for the past, nothing of our classes; its draw is a chosen component's location and noise,
which is cheaper than the exact map that ours takes.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from wavestill import WaveNet, WaveNetConfig
from wavestill.machine import describe_machine, wavestill_commit
from wavestill.sampling import NativeSampler, cached, counter_noise
from wavestill.sampling.native import read_bandwidth


class EagerLoop:
    """Step-by-step generation of an unconditional WaveNet by PyTorch's own operations."""

    def __init__(self, model: WaveNet) -> None:
        self.layers = [
            (
                layer.conv.dilation,
                layer.conv.taps.weight.detach(),
                layer.conv.taps.bias.detach(),
                layer.out.weight.detach(),
                layer.out.bias.detach(),
            )
            for layer in model.stack.layers
        ]
        self.model = model
        self.width = model.config.residual_channels

    @torch.inference_mode()
    def draw(self, num_samples: int) -> torch.Tensor:
        """So many samples of one stream."""
        model, width = self.model, self.width
        rings = [torch.zeros(2 * dilation, width) for dilation, *_ in self.layers]
        x, sound = torch.zeros(1), torch.zeros(num_samples)
        for t in range(num_samples):
            h = F.linear(x, model.input.weight, model.input.bias)
            skip = torch.zeros(model.config.skip_channels)
            for (dilation, taps, bias, out, out_bias), ring in zip(
                self.layers, rings, strict=True
            ):
                oldest, older = ring[t % (2 * dilation)], ring[(t + dilation) % (2 * dilation)]
                gates = F.linear(torch.cat([oldest, older, h]), taps, bias)
                ring[t % (2 * dilation)] = h
                filtered, gate = gates.chunk(2)
                both = F.linear(torch.tanh(filtered) * torch.sigmoid(gate), out, out_bias)
                h = h + both[:width]
                skip += both[width:]
            hidden = F.relu(F.linear(F.relu(skip), model.hidden.weight, model.hidden.bias))
            logits, loc, log_scale = F.linear(
                hidden, model.output.weight, model.output.bias
            ).chunk(3)
            k = torch.multinomial(logits.softmax(0), 1)
            x = loc[k] + log_scale[k].exp() * torch.logit(torch.rand(1).clamp(1e-6, 1 - 1e-6))
            x = x.clamp(-1, 1)
            sound[t] = x
        return sound


def main() -> None:
    """Time all in turns and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = WaveNet(WaveNetConfig(skip_channels=256)).eval()
    loop = EagerLoop(model)
    float32, bfloat16 = NativeSampler(model), NativeSampler(model, weights="bfloat16")
    together = NativeSampler(model)
    one, eight = counter_noise(model.base, 0, 1, 8000), counter_noise(model.base, 0, 8, 4000)
    runs = {
        "eager_loop": (lambda: loop.draw(800), 800),
        "cached": (lambda: cached(model, one[:, :400]), 400),
        "native": (lambda: float32.extend(one), 8000),
        "native_bfloat16": (lambda: bfloat16.extend(one), 8000),
        "native_8_streams": (lambda: together.extend(eight), 32000),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    reads: list[float] = []
    for _ in range(arguments.rounds + 1):
        for name, (run, num_samples) in runs.items():
            begin = time.perf_counter()
            run()
            rates[name].append(num_samples / (time.perf_counter() - begin))
        reads.append(statistics.median(read_bandwidth(float32.weight_bytes, 5)))
    rate = {name: statistics.median(values[1:]) for name, values in rates.items()}
    read = statistics.median(reads[1:])
    figures = {
        "machine": describe_machine(),
        "commit": wavestill_commit(),
        "instruction_set": float32.instruction_set,
        "samples_per_second": rate,
        "times_real_time_24k": {name: value / 24000 for name, value in rate.items()},
        "native_over_eager_loop": rate["native"] / rate["eager_loop"],
        "native_over_cached": rate["native"] / rate["cached"],
        "native_share_of_read_bandwidth": rate["native"] * float32.step_bytes() / 1e9 / read,
        "weight_mbytes": float32.weight_bytes / 1e6,
        "mbytes_read_per_step": float32.step_bytes() / 1e6,
        "read_gbytes_per_second": read,
        "bfloat16_over_float32": rate["native_bfloat16"] / rate["native"],
        "8_streams_over_one": rate["native_8_streams"] / rate["native"],
    }
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

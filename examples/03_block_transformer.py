"""What does it cost to draw several steps at once, in nats, and what does it save, in time?

python examples/03_block_transformer.py [--steps 400] [--out block_transformer.png]

The same transformer at block sizes 1 to 16, attending to the same stretch of the past, trained for
equal steps, twice over: on a process whose best density at each block size is known exactly, and
on the packaged demo speech at 8 kHz. Under four minutes on one core.
"""

import argparse
import math
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

import wavestill
from wavestill.known_truth import GaussianAR2
from wavestill.models.block_transformer import BlockTransformer, BlockTransformerConfig

SIZES = (1, 2, 4, 8, 16)
PAST = 128  # steps that a layer attends to, at every block size

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=400, help="of training, each")
parser.add_argument("--out", default="block_transformer.png", help="the plot")
options = parser.parse_args()


def best_stds(process: GaussianAR2, block_size: int) -> Tensor:
    """Errors of the best predictions 1 ... K steps ahead: all that a step of a block can know."""
    a1, a2 = process.coefficients
    response = [1.0, a1]  # of x to one innovation, j steps later
    while len(response) < block_size:
        response.append(a1 * response[-1] + a2 * response[-2])
    squares = torch.tensor(response[:block_size], dtype=torch.float64).square()
    return process.innovation_std * squares.cumsum(0).sqrt()


def best_nats(process: GaussianAR2, block_size: int) -> float:
    """Nats per step of the best density that is blind within a block."""
    return float(
        (best_stds(process, block_size).log() + 0.5 * math.log(2 * math.pi * math.e)).mean()
    )


def best_nats_of(x: Tensor, process: GaussianAR2, block_size: int) -> float:
    """The same of given sequences: their luck included."""
    a1, a2 = process.coefficients
    starts = torch.arange(PAST, x.shape[1], block_size)
    last, before = x[:, starts - 1].double(), x[:, starts - 2].double()
    total = 0.0
    for k, std in enumerate(best_stds(process, block_size)):
        last, before = a1 * last + a2 * before, last
        law = torch.distributions.Normal(last, std)
        total -= float(law.log_prob(x[:, starts + k].double()).mean()) / block_size
    return total


def trained(train: Tensor, config: BlockTransformerConfig, clip_samples: int) -> BlockTransformer:
    torch.manual_seed(0)
    model, _ = wavestill.fit(
        BlockTransformer(config),
        train,
        max_steps=options.steps,
        batch_size=8,
        clip_samples=clip_samples,
        learning_rate=2e-3,
        warmup_steps=30,
        averaging=0.98,
    )
    return model


@torch.no_grad()
def nats(model: BlockTransformer, x: Tensor) -> float:
    """Nats per sample of held-out stretches, their first ones left out."""
    law = model.conditionals(x)[:, PAST:]
    return -float(law.log_prob(x[:, PAST:]).mean())


def samples_per_second(model: BlockTransformer) -> float:
    model.sample(1, length=16)
    start, drawn = time.perf_counter(), 0
    while time.perf_counter() - start < 0.7:
        drawn += model.sample(1, length=16 * 16).shape[1]
    return drawn / (time.perf_counter() - start)


def shape(block_size: int, **changes: object) -> BlockTransformerConfig:
    return BlockTransformerConfig(
        block_size, layers=3, channels=64, heads=4, reach_blocks=PAST // block_size, **changes
    )


process = GaussianAR2(0.9, 0.6, innovation_std=0.1)
generator = torch.Generator().manual_seed(0)
train, held_out = process.sample(64, 4000, generator), process.sample(32, 1024, generator)
true_nats = []
print(f"process    entropy rate {process.entropy_rate:.4f} nats; the best there is, above it")
for size in SIZES:
    model = trained(train, shape(size, head="gaussian"), 256)
    above = nats(model, held_out) - best_nats_of(held_out, process, size)
    true_nats.append(best_nats(process, size) + above)
    print(f"{size:6d} {best_nats(process, size):9.4f} {above:+9.4f}")

with tempfile.TemporaryDirectory() as folder:
    speech = Path(wavestill.__file__).parent / "data" / "demo_speech"
    wavestill.prepare(speech, Path(folder) / "corpus", preset="wavestill_8k", valid_fraction=0.15)
    corpus = wavestill.Corpus(Path(folder) / "corpus")
    waves = {
        split: torch.from_numpy(np.float32(corpus.split(split).audio)) / 32768
        for split in ("train", "valid")
    }
held_out = waves["valid"][: len(waves["valid"]) // 1024 * 1024].view(-1, 1024)
speech_nats, speeds = [], []
print("speech     nats on the 16-bit grid, samples/s")
for size in SIZES:
    model = trained(waves["train"], shape(size, predictor_order=32), 512)
    speech_nats.append(nats(model, held_out))
    speeds.append(samples_per_second(model))
    print(f"{size:6d} {speech_nats[-1]:9.4f} {speeds[-1]:9,.0f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
left.plot(speeds, speech_nats, "o-")
for size, speed, value in zip(SIZES, speeds, speech_nats, strict=True):
    left.annotate(f"  {size}", (speed, value), va="top")
left.set_xscale("log", base=2)
left.xaxis.set_major_formatter("{x:,.0f}")
left.set(
    xlabel="samples per second, one at a time",
    ylabel="nats per sample",
    title="speech at 8 kHz, by block size",
)
right.plot(SIZES, [best_nats(process, size) for size in SIZES], "k-", label="best there is")
right.plot(SIZES, true_nats, "o", label="trained")
right.axhline(process.entropy_rate, color="k", linestyle=":", label="entropy rate")
right.set(xscale="log", xlabel="block size", ylabel="nats per sample", title="Gaussian AR(2)")
right.set_xticks(SIZES, [str(size) for size in SIZES])
right.minorticks_off()
right.legend()
figure.savefig(options.out, dpi=130)
print(f"wrote {options.out}")

"""Train a student on as a draft: on the prefixes that draft-and-verify will show it.

    python scripts/train_draft.py VOICE CORPUS OUT [--minutes 60]

Distillation lowers the divergence under the student's own prefixes, where noise is fresh. When
the teacher decides what is said, the student's noise is what its own inverse makes of it, and a
student that was never asked this may lose its way altogether. Here it is asked: recordings are
inverted by its average, step by step (noise held within NOISE_MAX, so that a lost inverse comes
back), and on that noise the student learns to predict them, first by likelihood, then also by the
total variation to the teacher, which is the rate of rejections.
"""

import argparse
import copy
import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wavestill import Conditioning, Corpus, load, save
from wavestill.audio.corpus import Clips
from wavestill.distributions import LocationScale
from wavestill.divergences import TotalVariation
from wavestill.models import IAFWaveNet

NUM_FRAMES = 30  # of a crop
POOL = 64  # crops that are inverted together
BATCH = 2
EPOCHS = 2  # over a pool, before the noise is made anew
SKIP_SAMPLES = 1000  # at the head of a crop, which lacks its past
NOISE_MAX = 12.0
LEARNING_RATE = 1.2e-3
AVERAGING = 0.997


def main() -> None:
    """Train, say how it goes, and write the voice with its new student."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voice", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    voice = load(arguments.voice)
    teacher = voice.require_teacher().eval().requires_grad_(requires_grad=False)
    student = voice.require_student()
    average = copy.deepcopy(student).eval()
    clips = Corpus(arguments.corpus).split("train")
    hop = voice.spec.hop_samples
    rng = np.random.default_rng(arguments.seed)
    torch.manual_seed(arguments.seed)
    optimizer = torch.optim.Adam(student.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))
    variation, step, begin = TotalVariation(8), 0, time.monotonic()
    while (share := (time.monotonic() - begin) / 60 / arguments.minutes) < 1:
        x, context = crops(clips, hop, rng)
        noise = bounded_inverse(average, x, context)
        losses = []
        for batch in [part for _ in range(EPOCHS) for part in torch.randperm(POOL).split(BATCH)]:
            rate = 0.5 * (1 + math.cos(math.pi * min(1.0, share))) + 0.02
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate * min(1.0, (step + 20) / 200)
            here = Conditioning(context.frames[batch])
            with torch.autocast("cpu", torch.bfloat16):
                draft = laws_along(student, x[batch], noise[batch], here)
                laws = teacher.conditionals(x[batch], here)
            laws = getattr(laws, "continuous", laws)[:, SKIP_SAMPLES:].detach()
            draft = draft[:, SKIP_SAMPLES:]
            nats = -draft.log_prob(x[batch, SKIP_SAMPLES:]).clamp(min=-30).mean()
            rejected = variation(draft, laws).mean()
            loss = nats if share < 0.4 else 0.5 * nats + 2 * rejected
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            if torch.isfinite(norm):
                optimizer.step()
                step += 1
            with torch.no_grad():
                for old, new in zip(average.parameters(), student.parameters(), strict=True):
                    old.lerp_(new, 1 - min(AVERAGING, step / (step + 5)))
            losses.append((nats.item(), rejected.item()))
        nats_mean, rejected_mean = np.mean(losses, axis=0)
        print(f"{100 * share:.0f} % step {step}: {nats_mean:.3f} nats, TV {rejected_mean:.3f}")
    save(dataclasses.replace(voice, student=average, measured={}), arguments.out)


def crops(clips: Clips, hop: int, rng: np.random.Generator) -> tuple[Tensor, Conditioning]:
    """Random stretches of recordings `(POOL, NUM_FRAMES * hop)` and their frames."""
    waves, frames = [], []
    while len(waves) < POOL:
        clip = clips[int(rng.integers(len(clips)))]
        if len(clip.frames) > NUM_FRAMES:
            first = int(rng.integers(len(clip.frames) - NUM_FRAMES))
            last = first + NUM_FRAMES
            waves.append(np.array(clip.wave[first * hop : last * hop]))
            frames.append(np.array(clip.frames[first:last]))
    return torch.tensor(np.stack(waves)), Conditioning(torch.tensor(np.stack(frames)))


@torch.no_grad()
def bounded_inverse(student: IAFWaveNet, x: Tensor, context: Conditioning) -> Tensor:
    """`student.invert(x, context).noise`, but held within NOISE_MAX as it is made."""
    encoded = student.encode(context)
    flows = list(student.flows)
    stacks = [flow.stack.histories() for flow in flows]
    inputs = [torch.zeros_like(x[:, :1]) for _ in flows]
    output, _ = student.flows_output(x)
    noise = []
    for t in range(x.shape[1]):
        here = encoded.at(t)
        shapes = [
            flow.shape(value, here, stack)
            for flow, value, stack in zip(flows, inputs, stacks, strict=True)
        ]
        value = output[:, t : t + 1]
        for loc, log_scale in reversed(shapes):
            value = (value - loc) * (-log_scale).exp()
        value = value.clamp(-NOISE_MAX, NOISE_MAX)
        noise.append(value)
        for k, (loc, log_scale) in enumerate(shapes):
            inputs[k] = value
            value = loc + log_scale.exp() * value
    return torch.cat(noise, dim=1)


def laws_along(
    student: IAFWaveNet, x: Tensor, noise: Tensor, context: Conditioning
) -> LocationScale:
    """The student's laws after the noise, around the linear prediction of the recording itself."""
    draw = student.rsample(noise, context)
    law = draw.conditionals
    if student.synthesis is None:
        return law
    # Noise of the average does not give the recording back: the filter's memory is put right.
    off = student.synthesis.predicted((x - draw.x) * student.gain) / student.gain
    return type(law)(law.loc + off, law.log_scale)


if __name__ == "__main__":
    main()

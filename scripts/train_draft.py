"""Train a student on as a draft: on the prefixes that draft-and-verify will show it.

    python scripts/train_draft.py VOICE CORPUS OUT [--minutes 60] [--drawn-minutes 20]

Distillation lowers the divergence under the student's own prefixes, where noise is fresh. When
the teacher decides what is said, the student's noise is what its own inverse makes of it, and a
student that was never asked this may lose its way altogether. Here it is asked: sound drawn from
the teacher is inverted by the student's average, step by step (noise held within NOISE_MAX, so
that a lost inverse comes back), and on that noise the student learns to predict it, first by
likelihood, then also by the total variation to the teacher, which is the rate of rejections.
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
from wavestill.distributions import counter_noise
from wavestill.divergences import TotalVariation
from wavestill.models import WaveNet
from wavestill.sampling import native, native_invert

NUM_FRAMES = 30  # of a crop
DRAWN_FRAMES = 400  # of a stretch drawn from the teacher
STREAMS = 8  # stretches drawn together
POOL = 128  # crops that are inverted together
BATCH = 2
EPOCHS = 2  # over a pool, before the noise is made anew
SKIP_SAMPLES = 1000  # at the head of a crop, which lacks its past
NOISE_MAX = 12.0
AVERAGING = 0.997


def main() -> None:
    """Train, say how it goes, and write the voice with its new student."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voice", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--drawn-minutes", type=float, default=20.0, help="sound of the teacher")
    parser.add_argument("--likelihood-share", type=float, default=0.4, help="before TV joins")
    parser.add_argument("--learning-rate", type=float, default=1.2e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    voice = load(arguments.voice)
    teacher = voice.require_teacher().eval().requires_grad_(requires_grad=False)
    student = voice.require_student()
    average = copy.deepcopy(student).eval()
    hop = voice.spec.hop_samples
    rng = np.random.default_rng(arguments.seed)
    torch.manual_seed(arguments.seed)
    num_drawn = math.ceil(60 * arguments.drawn_minutes * voice.spec.sample_rate / hop)
    sounds, frames = drawn(teacher, Corpus(arguments.corpus).split("train"), hop, num_drawn, rng)
    optimizer = torch.optim.Adam(
        student.parameters(), lr=arguments.learning_rate, betas=(0.9, 0.99)
    )
    variation, step, begin = TotalVariation(8), 0, time.monotonic()
    while (share := (time.monotonic() - begin) / 60 / arguments.minutes) < 1:
        x, context = crops(sounds, frames, hop, rng)
        noise = native_invert(average, x, context, noise_max=NOISE_MAX).noise
        losses = []
        for batch in [part for _ in range(EPOCHS) for part in torch.randperm(POOL).split(BATCH)]:
            rate = 0.5 * (1 + math.cos(math.pi * min(1.0, share))) + 0.02
            optimizer.param_groups[0]["lr"] = (
                arguments.learning_rate * rate * min(1.0, (step + 20) / 200)
            )
            here = Conditioning(context.frames[batch])
            with torch.autocast("cpu", torch.bfloat16):
                draft = student.laws_along(x[batch], noise[batch], here)
                laws = teacher.conditionals(x[batch], here)
            laws = getattr(laws, "continuous", laws)[:, SKIP_SAMPLES:].detach()
            draft = draft[:, SKIP_SAMPLES:]
            nats = -draft.log_prob(x[batch, SKIP_SAMPLES:]).clamp(min=-30).mean()
            rejected = variation(draft, laws).mean()
            loss = nats if share < arguments.likelihood_share else 0.5 * nats + 2 * rejected
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
        minutes = (time.monotonic() - begin) / 60
        done = f"{minutes:.1f} min, step {step}"
        print(f"{done}: {nats_mean:.3f} nats, TV {rejected_mean:.3f}", flush=True)
        save(dataclasses.replace(voice, student=average, measured={}), arguments.out)


def drawn(
    teacher: WaveNet, clips: Clips, hop: int, num_frames: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Sound of the teacher on the frames of recordings: `(N, DRAWN_FRAMES * hop)` and frames."""
    long = [clips[i].frames for i in range(len(clips)) if len(clips[i].frames) >= DRAWN_FRAMES]
    sounds, frames = [], []
    while len(frames) * STREAMS * DRAWN_FRAMES < num_frames:
        chosen = [long[int(rng.integers(len(long)))] for _ in range(STREAMS)]
        firsts = [int(rng.integers(len(clip) - DRAWN_FRAMES + 1)) for clip in chosen]
        stretches = [
            np.array(clip[first : first + DRAWN_FRAMES])
            for clip, first in zip(chosen, firsts, strict=True)
        ]
        frames.append(torch.tensor(np.stack(stretches)))
        noise = counter_noise(teacher.base, int(rng.integers(2**31)), STREAMS, DRAWN_FRAMES * hop)
        sounds.append(native(teacher, noise, Conditioning(frames[-1])))
        print(f"drawn {len(frames) * STREAMS * DRAWN_FRAMES} of {num_frames} frames", flush=True)
    return torch.cat(sounds), torch.cat(frames)


def crops(
    sounds: Tensor, frames: Tensor, hop: int, rng: np.random.Generator
) -> tuple[Tensor, Conditioning]:
    """Random pieces of the sounds, `(POOL, NUM_FRAMES * hop)`, and their frames."""
    rows = rng.integers(len(sounds), size=POOL)
    firsts = rng.integers(DRAWN_FRAMES - NUM_FRAMES + 1, size=POOL)
    pieces = [
        (sounds[row, first * hop : (first + NUM_FRAMES) * hop], frames[row, first:][:NUM_FRAMES])
        for row, first in zip(rows, firsts, strict=True)
    ]
    x, own_frames = (torch.stack(parts) for parts in zip(*pieces, strict=True))
    return x, Conditioning(own_frames)


if __name__ == "__main__":
    main()

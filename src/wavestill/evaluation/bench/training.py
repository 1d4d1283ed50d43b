"""How fast a teacher trains: forward, backward and optimiser step, beside the usual way."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from wavestill.density import Conditioning, Context
from wavestill.evaluation.bench.conv1d_teacher import Conv1dTeacher
from wavestill.evaluation.bench.machine import Precision
from wavestill.evaluation.bench.timing import Spread, in_rounds
from wavestill.evaluation.training_cost import likelihood_flops
from wavestill.models import WaveNet, WaveNetConfig
from wavestill.nn import onednn
from wavestill.training.config import TrainingConfig
from wavestill.training.likelihood import Likelihood


@dataclass(frozen=True)
class TrainingSpeed:
    """Samples per second of training steps, in turn on one machine.

    Arguments:
        precision: Of the networks' products.
        ours: Samples per second of our teacher.
        plain: Those of the same teacher written with `Conv1d`.
        ratio: Ours over plain, round by round.
        peak_gflops: What this machine's best product reaches, 1e9 operations per second.
        share_of_peak: Operations per second of our steps over that.
    """

    precision: Precision
    ours: Spread
    plain: Spread
    ratio: Spread
    peak_gflops: float
    share_of_peak: float


def training_speed(
    config: WaveNetConfig,
    batch_size: int,
    clip_samples: int,
    precision: Precision,
    *,
    repeats: int = 5,
    device: str = "cpu",
    clock: Literal["processor", "wall"] = "processor",
) -> TrainingSpeed:
    """Time optimiser steps of both implementations in turn, after a round that does not count.

    Arguments:
        config: The teacher's shape, conditioning filled in.
        batch_size: Clips per step.
        clip_samples: Samples per clip, whole frames.
        precision: Of the networks' products; the law's is float32.
        repeats: Rounds, >= 1.
        device: Where to train.
        clock: Time of this process on the processor, which other processes disturb less, or of
            the wall; an accelerator needs the latter.
    """
    torch.manual_seed(0)
    teacher = WaveNet(config).to(device)
    x, context = _material(config, batch_size, clip_samples, device)
    frames = context.frames if isinstance(context, Conditioning) else None
    teacher.calibrate(x, None if frames is None else frames.flatten(0, 1))
    jobs = {
        name: _step(model, x, context, precision, device)
        for name, model in {"ours": teacher, "plain": Conv1dTeacher(teacher).to(device)}.items()
    }
    size, times = (1024, 8) if device == "cpu" else (8192, 10)
    jobs["peak"] = _products(precision, device, size, times)
    read = time.process_time if clock == "processor" else time.perf_counter
    runs = in_rounds(jobs, repeats, clock=read)
    seconds = {name: [run.seconds for run in runs[name]] for name in jobs}
    num = batch_size * clip_samples
    best = 2e-9 * times * size**3 / min(seconds["peak"])
    ours = Spread.of([num / s for s in seconds["ours"]])
    flops = likelihood_flops(config, batch_size, clip_samples) / num
    return TrainingSpeed(
        precision,
        ours,
        Spread.of([num / s for s in seconds["plain"]]),
        Spread.of([b / a for a, b in zip(seconds["ours"], seconds["plain"], strict=True)]),
        best,
        1e-9 * flops * ours.median / best,
    )


def _material(
    config: WaveNetConfig, batch_size: int, clip_samples: int, device: str
) -> tuple[Tensor, Context]:
    """Noise of a recording's level, and frames of noise under a steady pitch."""
    x = 0.1 * torch.randn(batch_size, clip_samples, device=device)
    conditioning = config.conditioning
    if conditioning is None or not conditioning.num_features:
        return x, None
    num_frames = clip_samples // conditioning.hop_samples
    frames = torch.randn(batch_size, num_frames, conditioning.num_features, device=device)
    if conditioning.num_harmonics:
        frames[..., -2:] = torch.tensor([5.0, 1.0])  # 148 Hz, voiced
    speaker = None
    if conditioning.num_speakers:
        speaker = torch.arange(batch_size, device=device) % conditioning.num_speakers
    return x, Conditioning(frames, speaker)


def _step(
    model: nn.Module, x: Tensor, context: Context, precision: Precision, device: str
) -> Callable[[], None]:
    """One optimiser step by maximum likelihood, as the trainer makes it."""
    config = TrainingConfig(max_steps=1)
    task = Likelihood(model, config, 0, skip_samples=x.shape[1] // 8)
    optimiser = torch.optim.Adam(task.trained(), lr=1e-4, betas=config.betas, foreach=True)
    parameters = task.trained()

    @torch.enable_grad()
    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            law = model.conditionals(x, context)[:, task.skip_samples :]  # type: ignore[operator]
            loss = -law.log_prob(x[:, task.skip_samples :]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimiser.step()
        if device != "cpu":
            torch.cuda.synchronize()

    return step


def _products(precision: Precision, device: str, size: int, times: int) -> Callable[[], None]:
    """A job of large products, of which a device does most per second."""
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    multiply = onednn.product if device == "cpu" and onednn.onednn_fuses(dtype) else torch.mm

    def job() -> None:
        for _ in range(times):
            multiply(left, right)
        if device != "cpu":
            torch.cuda.synchronize()

    return job

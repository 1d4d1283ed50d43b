"""Every way to distil, on one problem, in equal time: divergences, terms, teachers and balances.

    python benchmarks/objectives.py [--seconds 20] [--seeds 3] [--json FILE]

The teacher is a WaveNet fitted to paths in a double well (`double_well.py`). Each setting is a
line of a recipe's `objective`; each student has the same seconds of processor time (not of the
clock, so that a busy machine is fair) on one thread, and the same seeds. Figures are of the
averaged weights.
"""

import argparse
import copy
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from double_well import NUM_STEPS, coverage, paths
from torch import Tensor

from wavestill import IAFWaveNet, IAFWaveNetConfig, WaveNet, WaveNetConfig, fit
from wavestill.distillation import (
    LogLinearPool,
    Objective,
    ObjectiveConfig,
    StepDivergence,
)
from wavestill.distributions import standard_noise
from wavestill.divergences import KL, ForwardKL, TotalVariation
from wavestill.machine import describe_machine, wavestill_commit
from wavestill.models import MixturePool
from wavestill.sampling import native, native_invert

TEACHER = WaveNetConfig(
    layers=4,
    dilation_cycle=4,
    residual_channels=24,
    gate_channels=24,
    skip_channels=24,
    num_mixtures=4,
    bits=None,
)
STUDENT = IAFWaveNetConfig((4, 4, 4), dilation_cycle=4, channels=16)
BATCH = 64
LEARNING_RATE = 4e-3

Build = Callable[[WaveNet, WaveNet, IAFWaveNet], Objective]


def by_recipe(**settings: object) -> Build:
    """An objective of a recipe's settings, against the first teacher."""
    settings = {"balance": "fixed", "log_scale_min": None} | settings
    return lambda teacher, sibling, student: ObjectiveConfig(**settings).build(teacher, student)


def log_linear(teacher: WaveNet, sibling: WaveNet, student: IAFWaveNet) -> Objective:
    """The product of both teachers' densities."""
    pool = LogLinearPool([teacher, sibling], divergence=StepDivergence(KL(), cap_nats=20.0))
    return Objective(teacher, student, {"pool": pool})


def mixed(teacher: WaveNet, sibling: WaveNet, student: IAFWaveNet) -> Objective:
    """The mixture of both teachers at every step."""
    kl = StepDivergence(KL(), cap_nats=20.0)
    return Objective(MixturePool([teacher, sibling]), student, {"kl": kl})


FORWARD = {"weights": {"forward": 1.0}}
SETTINGS: dict[str, dict[str, Build]] = {
    "Divergences": {
        "KL": by_recipe(),
        "KL, path-wise gradient": by_recipe(path_wise=True),
        "forward KL": by_recipe(divergence="forward_kl"),
        "Jensen-Shannon": by_recipe(divergence="jensen_shannon"),
        "Renyi, order 1/2": by_recipe(divergence="renyi"),
        "total variation": by_recipe(divergence="total_variation"),
        "Wasserstein, squared": by_recipe(divergence="wasserstein"),
    },
    "Terms beside KL, at weight 1": {
        "forward KL under the teacher's prefixes": by_recipe(**FORWARD),
        "total variation under the teacher's prefixes": by_recipe(weights={"drafting": 1.0}),
        "the teacher's features": by_recipe(weights={"features": 1.0}),
        "latent reconstruction": by_recipe(weights={"latent": 1.0}),
        "sample reconstruction": by_recipe(weights={"reconstruction": 1.0}),
    },
    "Balances of KL and forward KL": {
        "scheduled: forward KL from 1 to 0": by_recipe(
            **FORWARD, balance="scheduled", schedules={"forward": ((0, 1.0), (300, 0.0))}
        ),
        "target: KL held at 0.1": by_recipe(**FORWARD, balance="target", target_nats=0.1),
        "equal gradient norms": by_recipe(**FORWARD, balance="gradients"),
        "learnt uncertainty": by_recipe(**FORWARD, balance="uncertainty"),
    },
    "Teachers": {
        "two, mixed at every step": mixed,
        "two, log-linear": log_linear,
        "one that goes on learning": by_recipe(teacher_averaging=0.99),
    },
}


def teachers(data: Tensor) -> tuple[WaveNet, WaveNet]:
    """The teacher, and a sibling from another start."""
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model, _ = fit(
            WaveNet(TEACHER),
            data,
            max_steps=1500,
            batch_size=BATCH,
            clip_samples=NUM_STEPS,
            learning_rate=4e-3,
            averaging=0.99,
            precision="float32",
            seed=seed,
        )
        made.append(model)
    return made[0], made[1]


def trained(
    objective: Objective, student: IAFWaveNet, data: Tensor, seconds: float, seed: int
) -> tuple[IAFWaveNet, int]:
    """The student's average after so many seconds of processor time, and its steps."""
    generator = torch.Generator().manual_seed(seed)
    average = copy.deepcopy(student)
    parameters = [*student.parameters(), *objective.learned()]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, betas=(0.9, 0.99))
    begin, step, share = time.process_time(), 0, 0.0
    while share < 1:
        x = data[torch.randint(len(data), (BATCH,), generator=generator)]
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (
            0.02 + 0.49 * (1 + math.cos(math.pi * share))
        )
        optimizer.zero_grad()
        objective(x, generator=generator).total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        decay = min(0.99, step / (step + 10))
        with torch.no_grad():
            for old, new in zip(average.parameters(), student.parameters(), strict=True):
                old.lerp_(new, 1 - decay)
        share = (time.process_time() - begin) / seconds
    return average.eval(), step


@torch.no_grad()
def measured(student: IAFWaveNet, teacher: WaveNet, sound: Tensor) -> dict[str, float]:
    """The student against the teacher; `sound` is drawn from the teacher."""
    generator = torch.Generator().manual_seed(1234)
    noise = standard_noise(student.base, (4096, NUM_STEPS), generator=generator)
    draw = student.rsample(noise)
    laws = teacher.conditionals(draw.x)
    noise_of_sound = native_invert(student, sound, noise_max=20.0).noise
    q = student.laws_along(sound, noise_of_sound)
    p = teacher.conditionals(sound)
    return {
        "kl_nats": float(KL(32)(draw.conditionals, laws, generator=generator).mean()),
        "forward_kl_nats": float(ForwardKL(32)(q, p, generator=generator).mean()),
        "tv": float(TotalVariation(32)(draw.conditionals, laws, generator=generator).mean()),
        "coverage": coverage(draw.x, sound),
        "std_over_teacher": float(draw.x.std() / sound.std()),
    }


def gradient_variance(teacher: WaveNet, student: IAFWaveNet) -> dict[str, float]:
    """Summed variance of KL's gradient over 40 draws: full over path-wise."""
    variance = {}
    for name, path_wise in (("full", False), ("path_wise", True)):
        kl = StepDivergence(KL(1, path_wise=path_wise))
        objective = Objective(teacher, student, {"kl": kl})
        gradients = []
        for seed in range(40):
            generator = torch.Generator().manual_seed(seed)
            student.zero_grad()
            objective(None, shape=(16, NUM_STEPS), generator=generator).total.backward()
            gradients.append(
                torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])
            )
        variance[name] = float(torch.stack(gradients).var(0).sum())
    return variance


def main() -> None:
    """Run all, print the table, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of processor time a student")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = paths(20_000, torch.Generator().manual_seed(0))
    teacher, sibling = teachers(data)
    noise = standard_noise(
        teacher.base, (4096, NUM_STEPS), generator=torch.Generator().manual_seed(99)
    )
    sound = native(teacher, noise)
    figures: dict[str, object] = {
        "machine": describe_machine(),
        "commit": wavestill_commit(),
        "command": "python benchmarks/objectives.py "
        f"--seconds {arguments.seconds:g} --seeds {arguments.seeds}",
        "teacher_coverage": coverage(sound, data),
    }
    rows: dict[str, dict[str, dict[str, list[float]]]] = {}
    for group, settings in SETTINGS.items():
        rows[group] = {}
        for name, build in settings.items():
            columns: dict[str, list[float]] = {}
            for seed in range(arguments.seeds):
                torch.manual_seed(seed)
                student = IAFWaveNet(STUDENT)
                student.calibrate(data)
                objective = build(teacher, sibling, student)
                average, steps = trained(objective, student, data, arguments.seconds, seed)
                row = measured(average, teacher, sound) | {"steps": float(steps)}
                for key, value in row.items():
                    columns.setdefault(key, []).append(value)
                if name == "KL" and seed == 0:
                    figures["gradient_variance"] = gradient_variance(teacher, average)
            rows[group][name] = columns
            cells = ", ".join(
                f"{key} {statistics.mean(values):.4g}" for key, values in columns.items()
            )
            print(f"{name}: {cells}", flush=True)
    figures["rows"] = rows
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""A teacher that keeps learning while its student follows: KL over time.

python examples/09_moving_teacher.py [--steps 1200] [--out moving_teacher.png]

A teacher need not be finished before it is distilled. Here one learns a ringing process from its
first step on, and the student is held against its moving average all the while; beside it, the
same student of the same teacher at rest once that has learnt. Both are held against the teacher
they have at that moment, and against the process itself. About two minutes on one core.
"""

import argparse

import matplotlib.pyplot as plt
import torch

import wavestill
from wavestill.distillation import MovingTeacher, Objective, StepDivergence
from wavestill.divergences import KL
from wavestill.known_truth import GaussianAR2

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=1200, help="of the student")
parser.add_argument("--averaging", type=float, default=0.99, help="of the moving teacher")
parser.add_argument("--out", default="moving_teacher.png", help="the plot")
options = parser.parse_args()

process = GaussianAR2(0.9, 0.6, innovation_std=0.1)
train = process.sample(64, 2000, torch.Generator().manual_seed(0))
LENGTH, BATCH, SKIP = 200, 8, 50


def fresh_teacher() -> wavestill.WaveNet:
    """A small Gaussian WaveNet that knows the level of the data and nothing else."""
    torch.manual_seed(0)
    shape = wavestill.WaveNetConfig(
        layers=4,
        dilation_cycle=4,
        residual_channels=16,
        gate_channels=16,
        skip_channels=16,
        head="gaussian",
    )
    teacher = wavestill.WaveNet(shape)
    teacher.calibrate(train)
    return teacher


def crops(generator: torch.Generator) -> torch.Tensor:
    """A batch of stretches of the process."""
    rows = torch.randint(len(train), (BATCH, 1), generator=generator)
    starts = torch.randint(train.shape[1] - LENGTH, (BATCH, 1), generator=generator)
    return train[rows, starts + torch.arange(LENGTH)]


@torch.no_grad()
def figures(objective: Objective) -> tuple[float, float]:
    """KL per step from the teacher of the moment, and from the process."""
    draw = objective.student.rsample(torch.randn(16, LENGTH))
    laws = objective.teacher.density.conditionals(draw.x)
    own = KL()(draw.conditionals, laws)[:, SKIP:].mean()
    true = KL()(draw.conditionals[:, 2:], process.conditionals(draw.x))[:, SKIP:].mean()
    return float(own), float(true)


def follow(objective: Objective) -> dict[str, list[float]]:
    """Train the student, and the teacher if it moves; KL every 20 steps."""
    generator = torch.Generator().manual_seed(1)
    parameters = [*objective.student.parameters(), *objective.learned()]
    optimizer = torch.optim.Adam(parameters, lr=5e-3, betas=(0.9, 0.99))
    curves: dict[str, list[float]] = {"step": [], "teacher": [], "process": []}
    for step in range(options.steps + 1):
        if step % 20 == 0:
            own, true = figures(objective)
            for name, value in (("step", step), ("teacher", own), ("process", true)):
                curves[name].append(value)
        optimizer.param_groups[0]["lr"] = 5e-3 * max(0.05, 1 - step / options.steps)
        optimizer.zero_grad()
        objective(crops(generator)).total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return curves


def fresh_student() -> wavestill.IAFWaveNet:
    """A student at the level of the data."""
    torch.manual_seed(1)
    shape = wavestill.IAFWaveNetConfig((4, 4), dilation_cycle=4, channels=16, base="normal")
    student = wavestill.IAFWaveNet(shape)
    student.calibrate(train)
    return student


terms = {"kl": StepDivergence(KL(), skip_samples=SKIP, cap_nats=20.0)}
live = fresh_teacher()
moving = MovingTeacher(live, averaging=options.averaging)
together = follow(Objective(fresh_teacher(), fresh_student(), terms, moving=moving))
at_rest = follow(Objective(live, fresh_student(), terms))

figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
for axis, versus in zip(axes, ("teacher", "process"), strict=True):
    for name, curves in (("teacher that learns", together), ("the same, at rest", at_rest)):
        axis.semilogy(curves["step"], curves[versus], label=name)
    axis.set(xlabel="steps of the student", title=f"KL from the {versus}")
axes[0].set_ylabel("nats per sample")
axes[0].legend()
figure.savefig(options.out, dpi=150)
for name, curves in (("teacher that learns", together), ("the same, at rest", at_rest)):
    print(
        f"{name:20} KL from the teacher {curves['teacher'][-1]:.5f}, "
        f"from the process {curves['process'][-1]:.5f} nats per sample"
    )
print(f"wrote {options.out}")

"""What each divergence makes of two modes: one logistic law fitted to a mixture, six times.

python examples/08_divergences.py [--weight 0.7] [--distance 4] [--out divergences.png]

A student's step is one location-scale law, its teacher's may have several modes. Which compromise
is struck depends on the divergence alone; here is each one's optimum, found from the teacher's own
mean and spread, with the value of all the others beside it. A few seconds.
"""

import argparse
import math

import matplotlib.pyplot as plt
import torch

from wavestill.distributions import Logistic, Mixture
from wavestill.divergences import (
    KL,
    Divergence,
    ForwardKL,
    JensenShannon,
    Renyi,
    SquaredWasserstein,
    TotalVariation,
)

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--weight", type=float, default=0.7, help="of the right mode, in (0, 1)")
parser.add_argument("--distance", type=float, default=4.0, help="between the modes")
parser.add_argument("--out", default="divergences.png", help="the plot")
options = parser.parse_args()

logits = torch.tensor([1 - options.weight, options.weight]).double().log()
loc = torch.tensor([-0.5, 0.5], dtype=torch.float64) * options.distance
teacher = Mixture(logits, Logistic(loc, torch.full((2,), math.log(0.4), dtype=torch.float64)))

divergences: dict[str, Divergence] = {
    "KL(student‖teacher)": KL(256),
    "KL(teacher‖student)": ForwardKL(256),
    "Jensen–Shannon": JensenShannon(num_points=256),
    "Rényi, order 1/2": Renyi(num_points=256),
    "total variation": TotalVariation(256),
    "Wasserstein, squared": SquaredWasserstein(256),
}


def best(divergence: Divergence) -> Logistic:
    """The law nearest to the teacher, from the teacher's moments on."""
    loc = teacher.mean.clone().requires_grad_()
    log_scale = (0.5 * (3 * teacher.variance).log() - math.log(math.pi)).requires_grad_()
    optimizer = torch.optim.Adam([loc, log_scale], lr=0.02)
    for _ in range(600):
        optimizer.zero_grad()
        divergence(Logistic(loc, log_scale), teacher).backward()
        optimizer.step()
    return Logistic(loc.detach(), log_scale.detach())


x = torch.linspace(-6, 6, 500, dtype=torch.float64)
figure, axes = plt.subplots(2, 3, figsize=(11, 5), sharex=True, sharey=True)
print(f"{'optimum of':22}" + "".join(f"{name:>22}" for name in divergences))
for axis, (name, divergence) in zip(axes.flat, divergences.items(), strict=True):
    law = best(divergence)
    values = [float(other(law, teacher)) for other in divergences.values()]
    print(f"{name:22}" + "".join(f"{value:22.3f}" for value in values))
    covered = law.cdf(torch.zeros(())).item()
    axis.fill_between(x, teacher.log_prob(x).exp(), color="0.85", label="teacher")
    axis.plot(x, law.log_prob(x).exp(), color="C0", label="student")
    axis.set_title(name, fontsize=10)
    axis.text(0.02, 0.92, f"left of 0: {covered:.2f}", transform=axis.transAxes, fontsize=8)
axes[0, 0].legend(frameon=False, fontsize=8, loc="upper right")
axes[0, 0].text(
    0.02, 0.84, f"teacher: {1 - options.weight:.2f}", transform=axes[0, 0].transAxes, fontsize=8
)
for axis in axes[:, 0]:
    axis.set_ylabel("density")
figure.suptitle("One law for two modes: the optimum of each divergence")
figure.tight_layout()
figure.savefig(options.out, dpi=120)
print(f"wrote {options.out}")

"""A density of vectors with eight modes: what one pass can draw, and what it costs in nats.

python examples/05_vectors.py [--steps 1500] [--out runs/vectors.png]

A masked autoregressive flow learns a ring of eight normals. Three students of it are distilled:
affine maps in one order, whose first coordinate is normal whatever they learn; splines in one
order; and the mirror image of the teacher, affine maps whose order alternates. Printed for each:
both KL divergences, the mass of every mode, and what its draws are worth as the teacher's. Under
four minutes on two cores.
"""

import argparse
import math
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import wavestill
from wavestill.models.distilled import Distilled
from wavestill.models.flows import IAF, PermutedIAF, PermutedMAF

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=1500, help="steps of each student")
parser.add_argument("--out", type=Path, default=Path("runs/vectors.png"), help="the picture")
options = parser.parse_args()

angle = torch.arange(8) / 8 * 2 * math.pi
centres = 2.5 * torch.stack([angle.cos(), angle.sin()], 1)
generator = torch.Generator().manual_seed(0)
mode = torch.randint(8, (20_000,), generator=generator)
x = centres[mode] + 0.25 * torch.randn(20_000, 2, generator=generator)

torch.manual_seed(0)
teacher, history = wavestill.fit(PermutedMAF(2, num_flows=5), x, max_steps=2000)
print(f"teacher: {2 * min(history.column('valid_nats')):.3f} nats on held-out data")


def masses(x: torch.Tensor) -> torch.Tensor:
    """Share of the draws nearest to each centre."""
    return torch.bincount(torch.cdist(x, centres).argmin(1), minlength=8) / len(x)


students = {
    "affine, one order": IAF(2, num_flows=3),
    "splines, one order": IAF(2, num_flows=4, bins=8),
    "mirror image": PermutedIAF(2, num_flows=5),
}
NUM = 100_000
samples = teacher.sample(NUM)
true_masses = masses(samples)
log_p = torch.cat([teacher.log_prob(rows).detach() for rows in samples.split(10_000)])
print("modes of the teacher        ", " ".join(f"{mass:.3f}" for mass in true_masses))
for name, student in students.items():
    begun = time.monotonic()
    # The affine one cannot reach every mode: forward KL would smear it over all of them.
    weight = 0.0 if name == "affine, one order" else None
    wavestill.distill(teacher, student, max_steps=options.steps, forward_weight=weight)
    seconds = time.monotonic() - begun
    both = Distilled(teacher, student)
    draws = both.weigh(NUM)
    log_ratio = -draws.log_weights
    forward = (log_p - both.log_prob(samples, of="student")).mean()
    print(
        f"{name:20s} {seconds:4.0f} s   KL(q||p) {log_ratio.mean():.4f}   KL(p||q) {forward:.4f}"
        f"   effective {draws.effective_sample_size / NUM:6.1%}   k-hat {draws.k_hat:5.2f}"
    )
    print("   its modes                ", " ".join(f"{mass:.3f}" for mass in masses(draws.x)))

axis = torch.linspace(-3.6, 3.6, 240)
grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
figure, axes = plt.subplots(2, 4, figsize=(12, 6), layout="constrained", height_ratios=(3, 1))
for (above, below), (name, model) in zip(
    axes.T, {"teacher": teacher, **students}.items(), strict=True
):
    with torch.no_grad():
        density = model.log_prob(grid).exp().reshape(240, 240)
    above.imshow(density, origin="lower", extent=(-3.6, 3.6, -3.6, 3.6), vmax=0.35, cmap="magma")
    above.set(title=name, xticks=[], yticks=[])
    below.fill_between(axis, density.sum(0) * float(axis[1] - axis[0]), color="0.6")
    below.set(xlabel="first coordinate", yticks=[], xlim=(-3.6, 3.6), ylim=(0, 0.5))
options.out.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(options.out, dpi=120)
print(f"wrote {options.out}")

"""A process whose entropy is known: how close do teacher and student come, in nats?

python examples/01_known_truth.py [--radius 0.95] [--angle 0.6] [--out known_truth.png]

A Gaussian AR(2) process rings at a known frequency and has a known entropy rate. A WaveNet is
fitted to it, a student is distilled from the WaveNet, and both are held against the truth: in
nats, and by the spectra of their samples. Under two minutes on two cores.
"""

import argparse
import math

import matplotlib.pyplot as plt
import torch

import wavestill
from wavestill.divergences import KL
from wavestill.known_truth import GaussianAR2

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--radius", type=float, default=0.95, help="pole radius in [0, 1)")
parser.add_argument("--angle", type=float, default=0.6, help="pole angle in radians per sample")
parser.add_argument("--out", default="known_truth.png", help="the plot")
options = parser.parse_args()

process = GaussianAR2(options.radius, options.angle, innovation_std=0.1)
generator = torch.Generator().manual_seed(0)
train, held_out = process.sample(64, 5000, generator), process.sample(32, 5000, generator)

torch.manual_seed(0)
shape = wavestill.WaveNetConfig(
    layers=5,
    dilation_cycle=5,
    residual_channels=16,
    gate_channels=16,
    skip_channels=32,
    head="gaussian",
    predictor_order=16,  # under the means, as for speech
)
teacher, _ = wavestill.fit(
    wavestill.WaveNet(shape),
    train,
    max_steps=800,
    batch_size=8,
    clip_samples=500,
    learning_rate=5e-3,
    averaging=0.99,
)
shape = wavestill.IAFWaveNetConfig((6, 6, 6), dilation_cycle=6, channels=16, base="normal")
student, _ = wavestill.distill(
    teacher,
    wavestill.IAFWaveNet(shape),
    length=400,
    batch_size=6,
    max_steps=2000,
    learning_rate=1e-2,
    averaging=0.99,
)

with torch.no_grad():
    skip = 200  # beyond both receptive fields
    true_nll = -process.conditionals(held_out)[:, skip - 2 :].log_prob(held_out[:, skip:]).mean()
    teacher_nll = -teacher.conditionals(held_out)[:, skip:].log_prob(held_out[:, skip:]).mean()
    draw = student.rsample(torch.randn(32, 5000))
    laws = teacher.conditionals(draw.x)
    divergence = KL()(draw.conditionals, laws)[:, skip:].mean()
    samples = {
        "the process": held_out,
        "teacher, one step at a time": teacher.sample(32, length=2000),
        "student, all steps at once": draw.x,
    }

print(f"entropy rate                  {process.entropy_rate:9.5f} nats per sample (exact)")
print(f"true law on held-out data     {true_nll:9.5f}")
print(f"teacher on the same data      {teacher_nll:9.5f}   {teacher_nll - true_nll:+.5f}")
print(f"KL(student || teacher)        {divergence:9.5f}")

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for name, x in samples.items():
    window = torch.hann_window(500)
    spectrum = torch.stft(x, 500, window=window, center=False, return_complex=True)
    power_db = 10 * spectrum.abs().square().mean((0, 2)).log10()
    axes.plot(torch.linspace(0, math.pi, 251), power_db, label=name)
axes.set(
    xlabel="radians per sample",
    ylabel="power, dB",
    title="Spectra of the process and of its models",
)
axes.legend()
figure.savefig(options.out, dpi=150)
print(f"wrote {options.out}")

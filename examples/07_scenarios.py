"""A hundred thousand scenarios of a volatile market: its tail risk, fast and corrected.

python examples/07_scenarios.py [--volatility 1.6] [--out runs/scenarios.png]

Ten days of returns of a simulated stochastic-volatility process follow today's volatility. A
masked autoregressive flow learns their density under it: the teacher, which draws day by day. A
student draws whole paths in one pass, and the teacher's density weighs them. Printed: value at
risk and expected shortfall of the ten-day return, of the process itself, of the teacher's own
draws, of the student, and of the student weighed; and how long each took. Under four minutes on
two cores.
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import wavestill
from wavestill.models.distilled import Distilled
from wavestill.models.flows import PermutedIAF, PermutedMAF

DAYS, LEVEL, NUM_PATHS = 10, 0.01, 100_000

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--volatility", type=float, default=1.6, help="today's, over its median")
parser.add_argument("--out", type=Path, default=Path("runs/scenarios.png"), help="the picture")
options = parser.parse_args()


def simulate(log_volatility: Tensor, generator: torch.Generator) -> Tensor:
    """Returns in per cent, `(N, DAYS)`: h' = 0.95 h + 0.25 e, r = e^h (0.9 n - 0.4 e)."""
    returns, h = [], log_volatility
    for _ in range(DAYS):
        shock, noise = torch.randn(2, len(h), generator=generator)
        h = 0.95 * h + 0.25 * shock
        returns.append(h.exp() * (0.9 * noise - 0.4 * shock))  # falls come with rising volatility
    return torch.stack(returns, 1)


def tail_risk(paths: Tensor, weights: Tensor | None = None) -> tuple[float, float, float]:
    """Value at risk, expected shortfall and the latter's standard error, per cent lost."""
    loss, order = (-paths.sum(1)).sort(descending=True)
    weights = torch.ones_like(loss) if weights is None else weights[order].to(loss.dtype)
    weights = weights / weights.sum()
    is_tail = weights.cumsum(0) <= LEVEL
    value_at_risk = loss[is_tail][-1]
    excess = (loss - value_at_risk).clamp_min(0) / LEVEL  # ES = VaR + E (L - VaR)+ / level
    shortfall = value_at_risk + (weights * excess).sum()
    error = (weights * (excess - (weights * excess).sum())).square().sum().sqrt()
    return float(value_at_risk), float(shortfall), float(error)


generator = torch.Generator().manual_seed(0)
volatility = 0.8 * torch.randn(30_000, 1, generator=generator)  # the process's own spread
data = simulate(volatility[:, 0], generator)
torch.manual_seed(0)
teacher, _ = wavestill.fit(
    PermutedMAF(DAYS, 1, num_flows=4), (data, volatility), max_steps=2500, learning_rate=3e-3
)
student, _ = wavestill.distill(
    teacher, PermutedIAF(DAYS, 1, num_flows=4), (None, volatility), max_steps=2500
)

today = torch.tensor([[options.volatility]]).log()
both = Distilled(teacher, student)
found, seconds = {}, {}


def clocked(name: str, draw: object) -> Tensor:
    """What `draw` returns, its time noted."""
    begun = time.monotonic()
    result = draw()  # type: ignore[operator]
    seconds[name] = time.monotonic() - begun
    return result


def textbook(num: int) -> Tensor:
    """The teacher's draws by the textbook: a whole pass of every map for every day."""
    with torch.enable_grad():
        z = torch.randn(num, DAYS)
        v = teacher.stack.inverse(z, today.expand(num, 1))[0].detach()
    return teacher.loc + teacher.log_scale.exp() * v


true_paths = simulate(today[0].expand(NUM_PATHS), generator)
found["the process itself"] = tail_risk(true_paths)
parts = [1000] * (NUM_PATHS // 1000)
slow = clocked("teacher, pass by pass", lambda: torch.cat([textbook(num) for num in parts]))
found["teacher, pass by pass"] = tail_risk(slow)
own = clocked("teacher, cached", lambda: torch.cat([teacher.sample(n, today) for n in parts]))
found["teacher, cached"] = tail_risk(own)
fast = clocked("student", lambda: torch.cat([student.sample(num, today) for num in parts]))
found["student"] = tail_risk(fast)
draws = clocked("student, weighed", lambda: both.weigh(NUM_PATHS, today, temperature=1.2))
found["student, weighed"] = tail_risk(draws.x, draws.smoothed.exp())

print(f"{NUM_PATHS} paths of {DAYS} days, volatility {options.volatility} x its median")
for name, (value_at_risk, shortfall, error) in found.items():
    took = f"{seconds[name]:6.2f} s" if name in seconds else ""
    risk = f"VaR {value_at_risk:6.2f} %   shortfall {shortfall:6.2f} ± {error:.2f} %"
    print(f"{name:22s} {risk}   {took}")
share = draws.effective_sample_size / NUM_PATHS
slowest = seconds["teacher, pass by pass"]
print(f"effective {share:.1%} of the draws, k-hat {draws.k_hat:.2f}")
print(
    f"the student is {slowest / seconds['student']:.0f} x as fast as its teacher, "
    f"{slowest / seconds['student, weighed']:.0f} x with its weights"
)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
left.plot(torch.cat([torch.zeros(40, 1), fast[:40].cumsum(1)], 1).T, color="0.6", linewidth=0.8)
left.set(xlabel="days", ylabel="return so far, %", title="Scenarios of the student")
even = torch.ones(NUM_PATHS)
for name, (paths, weights) in {
    "process": (true_paths, even),
    "teacher": (own, even),
    "student": (fast, even),
    "student, weighed": (draws.x, draws.smoothed.exp()),
}.items():
    loss, order = (-paths.sum(1)).sort(descending=True)
    right.loglog(loss.clamp_min(1), weights[order].cumsum(0) / weights.sum(), label=name)
right.axhline(LEVEL, color="0.7", linewidth=0.8)
right.set(xlabel="loss in ten days, %", ylabel="probability of a greater loss", xlim=(5, 100))
right.set(title="Tail of the ten-day loss", ylim=(1e-5, 0.3))
right.legend()
options.out.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(options.out, dpi=120)
print(f"wrote {options.out}")

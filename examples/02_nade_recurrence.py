"""What NADE's recurrence buys: a likelihood and a sample in O(n d), against O(n² d).

python examples/02_nade_recurrence.py [--hidden 256] [--vectors 16] [--longest 8192]
    [--out runs/nade.png]

The hidden sum before each dimension is the one before plus a column. The textbook computes each
from its definition instead; both give the same numbers, which is checked here to rounding. Times
are processor time of one core. Under two minutes.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from wavestill.models.nade import NADE, NADEConfig
from wavestill.sampling import cached, standard_noise

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--hidden", type=int, default=256, help="hidden units d")
parser.add_argument("--vectors", type=int, default=16, help="vectors at once")
parser.add_argument("--longest", type=int, default=8192, help="most dimensions n, at least 1024")
parser.add_argument("--out", type=Path, default=Path("runs/nade.png"), help="the plot")
options = parser.parse_args()
if options.longest < 1024:
    parser.error(f"--longest is {options.longest}; slopes need at least 1024")


def cpu_seconds(work: Callable[[], object]) -> float:
    """Processor time of the quickest of up to five calls, or of those that fit in two seconds."""
    seconds: list[float] = []
    while len(seconds) < 5 and sum(seconds) < 2:
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


torch.set_num_threads(1)
torch.set_grad_enabled(False)
torch.manual_seed(0)
sizes = [2**k for k in range(7, int(math.log2(options.longest)) + 1)]
seconds: dict[str, list[float]] = {}
for n in sizes:
    model = NADE(NADEConfig(num_dims=n, num_hidden=options.hidden))
    noise = standard_noise(model.base, (options.vectors, n))
    x = cached(model, noise)
    assert torch.equal(x, model.textbook_sample(noise)), "one map, two ways to compute it"
    laws, textbook = model.conditionals(x), model.textbook_conditionals(x)
    torch.testing.assert_close(laws.log_prob(x), textbook.log_prob(x), rtol=1e-4, atol=1e-4)
    for name, work in {
        "likelihood, recurrence": partial(model.conditionals, x),
        "likelihood, textbook": partial(model.textbook_conditionals, x),
        "sampling, recurrence": partial(cached, model, noise),
        "sampling, textbook": partial(model.textbook_sample, noise),
    }.items():
        seconds.setdefault(name, []).append(cpu_seconds(work))

figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
for panel, task in zip(axes, ("likelihood", "sampling"), strict=True):
    for way, colour in (("textbook", "C3"), ("recurrence", "C0")):
        times = seconds[f"{task}, {way}"]
        # The slope of the last two doublings, where constant costs of a step weigh least.
        slope = math.log2(times[-1] / times[-3]) / 2
        panel.loglog(sizes, times, "o-", color=colour, label=f"{way}: slope {slope:.2f}")
        print(f"{task:10} {way:10} slope {slope:.2f}; {times[-1]:8.4f} s at n = {sizes[-1]}")
    ratio = seconds[f"{task}, textbook"][-1] / seconds[f"{task}, recurrence"][-1]
    print(f"{task:10} the recurrence is {ratio:.1f} times faster at n = {sizes[-1]}")
    panel.set(title=f"{task}: {ratio:.0f} × faster at n = {sizes[-1]}", xlabel="dimensions n")
    panel.set_xticks(sizes, [str(n) for n in sizes], minor=False)
    panel.minorticks_off()
    panel.legend()
axes[0].set_ylabel(f"seconds for {options.vectors} vectors, d = {options.hidden}")
options.out.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(options.out, dpi=150)
print(f"wrote {options.out}")

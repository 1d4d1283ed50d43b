"""Paths in a double well, which jump now and then: a process whose modes can be counted."""

import torch
from torch import Tensor

NUM_STEPS = 48
STAYS = 0.95
NOISE_STD = 0.25


def paths(num: int, generator: torch.Generator) -> Tensor:
    r"""Independent paths `(num, NUM_STEPS)` from the hilltop between the wells at -1 and 1.

    .. math:: x_{t+1} = \pm x_t + 0.3 \, (\pm x_t) (1 - x_t^2) + 0.25 \, e_t

    with the sign turned once in twenty steps: a step's law has two modes, a path's very many.
    """
    noise = NOISE_STD * torch.randn(NUM_STEPS, num, generator=generator)
    stays = torch.rand(NUM_STEPS, num, generator=generator) < STAYS
    rows = [noise[0]]
    for e, stay in zip(noise[1:], stays[1:], strict=True):
        x = torch.where(stay, rows[-1], -rows[-1])
        rows.append(x + 0.3 * x * (1 - x.square()).clamp_min(-2) + e)
    return torch.stack(rows, 1)


def modes(x: Tensor) -> Tensor:
    """Share of the paths in each of 8 modes: the wells they are in at three times, `(8,)`."""
    times = (NUM_STEPS // 3 - 1, 2 * NUM_STEPS // 3 - 1, NUM_STEPS - 1)
    index = sum((x[:, time] > 0).long() * 2**k for k, time in enumerate(times))
    return torch.bincount(torch.as_tensor(index), minlength=8) / len(x)


def coverage(x: Tensor, reference: Tensor) -> float:
    """Mass that both have in each mode, summed: 1 for the same shares, 1/8 for one mode alone."""
    return float(torch.minimum(modes(x), modes(reference)).sum())

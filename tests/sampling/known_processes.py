"""Processes whose law is known in full, as teachers and as students of any quality."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wavestill.density import Draw
from wavestill.distributions import (
    Discretized,
    Distribution,
    Logistic,
    Mixture,
    MuLaw,
    Normal,
    standard_noise,
)

Rule = Callable[[Tensor, Tensor], Distribution]
"""From the last sample and the one before it, `(B, n)` each, to the law of the next."""


@dataclass
class Tape:
    """All samples of each stream, behind two of silence, each stream at its own end."""

    values: Tensor
    ends: Tensor
    calls: list[int] = field(default_factory=list)

    @classmethod
    def silence(cls, like: Tensor) -> "Tape":
        ends = torch.full((len(like),), 2, dtype=torch.long)
        return cls(like.new_zeros(len(like), 2), ends)

    def extend(self, x: Tensor) -> Tensor:
        """Append `x (B, n)`; the last two before each, and `x`: `(B, n + 2)`."""
        batch, n = x.shape
        here = self.ends.unsqueeze(1) + torch.arange(-2, n)
        missing = int(here.max()) + 1 - self.values.shape[1]
        if missing > 0:
            self.values = torch.cat([self.values, x.new_zeros(batch, missing)], 1)
        self.values.scatter_(1, here[:, 2:], x)
        self.ends = self.ends + n
        self.calls.append(n)
        return self.values.gather(1, here)

    def rewind(self, num_steps: int | Tensor) -> None:
        assert int(torch.as_tensor(num_steps).min()) >= 0
        assert int(torch.as_tensor(num_steps).max()) <= self.calls[-1]
        self.ends = self.ends - num_steps

    def select(self, index: Tensor) -> None:
        self.values, self.ends = self.values[index], self.ends[index]


class KnownTeacher:
    """An autoregressive process, `x_t ~ rule(x_{t-1}, x_{t-2})` from silence."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.base = rule(torch.zeros(1, 1), torch.zeros(1, 1)).base

    def conditionals(self, x: Tensor, context: None = None) -> Distribution:
        padded = torch.nn.functional.pad(x, (2, 0))
        return self.rule(padded[:, 1:-1], padded[:, :-2])

    def advance(
        self, x_new: Tensor, context: None = None, state: Tape | None = None
    ) -> tuple[Distribution, Tape]:
        if state is None:
            state = Tape.silence(x_new)
            padded = state.extend(x_new)
            return self.rule(padded[:, 1:], padded[:, :-1]), state
        padded = state.extend(x_new)
        return self.rule(padded[:, 2:], padded[:, 1:-1]), state

    def log_prob(self, x: Tensor, context: None = None) -> Tensor:
        return self.conditionals(x).log_prob(x).sum(-1)

    def sample(self, num: int, context: None = None, *, length: int, seed: int = 0) -> Tensor:
        """Ancestral samples, a step at a time."""
        generator = torch.Generator().manual_seed(seed)
        noise = standard_noise(self.base, (num, length), generator=generator, dtype=torch.float64)
        x = torch.zeros(num, length + 2, dtype=torch.float64)
        for t in range(length):
            law = self.rule(x[:, t + 1 : t + 2], x[:, t : t + 1])
            x[:, t + 2] = law.from_noise(noise[:, t : t + 1]).squeeze(1)
        return x[:, 2:]


class KnownStudent:
    """`x_t = mu(x_<t) + s(x_<t) z_t`, with x_<t from z_<t: one location-scale law a step."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.base = rule(torch.zeros(1, 1), torch.zeros(1, 1)).base

    def rsample(self, noise: Tensor, context: None = None) -> Draw:
        return self.stream(noise, context)[0]

    def stream(
        self, noise: Tensor, context: None = None, state: Tape | None = None
    ) -> tuple[Draw, Tape]:
        state = Tape.silence(noise) if state is None else state
        past = state.extend(torch.zeros_like(noise))
        for t in range(noise.shape[1]):
            law = self.rule(past[:, t + 1 : t + 2], past[:, t : t + 1])
            past[:, t + 2] = law.from_noise(noise[:, t : t + 1]).squeeze(1)
        state.rewind(noise.shape[1])
        state.extend(past[:, 2:])
        return Draw(past[:, 2:], noise, self.rule(past[:, 1:-1], past[:, :-2])), state

    def log_prob(self, x: Tensor, context: None = None) -> Tensor:
        padded = torch.nn.functional.pad(x, (2, 0))
        return self.rule(padded[:, 1:-1], padded[:, :-2]).log_prob(x).sum(-1)

    def sample(self, num: int, context: None = None) -> Tensor:
        raise NotImplementedError


# The teachers' rules.


def gaussian_ar2(x1: Tensor, x2: Tensor) -> Normal:
    """A linear process: the sample is Gaussian, its covariance known."""
    loc = 1.2 * x1 - 0.6 * x2
    return Normal(loc, torch.full_like(loc, math.log(0.5)))


def gaussian_ar2_covariance(length: int) -> Tensor:
    """Covariance of `length` steps of `gaussian_ar2` from silence."""
    impulse = torch.zeros(length + 2, dtype=torch.float64)
    impulse[2] = 0.5
    for t in range(3, length + 2):
        impulse[t] = 1.2 * impulse[t - 1] - 0.6 * impulse[t - 2]
    response = torch.zeros(length, length, dtype=torch.float64)
    for t in range(length):
        response[t:, t] = impulse[2 : length + 2 - t]
    return response @ response.T


def bimodal(x1: Tensor, x2: Tensor) -> Mixture:
    """Two logistics a step; where they lie, how wide and how heavy, the past says."""
    turn = torch.tanh(1.5 * x1 - 0.5 * x2)
    loc = torch.stack([0.9 * turn + 0.7, -0.6 * turn - 0.7], -1)
    log_scale = torch.stack([-1.2 + 0.3 * turn, -1.5 + 0.5 * torch.tanh(x2)], -1)
    logits = torch.stack([torch.zeros_like(turn), torch.tanh(x2)], -1)
    return Mixture(logits, Logistic(loc, log_scale))


def normal_mixture(x1: Tensor, x2: Tensor) -> Mixture:
    """The same of two normals, nearer to each other."""
    law = bimodal(x1, x2)
    return Mixture(law.logits, Normal(0.6 * law.components.loc, law.components.log_scale + 0.4))


def on_coarse_grid(x1: Tensor, x2: Tensor) -> Discretized:
    """`bimodal` on the grid -2, -1.5, ..., 2: the open tails weigh."""
    return Discretized(bimodal(x1, x2), 0.5, -2.0, 2.0)


def on_mu_law(x1: Tensor, x2: Tensor) -> MuLaw:
    """Nine levels of unequal width in [-1, 1]."""
    level = torch.arange(9.0, dtype=x1.dtype)
    centre = (4 + 3 * torch.tanh(2 * x1 - x2)).unsqueeze(-1)
    return MuLaw(-0.4 * (level - centre) ** 2 + torch.cos(3 * level))


# The students' rules.


def moment_student(rule: Rule, kind: type[Logistic] | type[Normal], wrong: float = 0.0) -> Rule:
    """A student with the teacher's mean and variance of each step, or `wrong` by so much.

    At 1 it is off by three quarters of the teacher's deviation and twice as wide.
    """
    unit_variance = math.pi**2 / 3 if kind is Logistic else 1.0

    def student(x1: Tensor, x2: Tensor) -> Distribution:
        law = rule(x1, x2)
        law = law.continuous if isinstance(law, Discretized) else law
        std = law.variance.sqrt()
        loc = law.mean + 0.75 * wrong * std * torch.cos(3 * x1)
        return kind(loc, torch.log(std / unit_variance**0.5) + wrong * math.log(2))

    return student


def blind_student(kind: type[Logistic] | type[Normal]) -> Rule:
    """A student that sees no past."""
    return lambda x1, _: kind(0.3 + torch.zeros_like(x1), 0.5 + torch.zeros_like(x1))


# The tables.

RULES = {
    "gaussian": gaussian_ar2,
    "bimodal": bimodal,
    "normals": normal_mixture,
    "grid": on_coarse_grid,
    "mu-law": on_mu_law,
}
QUALITIES: dict[str, Callable[..., Rule]] = {
    "good": lambda rule, kind: moment_student(rule, kind, wrong=0.1),
    "mediocre": lambda rule, kind: moment_student(rule, kind, wrong=1.0),
    "bad": lambda rule, kind: blind_student(kind),
}
BASES = {"logistic": Logistic, "normal": Normal}


def known_pair(rule: str, quality: str, base: str) -> tuple[KnownTeacher, KnownStudent]:
    return KnownTeacher(RULES[rule]), KnownStudent(QUALITIES[quality](RULES[rule], BASES[base]))

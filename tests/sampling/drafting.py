"""Drawing by draft and verification in tests, and telling one law of sequences from another."""

import sys
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from tests.models.table import STUDENTS, TEACHERS
from tests.sampling.known_processes import KnownStudent, KnownTeacher, known_pair
from wavestill.distributions import Discretized, Distribution, MuLaw, standard_noise
from wavestill.divergences import stratified_noise
from wavestill.sampling import acceptance
from wavestill.sampling.speculative import Speculation, speculative

ROUNDS = sys.modules["wavestill.sampling.speculative"]  # the package's name is the function's
NUM, T, NUM_SHUFFLES = 4000, 12, 400


def draw(
    teacher: object,
    student: object,
    num: int = NUM,
    length: int = T,
    *,
    seed: int = 1,
    context: object = None,
    window: int | None = 5,
    **options: object,
) -> Speculation:
    noise_source, decisions = (torch.Generator().manual_seed(seed + k) for k in (0, 1000))
    noise = standard_noise(
        student.base, (num, length), generator=noise_source, dtype=torch.float64
    )
    return speculative(
        teacher, student, noise, context, generator=decisions, window=window, **options
    )


@cache
def known_draw(rule: str, quality: str, base: str, *, refine: bool = True) -> Speculation:
    return draw(*known_pair(rule, quality, base), refine=refine)


def laws_at(
    teacher: KnownTeacher, student: KnownStudent, x: Tensor
) -> tuple[Distribution, Distribution, acceptance.Draft]:
    """Laws of all steps after the sample's own prefixes, and what the student's propose."""
    p, q = teacher.conditionals(x), KnownTeacher(student.rule).conditionals(x)
    is_grid = isinstance(p, Discretized | MuLaw)
    return p, q, acceptance.draft_for(q, p if is_grid else None)


def shape_statistics(x: Tensor) -> list[Tensor]:
    """Marginals, products, sums and extremes, `(B,)` each."""
    columns = [x[:, 0], x[:, 1], x[:, x.shape[1] // 2], x[:, -1]]
    columns += [(x[:, 1:] * x[:, :-1]).sum(1), (x[:, 2:] * x[:, :-2]).sum(1)]
    return [*columns, x.sum(1), (x**2).sum(1), x.amax(1), x.amin(1)]


def statistics(teacher: KnownTeacher, student: KnownStudent, x: Tensor) -> Tensor:
    """What tells one law of sequences from another, `(S, B)`.

    The shape; the teacher's likelihood; and how often the student finds a step likelier than the
    teacher does, where errors of the verification add up.
    """
    p, _, draft = laws_at(teacher, student, x)
    log_p = p.log_prob(x)
    log_ratio = draft.log_prob(x) - log_p
    columns = [log_p.sum(1), log_ratio.sum(1), (log_ratio > 0).double().sum(1)]
    return torch.stack(shape_statistics(x) + columns)


def largest_gaps(first: Tensor, second: Tensor) -> Tensor:
    """Two-sample Kolmogorov-Smirnov gaps, the largest of all statistics `(S, B)`.

    Entry 0 is that of the samples, the others are of the pooled streams shuffled: the test's own
    null, dependence between the statistics included.
    """
    num = first.shape[1]
    signs = shuffles(num)
    largest = torch.zeros(NUM_SHUFFLES + 1)
    for pooled in torch.cat([first, second], 1):
        values, order = pooled.sort()
        gaps = signs[:, order].cumsum(1, dtype=torch.int16).abs()
        is_last_of_ties = torch.cat([values[1:] > values[:-1], torch.tensor([True])])
        largest = torch.maximum(largest, gaps[:, is_last_of_ties].amax(1) / num)
    return largest


@cache
def shuffles(num: int) -> Tensor:
    """Row 0 tells the first `num` from the others, the rest do so after shuffling."""
    generator = torch.Generator().manual_seed(99)
    signs = torch.ones(NUM_SHUFFLES + 1, 2 * num, dtype=torch.int8)
    signs[0, num:] = -1
    for row in signs[1:]:
        row[torch.randperm(2 * num, generator=generator)[:num]] = -1
    return signs


@cache
def ancestral(rule: Callable) -> Tensor:
    return KnownTeacher(rule).sample(NUM, length=T, seed=5)


def nearer_than_shuffles(teacher: KnownTeacher, student: KnownStudent, x: Tensor) -> bool:
    """Whether x is nearer to ancestral samples than the farthest of 400 shuffles.

    An exact sampler fails once in 401 tests.
    """
    both = (statistics(teacher, student, sample) for sample in (x, ancestral(teacher.rule)))
    gaps = largest_gaps(*both)
    return bool(gaps[0] < gaps[1:].max())


def favour(teacher: KnownTeacher, student: KnownStudent, x: Tensor) -> float:
    r"""z-score of the steps at which the sample lies where the student is likelier.

    Under the teacher's law :math:`1[q > p](x_t) - P_p(q > p \mid x_{<t})` are martingale
    differences. The probability is :math:`E_q \min(1, p/q) 1[q > p]`, by stratified points.
    """
    p, q, draft = laws_at(teacher, student, x)
    z = stratified_noise(q.base, 8, tuple(x.shape), dtype=torch.float64)
    y = draft.from_noise(z)
    log_ratio = p.log_prob(y) - draft.log_prob(y)
    expected = (log_ratio.exp() * (log_ratio < 0)).mean(0)
    difference = (draft.log_prob(x) > p.log_prob(x)).double() - expected
    return float(difference.sum() / (difference**2).sum().sqrt())


def same_law(teacher: KnownTeacher, student: KnownStudent, x: Tensor) -> bool:
    """Both tests; the second fails once in two thousand."""
    return nearer_than_shuffles(teacher, student, x) and abs(favour(teacher, student, x)) < 3.5


PAIRS = {
    "logistics": "logistic",
    "gaussian": "normal",
    "predictor": "logistic",
    "filter2": "normal",
    "logistics16": "one-flow",
    "mulaw": "normal",
    "mel": "mel",
    "pitch": "pitch",
    "voices": "voices",
    "mel+voices": "mel+voices",
}


def mild_pair(name: str) -> tuple[object, object]:
    """A teacher of the table and a student whose laws noise far out does not drive to infinity.

    Random weights would: a correction may lie a hundred scales from such a student's location.
    """
    teacher, student = TEACHERS[name].model(), STUDENTS[PAIRS[name]].model()
    with torch.no_grad():
        for flow in student.flows:
            flow.output.weight.mul_(0.2)
    return teacher, student

"""Draft and verify: the teacher's law whatever the student, only slower for a worse one."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from tests.models.table import HOP, TEACHERS
from tests.sampling.drafting import (
    NUM,
    ROUNDS,
    T,
    draw,
    known_draw,
    largest_gaps,
    laws_at,
    mild_pair,
    same_law,
    shape_statistics,
)
from tests.sampling.known_processes import (
    BASES,
    QUALITIES,
    RULES,
    KnownTeacher,
    gaussian_ar2_covariance,
    known_pair,
)
from wavestill.density import Conditioning
from wavestill.distributions import Discretized, MuLaw, standard_noise
from wavestill.divergences import TotalVariation
from wavestill.sampling import acceptance, cached
from wavestill.sampling.refinement import Refinement


@pytest.mark.parametrize("refine", [True, False], ids=["refined", "own"])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("rule", RULES)
def test_the_law_is_the_teachers_whatever_the_student(rule, quality, base, refine):
    result = known_draw(rule, quality, base, refine=refine)
    assert same_law(*known_pair(rule, quality, base), result.x)
    assert len(set(result.rounds.tolist())) > 1 or quality == "good"  # positions did part


def test_a_worse_student_is_only_slower():
    rounds = [
        float(known_draw("bimodal", quality, "logistic").rounds.double().mean())
        for quality in QUALITIES
    ]
    assert rounds == sorted(rounds)
    assert rounds[0] > T / 5
    assert rounds[-1] > 1.3 * rounds[0]


@pytest.mark.parametrize("rule", RULES)
def test_five_per_cent_of_slack_would_be_found(monkeypatch, rule):
    monkeypatch.setattr(
        ROUNDS,
        "is_kept",
        lambda log_ratio, keys: acceptance.is_kept(log_ratio + math.log(1.05), keys),
    )
    teacher, student = known_pair(rule, "mediocre", "logistic")
    assert not same_law(teacher, student, draw(teacher, student).x)


@pytest.mark.parametrize("rule", RULES)
def test_a_refinement_that_knows_its_own_noise_would_be_found(monkeypatch, rule):
    class Peeking(Refinement):
        def __init__(self, noise):
            super().__init__(noise)
            self._shift += 0.25 * noise

    monkeypatch.setattr(ROUNDS, "Refinement", Peeking)
    teacher, student = known_pair(rule, "mediocre", "logistic")
    assert not same_law(teacher, student, draw(teacher, student).x)


@pytest.mark.parametrize("rule", RULES)
def test_a_capped_residual_would_be_found(monkeypatch, rule):
    def capped(p, draft, log_ratio, keys):
        """At most two proposals, the last one kept whatever it is."""
        u = acceptance.uniforms(keys, acceptance.TO_PROPOSE, 4)
        first, last = p.icdf(u[0::2])
        excess = p.log_prob(first) - draft.log_prob(first)
        is_first_kept = u[1] < acceptance.rejection_probability(-excess)
        return torch.where(is_first_kept, first, last)

    monkeypatch.setattr(ROUNDS, "draw_residual", capped)
    teacher, student = known_pair(rule, "mediocre", "logistic")
    assert not same_law(teacher, student, draw(teacher, student).x)


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_covariance_of_a_gaussian_process_is_its_own(quality):
    x = known_draw("gaussian", quality, "normal").x
    known = gaussian_ar2_covariance(T)
    measured = x.T @ x / len(x)
    diagonal = known.diagonal()
    deviation = ((diagonal.outer(diagonal) + known**2) / len(x)).sqrt()
    # The largest of 78 standard normals exceeds 4.5 once in two thousand tests.
    assert float(((measured - known) / deviation).abs().max()) < 4.5
    assert float((x.mean(0) / (diagonal / len(x)).sqrt()).abs().max()) < 4.5


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("rule", ["grid", "mu-law"])
def test_pairs_of_grid_points_have_their_known_probabilities(rule, quality, base):
    teacher, x = KnownTeacher(RULES[rule]), known_draw(rule, quality, base).x
    law = teacher.rule(torch.zeros(1, 1).double(), torch.zeros(1, 1).double())
    grid = levels_of(law)
    cells = torch.bucketize(x, 0.5 * (grid[1:] + grid[:-1]))
    assert torch.equal(grid[cells], x)  # on the grid to the bit

    # P(x_{t-1}, x_t), step by step: rows the earlier sample, columns the later.
    start = torch.zeros(1, 1, dtype=torch.float64)
    pairs = torch.zeros(len(grid), len(grid), dtype=torch.float64)
    first = teacher.rule(start, start).log_prob(grid).exp().squeeze()
    given_first = teacher.rule(grid.unsqueeze(1), torch.zeros_like(grid).unsqueeze(1))
    pairs = first.unsqueeze(1) * given_first.log_prob(grid.unsqueeze(0)).exp()
    older, newer = (part.reshape(-1, 1) for part in torch.meshgrid(grid, grid, indexing="ij"))
    step = teacher.rule(newer, older).log_prob(grid.unsqueeze(0)).exp()
    step = step.view(len(grid), len(grid), len(grid))
    for t in range(1, T):
        if t in (1, 2, T - 1):
            counts = torch.zeros_like(pairs)
            index = cells[:, t - 1], cells[:, t]
            counts.index_put_(index, torch.ones(len(x)).double(), accumulate=True)
            expected = len(x) * pairs
            is_large = expected >= 5
            rest = (counts[~is_large].sum(), expected[~is_large].sum())
            observed = torch.cat([counts[is_large], rest[0].view(1)])
            hoped = torch.cat([expected[is_large], rest[1].view(1)])
            assert stats.chisquare(observed, hoped, sum_check=False).pvalue > 1e-3
        pairs = torch.einsum("ab,abc->bc", pairs, step)


def levels_of(law: Discretized | MuLaw) -> Tensor:
    if isinstance(law, Discretized):
        return law.low + law.bin_width * torch.arange(law.num_levels, dtype=torch.float64)
    return law._value(torch.arange(law.num_levels))


@pytest.mark.parametrize("name", ["logistics", "predictor", "pitch"])
def test_models_are_drawn_as_by_ancestral_sampling(name):
    teacher, student = mild_pair(name)
    one = TEACHERS[name].context(1, 1)
    context = None if one is None else Conditioning(one.frames.expand(2000, -1, -1))
    result = draw(teacher, student, 2000, HOP, context=context)
    source = torch.Generator().manual_seed(9)
    noise = standard_noise(teacher.base, (2000, HOP), generator=source, dtype=torch.float64)
    samples = (result.x, cached(teacher, noise, context))
    gaps = largest_gaps(
        *(torch.stack([*shape_statistics(x), teacher.log_prob(x, context)]) for x in samples)
    )
    assert 0.02 < result.tv_per_step < 0.9
    assert float(gaps[0]) < float(gaps[1:].max())


@pytest.mark.parametrize("rule", ["bimodal", "grid"])
def test_noise_held_at_a_bound_does_not_change_the_law(monkeypatch, rule):
    # Corrections beyond half a deviation leave the student with another past than the teacher's.
    monkeypatch.setattr(ROUNDS, "NOISE_MAX", 0.5)
    teacher, student = known_pair(rule, "good", "normal")
    result = draw(teacher, student)
    is_held = result.noise.abs() == 0.5
    assert 0.1 < float(is_held.double().mean()) < 0.5
    assert not bool((is_held & result.accepted).any())
    assert same_law(teacher, student, result.x)


@pytest.mark.parametrize("quality", QUALITIES)
def test_total_variation_is_that_under_the_teachers_prefixes(quality):
    teacher, student = known_pair("bimodal", quality, "logistic")
    result = draw(teacher, student, refine=False)
    p, q, _ = laws_at(teacher, student, result.x)
    exact = TotalVariation(16)(q, p, generator=torch.Generator().manual_seed(0)).mean(1)
    error = (result.total_variation.mean(1) - exact).std() / NUM**0.5
    assert abs(result.tv_per_step - float(exact.mean())) < 4 * float(error)
    coin = (~result.accepted).double().mean(1)
    assert abs(float((coin - exact).mean())) < 4 * float((coin - exact).std()) / NUM**0.5
    assert float(result.total_variation.std()) < float((~result.accepted).double().std())

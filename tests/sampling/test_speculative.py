"""Draft and verify: what it costs, where states are cut, and what is refused."""

import math

import pytest
import torch

from tests.models.table import HOP, STUDENTS, TEACHERS
from tests.sampling.drafting import NUM, PAIRS, ROUNDS, T, draw, mild_pair
from tests.sampling.known_processes import (
    BASES,
    QUALITIES,
    RULES,
    KnownStudent,
    KnownTeacher,
    bimodal,
    gaussian_ar2,
    known_pair,
    moment_student,
    on_mu_law,
)
from wavestill.distributions import Discretized, MuLaw, Normal, standard_noise
from wavestill.sampling import acceptance
from wavestill.sampling.speculative import best_window, speculative


@pytest.mark.parametrize("rule", ["gaussian", "bimodal", "grid", "mu-law"])
def test_windows_do_not_change_the_sample_of_the_students_own_drafts(rule):
    teacher, student = known_pair(rule, "mediocre", "logistic")
    whole = draw(teacher, student, 4, 24, refine=False)
    for window in (1, 9, 24, None):
        other = draw(teacher, student, 4, 24, window=window, refine=False)
        torch.testing.assert_close(other.x, whole.x, rtol=1e-9, atol=1e-9)
        assert torch.equal(other.accepted, whole.accepted)


@pytest.mark.parametrize("refine", [False, True], ids=["own", "refined"])
@pytest.mark.parametrize("rule", ["gaussian", "bimodal", "grid", "mu-law"])
def test_batches_do_not_change_the_sample(rule, refine):
    teacher, student = known_pair(rule, "mediocre", "logistic")
    whole = draw(teacher, student, 4, 24, refine=refine)
    decisions = torch.Generator().manual_seed(1001)
    noise = standard_noise(
        student.base, (4, 24), generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    alone = [
        speculative(teacher, student, own, generator=decisions, window=5, refine=refine)
        for own in noise.split(1)
    ]
    torch.testing.assert_close(torch.cat([a.x for a in alone]), whole.x, rtol=1e-9, atol=1e-9)
    assert torch.equal(torch.cat([a.rounds for a in alone]), whole.rounds)
    assert len(set(whole.rounds.tolist())) > 1  # positions did part


@pytest.mark.parametrize(
    ("rule", "quality", "gain"),
    [("bimodal", "bad", 1.3), ("grid", "bad", 1.3), ("gaussian", "mediocre", 1.15)],
)
def test_refined_drafts_are_better_ones(rule, quality, gain):
    teacher, student = known_pair(rule, quality, "logistic")
    own, refined = (draw(teacher, student, 50, 60, window=12, refine=way) for way in (False, True))
    assert refined.samples_per_round > gain * own.samples_per_round
    assert refined.tv_per_step < 0.85 * own.tv_per_step


@pytest.mark.parametrize("kind", BASES.values(), ids=BASES)
def test_a_student_that_is_its_teacher_is_never_rejected(kind):
    # A million steps; both bases, and masses on a grid of 2^-8.
    def student_rule(x1, x2):
        return kind(torch.tanh(1.5 * x1 - 0.5 * x2), -1.2 + 0.3 * torch.tanh(x2))

    def on_grid(x1, x2):
        return Discretized(student_rule(x1, x2), 2.0**-8, -2.0, 2.0)

    student = KnownStudent(student_rule)
    result = draw(KnownTeacher(student_rule), student, 2000, 250, window=50)
    assert result.num_rejections == 0
    assert result.tv_per_step < 1e-12
    assert result.num_rounds == 5
    assert result.expected_rounds == pytest.approx(5, abs=1e-9)
    # On the grid the teacher hears bin centres and the student itself, so only step 0 is equal.
    result = draw(KnownTeacher(on_grid), student, 500_000, 1, window=1)
    assert result.num_rejections == 0
    assert result.tv_per_step < 1e-12


@pytest.mark.parametrize("window", [1, 4, 7, 12, 100, None])
@pytest.mark.parametrize("quality", QUALITIES)
def test_rounds_stay_within_their_bound(quality, window):
    result = draw(*known_pair("gaussian", quality, "normal"), window=window)
    rounds = result.rounds.double()
    error = float(rounds.std()) / NUM**0.5
    assert float(rounds.mean()) <= result.expected_rounds + 3 * error
    if window is not None:
        variation = result.total_variation.sum(1).mean()
        assert result.expected_rounds == pytest.approx(math.ceil(T / window) + float(variation))
    assert int(rounds.max()) == result.num_rounds == len(result.windows)
    assert result.samples_per_round == pytest.approx(T / float(rounds.mean()))
    # Stream by stream it holds with the rejections that there were.
    full = result.expected_rounds - float(result.total_variation.sum(1).mean())
    assert int(rounds.sum()) <= round(full * NUM) + result.num_rejections


@pytest.mark.parametrize("refine", [False, True], ids=["own", "refined"])
@pytest.mark.parametrize("name", PAIRS)
def test_models_are_cut_where_their_drafts_were(name, refine):
    teacher, student = mild_pair(name)
    context = TEACHERS[name].context(3, 4)
    result = draw(teacher, student, 3, 4 * HOP, context=context, window=7, refine=refine)
    assert 0 < result.num_rejections < result.x.numel()
    assert not torch.equal(result.accepted[0], result.accepted[1])  # positions did part

    # One pass of each over the finished sample says what every round must have seen.
    redrawn = student.rsample(result.noise, context)
    p = acceptance.in_double(teacher.conditionals(result.x, context))
    is_grid = isinstance(p, Discretized | MuLaw)
    draft = acceptance.draft_for(redrawn.conditionals, p if is_grid else None)
    is_free = result.noise.abs() < ROUNDS.NOISE_MAX
    assert float(is_free.double().mean()) > 0.9
    torch.testing.assert_close(
        draft.from_noise(result.noise)[is_free], result.x[is_free], rtol=1e-9, atol=1e-9
    )
    if refine:
        return  # what was proposed is not the student's own law
    log_ratio = p.log_prob(result.x) - draft.log_prob(result.x)
    kept = result.accepted
    torch.testing.assert_close(
        acceptance.rejection_probability(log_ratio)[kept],
        result.total_variation[kept],
        rtol=1e-8,
        atol=1e-8,
    )
    assert bool((log_ratio[~kept] > 0).all())  # a residual draw lies where p exceeds q
    assert bool((result.total_variation[~kept] > 0).all())

    for window in (1, None):
        other = draw(teacher, student, 3, 4 * HOP, context=context, window=window, refine=False)
        torch.testing.assert_close(other.x, result.x, rtol=1e-8, atol=1e-8)


def test_a_student_that_runs_away_is_held(monkeypatch):
    teacher, student = TEACHERS["gaussian"].model(), STUDENTS["logistic"].model()
    held = draw(teacher, student, 2, 64, refine=False)
    assert float(held.noise.abs().max()) <= ROUNDS.NOISE_MAX
    monkeypatch.setattr(ROUNDS, "NOISE_MAX", math.inf)
    assert float(draw(teacher, student, 2, 64, refine=False).noise.abs().max()) > 1e30


def test_float32_models_are_verified_in_float64():
    teacher, student = mild_pair("logistics16")
    exact = draw(teacher, student, 4, 30)
    source = torch.Generator().manual_seed(1)
    noise = standard_noise(student.base, (4, 30), generator=source, dtype=torch.float64)
    rough = speculative(
        teacher.float(),
        student.float(),
        noise.float(),
        generator=torch.Generator().manual_seed(1001),
        window=5,
    )
    assert rough.x.dtype == torch.float32
    assert rough.total_variation.dtype == torch.float64
    # The same decisions but for rounding: a bin that falls on the other side now and then.
    assert float((rough.x - exact.x).abs().max()) < 3 * 2.0**-15


def test_the_window_follows_the_rejections():
    rates = (0.9, 0.3, 0.1, 0.01, 1e-4, 0.0)
    windows = [best_window(rate, 64) for rate in rates]
    assert windows == sorted(windows)
    assert windows[-1] == 1024
    assert best_window(0.3, 1e4) > best_window(0.3, 64) > best_window(0.3, 0) == 1
    assert best_window(1.0, 64) == 1
    # Against all windows, at one rate: samples per cost, rounds played out.
    generator = torch.Generator().manual_seed(0)
    run = torch.empty(200_000, dtype=torch.float64).geometric_(0.1, generator=generator)
    cost = {w: (64 + w) / float(run.clamp(max=w).mean()) for w in range(5, 60)}
    assert cost[best_window(0.1, 64)] < 1.005 * min(cost.values())

    perfect = KnownTeacher(gaussian_ar2), KnownStudent(gaussian_ar2)
    good = draw(*perfect, 1, 2000, window=None)
    bad = draw(*known_pair("gaussian", "bad", "normal"), 1, 500, window=None)
    assert good.windows[-1] > 100 > 20 > bad.windows[-1]
    assert good.windows[0] == bad.windows[0]


def test_progress_is_told():
    told: list[tuple[int, int]] = []
    result = draw(
        *known_pair("gaussian", "bad", "normal"),
        3,
        progress=lambda done, total: told.append((done, total)),
    )
    assert len(told) == result.num_rounds
    assert told == sorted(told)
    assert told[-1] == (3 * T, 3 * T)


def test_what_cannot_be_drawn_is_refused():
    teacher, student = known_pair("bimodal", "good", "normal")
    with pytest.raises(ValueError, match="at least one step"):
        speculative(teacher, student, torch.zeros(1, 0).double())
    with pytest.raises(ValueError, match="1 values of the noise are not finite"):
        speculative(teacher, student, torch.tensor([[0.0, float("nan")]]).double())
    with pytest.raises(ValueError, match="the window is 0"):
        draw(teacher, student, 1, window=0)
    with pytest.raises(ValueError, match="has no 'stream'"):
        speculative(teacher, _NoStream(), torch.zeros(1, 5).double())

    class NoRewind(KnownTeacher):
        def advance(self, x_new, context=None, state=None):
            return super().advance(x_new, context, state)[0], object()

    with pytest.raises(ValueError, match="state of NoRewind cannot be cut"):
        draw(NoRewind(bimodal), student, 1)
    with pytest.raises(ValueError, match="laws are MuLaw"):
        draw(teacher, KnownStudent(on_mu_law), 1)


@pytest.mark.parametrize("rule", ["gaussian", "grid"])
def test_laws_that_are_not_finite_do_not_hang(rule):
    def broken(x1, x2):
        return RULES[rule](torch.where(x1.abs() > 1, torch.nan, x1), x2)

    _, student = known_pair(rule, "good", "normal")
    with pytest.raises(ValueError, match="the teacher has no finite law at step"):
        draw(KnownTeacher(broken), student, 5)
    with pytest.raises(ValueError, match="the student has no finite law at step"):
        draw(KnownTeacher(RULES[rule]), KnownStudent(moment_student(broken, Normal)), 5)


class _NoStream:
    """A student of one pass only."""

    def rsample(self, noise, context=None):
        raise NotImplementedError

    def log_prob(self, x, context=None):
        raise NotImplementedError

    def sample(self, num, context=None):
        raise NotImplementedError

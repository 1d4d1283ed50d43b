"""The objective: the teacher stays as it is, gradients add up, figures are the known ones."""

import math

import pytest
import torch
from torch import nn

from tests.distillation.cases import T, WhiteNoise, trial_of
from tests.models.table import HOP, STUDENTS, TEACHERS
from wavestill.distillation import (
    FixedWeights,
    MultiResolutionMagnitude,
    Objective,
    ObjectiveConfig,
    SpectralPower,
    StepDivergence,
)
from wavestill.distillation.spectral import power_spectrum
from wavestill.distributions import Normal
from wavestill.divergences import KL, TotalVariation
from wavestill.models import WaveNet, WaveNetConfig

RATE = 4000


def recordings(batch=2):
    generator = torch.Generator().manual_seed(2)
    return 0.2 * torch.randn(batch, T, generator=generator)


def speech_objective(balance=None, **teacher):
    case = TEACHERS["mel"]
    model = case.model().float()
    student = STUDENTS["mel"].model().float()
    if teacher:
        model = WaveNet(WaveNetConfig(**(model.config.__dict__ | teacher)))
    terms = {
        "kl": StepDivergence(KL(num_points=8), skip_samples=10),
        "magnitude": MultiResolutionMagnitude(RATE),
        "power": SpectralPower(RATE),
    }
    context = case.context(2, T // HOP)
    return Objective(model, student, terms, balance=balance), context._replace(
        frames=context.frames.float()
    )


def test_no_gradient_reaches_the_teacher_and_the_original_stays_free():
    objective, context = speech_objective()
    losses = objective(recordings(), context)
    losses.total.backward()
    assert all(p.grad is None and not p.requires_grad for p in objective.teacher.parameters())
    assert all(
        p.grad is not None for n, p in objective.student.named_parameters() if "encoder" not in n
    )
    teacher = WhiteNoise(0.0, 1.0)
    Objective(teacher, WhiteNoise(0.0, 1.0), {"kl": StepDivergence(KL())})
    assert teacher.loc.requires_grad


def test_teacher_stays_in_eval_mode_whatever_is_asked():
    objective, context = speech_objective(dropout=0.5)
    objective.train()
    assert objective.training
    assert objective.student.training
    assert not any(module.training for module in objective.teacher.modules())
    x = recordings()
    density = objective.teacher.density
    assert torch.equal(density.log_prob(x, context), density.log_prob(x, context))


def test_objective_does_not_train_on_teacher_parameters():
    objective, _ = speech_objective()
    trainable = {id(p) for p in objective.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in objective.student.parameters()}


def test_gradient_is_the_weighted_sum_of_the_terms():
    x = recordings()
    grads = {}
    for name, weights in {
        "kl": {"kl": 1.0, "magnitude": 0.0, "power": 0.0},
        "magnitude": {"kl": 0.0, "magnitude": 1.0, "power": 0.0},
        "mixed": {"kl": 1.0, "magnitude": 3.0, "power": 0.0},
    }.items():
        objective, context = speech_objective(FixedWeights(weights))
        losses = objective(x, context, generator=torch.Generator().manual_seed(0))
        losses.total.backward()
        expected = sum(weights[n] * losses.values[n] for n in weights)
        assert float(losses.total.detach()) == pytest.approx(float(expected), rel=1e-5)
        grads[name] = torch.cat([p.grad.flatten() for p in objective.student.flows.parameters()])
    torch.testing.assert_close(
        grads["mixed"], grads["kl"] + 3 * grads["magnitude"], rtol=1e-3, atol=1e-5
    )


def test_kl_of_known_laws_is_the_closed_form():
    teacher, student = WhiteNoise(0.3, 0.7), WhiteNoise(-0.2, 1.1)
    exact = math.log(0.7 / 1.1) + (1.1**2 + 0.5**2) / (2 * 0.7**2) - 0.5
    objective = Objective(teacher, student, {"kl": StepDivergence(KL())})
    losses = objective(None, shape=(2, 50))
    assert float(losses.values["kl"]) == pytest.approx(exact, rel=1e-5)
    figures = objective.measure(None, shape=(2, 50))
    assert float(figures["kl_nats"]) == pytest.approx(exact, rel=1e-5)
    assert "std_over_data" not in figures


def test_cap_bounds_the_value_and_the_gradient_but_cuts_neither():
    def loss_and_gradient(cap_nats):
        teacher, student = WhiteNoise(0.0, 0.01), WhiteNoise(0.0, 1.0)  # KL near 5,000 a step
        term = StepDivergence(KL(), cap_nats=cap_nats)
        total = Objective(teacher, student, {"kl": term})(None, shape=(1, 50)).total
        total.backward()
        return float(total.detach()), float(student.log_scale.grad)

    value, gradient = loss_and_gradient(None)
    assert loss_and_gradient(2 * value) == (value, gradient)
    capped, shortened = loss_and_gradient(20.0)
    assert capped == pytest.approx(20.0)
    assert shortened == pytest.approx(gradient * 20.0 / value, rel=1e-5)


def test_other_divergences_than_kl_need_conditionals():
    class Plain(nn.Module):
        def log_prob(self, x, context=None):
            return x.sum(-1)

        def sample(self, num, context=None):
            return torch.randn(num, 50)

    objective = Objective(Plain(), WhiteNoise(0.0, 1.0), {"tv": StepDivergence(TotalVariation())})
    with pytest.raises(ValueError, match="'TotalVariation' needs the law of every step"):
        objective(None, shape=(1, 50))


def test_log_prob_estimator_serves_teachers_without_conditionals():
    class Plain(nn.Module):
        def log_prob(self, x, context=None):
            del context
            return Normal(torch.zeros(()), torch.zeros(())).log_prob(x).sum(-1)

        def sample(self, num, context=None):
            del context
            return torch.randn(num, 50)

    torch.manual_seed(0)
    student = WhiteNoise(0.5, 1.0)
    objective = Objective(Plain(), student, {"kl": StepDivergence(KL())})
    losses = objective(None, shape=(400, 50))
    assert losses.estimator == "log_prob"
    assert float(losses.values["kl"]) == pytest.approx(
        0.125, abs=0.02
    )  # mu^2 / 2; 20,000 steps of spread 0.5


def test_measure_reports_level_and_divergence():
    objective, context = speech_objective()
    figures = objective.measure(recordings(), context, skip_samples=10)
    assert set(figures) == {"kl_nats", "tv", "std_over_data"}
    assert all(torch.isfinite(v) for v in figures.values())
    assert 0 <= figures["tv"] <= 1


@pytest.mark.parametrize("term", [MultiResolutionMagnitude(RATE), SpectralPower(RATE)])
def test_spectral_terms_vanish_at_equality_and_see_level_not_polarity(term):
    x = recordings()

    def value(y):
        return float(term(trial_of(y, x)))

    assert value(x) == pytest.approx(0, abs=1e-6)
    assert value(-x) == pytest.approx(0, abs=1e-6)
    assert value(0.1 * x) > 0.8
    assert value(0.1 * x) > value(0.5 * x) > value(0.9 * x)
    silent = torch.zeros_like(x, requires_grad=True)
    (gradient,) = torch.autograd.grad(term(trial_of(silent, x)), silent)
    assert torch.isfinite(gradient).all()


def test_clips_shorter_than_the_window_are_refused():
    with pytest.raises(ValueError, match="100 samples is shorter than the 256"):
        power_spectrum(torch.zeros(1, 100), 200)


def test_power_is_least_at_the_datas_level_where_magnitude_is_least_below_it():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 64, 2000, generator=generator)  # two draws of one law

    def best_level(term):
        levels = torch.linspace(0.5, 1.5, 41)
        values = []
        for level in levels:
            values.append(float(term(trial_of(level * x, y))))
        return float(levels[torch.tensor(values).argmin()])

    assert best_level(SpectralPower(RATE)) == pytest.approx(1.0, abs=0.03)
    assert best_level(MultiResolutionMagnitude(RATE)) < 0.95


def test_terms_that_need_recordings_say_so():
    objective = Objective(
        WhiteNoise(0.0, 1.0),
        WhiteNoise(0.0, 1.0),
        {"kl": StepDivergence(KL()), "power": SpectralPower(RATE)},
    )
    with pytest.raises(ValueError, match="'power' compares with recordings"):
        objective(None, shape=(1, T))
    with pytest.raises(ValueError, match="size of the student's sample is open"):
        objective(None)
    with pytest.raises(ValueError, match="weights name"):
        Objective(
            WhiteNoise(0.0, 1.0), WhiteNoise(0.0, 1.0), {"kl": StepDivergence(KL())}, {"tv": 1.0}
        )


def test_clips_shorter_than_what_is_left_out_are_refused():
    objective = Objective(
        WhiteNoise(0.0, 1.0), WhiteNoise(0.0, 1.0), {"kl": StepDivergence(KL(), skip_samples=50)}
    )
    with pytest.raises(ValueError, match="50 samples and the first 50 are left out"):
        objective(None, shape=(1, 50))


@pytest.mark.parametrize(
    ("weights", "rate", "message"),
    [
        ({"loudness": 1.0}, RATE, "no term is called 'loudness'; choose among adversarial, contr"),
        ({"power": -1.0}, RATE, "weight of 'power' is -1.0"),
        ({"power": 1.0}, None, "'power' needs the sampling rate"),
    ],
)
def test_recipes_that_make_no_objective_are_refused(weights, rate, message):
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(weights=weights).build(WhiteNoise(0.0, 1.0), WhiteNoise(0.0, 1.0), rate)


def test_the_recipes_floor_is_of_the_unit_variance_signal():
    teacher = TEACHERS["mel"].model()
    objective = ObjectiveConfig(log_scale_min=-9.0).build(teacher, STUDENTS["mel"].model())
    expected = -9.0 - math.log(3.0)  # the table's gain
    assert objective.terms["kl"].divergence.log_scale_min == pytest.approx(expected)

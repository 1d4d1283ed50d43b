"""Terms beyond the divergence: zero where they should be, and pulling the way they say."""

import math

import pytest
import torch

from tests.distillation.cases import WhiteNoise, small_classifier, trial_of
from tests.models.table import HOP, STUDENTS, TEACHERS
from wavestill.distillation import (
    AdversarialConfig,
    FeatureMatching,
    FrozenTeacher,
    LatentReconstruction,
    LogLinearPool,
    MovingTeacher,
    Objective,
    ObjectiveConfig,
    StepDivergence,
    TeacherForced,
)
from wavestill.distillation.features import hidden_features
from wavestill.divergences import KL, ForwardKL, TotalVariation
from wavestill.models import (
    IAF,
    MAF,
    IAFWaveNet,
    IAFWaveNetConfig,
    PermutedIAF,
    PermutedMAF,
    WaveNet,
    WaveNetConfig,
)

SMALL = WaveNetConfig(
    layers=3, residual_channels=4, gate_channels=4, skip_channels=4, head="gaussian"
)


class InvertibleWhiteNoise(WhiteNoise):
    def invert(self, x, context=None):
        return self.rsample(self.conditionals(x).to_noise(x), context)


def small_teacher(seed=0):
    torch.manual_seed(seed)
    return WaveNet(SMALL).double().eval()


def value(term, teacher, student, reference=None, shape=(3, 60), seed=0):
    objective = Objective(teacher, student, {"term": term})
    generator = torch.Generator().manual_seed(seed)
    return objective(reference, shape=shape, generator=generator).values["term"]


# Features of the teacher's hidden layers


def test_features_vanish_at_equality_and_are_those_of_the_named_modules():
    teacher = small_teacher()
    x = torch.randn(2, 60, dtype=torch.float64)
    assert float(FeatureMatching()(trial_of(x, x, teacher))) == 0
    assert float(FeatureMatching()(trial_of(0.5 * x, x, teacher))) > 0.01
    (out,) = hidden_features(teacher, ["output"], x, None)
    loc, log_scale = out.unbind(-1)
    law = teacher.conditionals(x)
    torch.testing.assert_close(loc, law.loc)
    torch.testing.assert_close(log_scale, law.log_scale)


def test_features_compare_second_moments_over_stretches():
    """The docstring's equation, written out for one layer and two stretches of 30 samples."""
    teacher = small_teacher()
    x, y = torch.randn(2, 2, 60, dtype=torch.float64)
    above = below = 0.0
    for first in (0, 30):
        moments = []
        for sound in (x, y):
            (f,) = hidden_features(teacher, ["stack.layers.1"], sound, None)
            ones = torch.ones(2, 30, 1, dtype=torch.float64)
            f = torch.cat([ones, f[:, first : first + 30]], -1).float()
            moments.append(f.transpose(1, 2) @ f / 30)
        above += (moments[0] - moments[1]).square().sum()
        below += moments[1].square().sum()
    term = FeatureMatching(["stack.layers.1"], stretch_samples=30)
    torch.testing.assert_close(term(trial_of(x, y, teacher)), above / below)


def test_features_need_a_teacher_that_has_them():
    x = torch.randn(1, 20)
    with pytest.raises(ValueError, match="has no gated layers"):
        FeatureMatching()(trial_of(x, x, WhiteNoise(0.0, 1.0)))
    with pytest.raises(ValueError, match=r"has no module 'stack.layer.1'"):
        FeatureMatching(["stack.layer.1"])(trial_of(x, x, small_teacher().float()))
    with pytest.raises(ValueError, match="'features' compares with recordings"):
        FeatureMatching()(trial_of(x, None, small_teacher().float()))


# Latent reconstruction


@pytest.mark.parametrize("space", ["latent", "sample"])
def test_latents_vanish_only_where_both_models_are_one_map(space):
    term = LatentReconstruction(space)
    x = torch.randn(3, 60)
    same = value(term, WhiteNoise(0.3, 0.7), WhiteNoise(0.3, 0.7), x)
    assert float(same) == pytest.approx(0, abs=1e-6)
    assert float(value(term, WhiteNoise(0.3, 0.7), WhiteNoise(0.3, 0.9), x)) > 0.1


def test_latents_know_the_quantiles_of_another_base():
    """A normal student of a logistic teacher: F_p(x) and F_q(x) are compared as quantiles."""
    teacher = WaveNet(WaveNetConfig(**(SMALL.__dict__ | {"head": "logistics", "bits": None})))
    student = WhiteNoise(0.0, 1.0)
    objective = Objective(teacher, student, {"latent": LatentReconstruction()})
    trial = objective.attempt(None, shape=(2, 30))
    u = trial.laws.cdf(trial.draw.x)
    expected = (torch.special.ndtri(u) - trial.draw.noise).abs().mean()
    torch.testing.assert_close(objective.terms["latent"](trial), expected, rtol=1e-3, atol=1e-4)


def test_reconstruction_teaches_a_student_its_teachers_map():
    student = WhiteNoise(0.5, 0.3)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.02)
    objective = Objective(
        WhiteNoise(0.0, 1.0), student, {"reconstruction": LatentReconstruction("sample")}
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        optimizer.zero_grad()
        objective(torch.randn(8, 50, generator=generator)).total.backward()
        optimizer.step()
    assert student.loc.item() == pytest.approx(0.0, abs=0.03)
    assert student.log_scale.item() == pytest.approx(0.0, abs=0.03)


# Teacher's prefixes


def test_forward_kl_under_the_teachers_prefixes_is_the_joint_forward_kl():
    teacher, student = InvertibleWhiteNoise(0.0, 1.0), InvertibleWhiteNoise(0.4, 0.8)
    forward = value(TeacherForced(ForwardKL()), teacher, student, shape=(2, 50))
    p, q = (torch.distributions.Normal(*law) for law in ((0.0, 1.0), (0.4, 0.8)))
    torch.testing.assert_close(forward, torch.distributions.kl_divergence(p, q))


@pytest.mark.parametrize("kind", ["gaussian", "lp-logistic"])
def test_laws_under_the_teachers_prefixes_are_those_of_the_inverse(kind):
    torch.manual_seed(1)
    case = TEACHERS["mel"]
    teacher, student = case.model().float(), STUDENTS["mel"].model().float()
    if kind == "lp-logistic":
        config = student.config.__dict__ | {"predictor_order": 4}
        student = IAFWaveNet(IAFWaveNetConfig(**config)).eval()
    context = case.context(2, 40)
    context = context._replace(frames=context.frames.float())
    x = 0.1 * torch.randn(2, 40 * HOP)
    objective = Objective(
        teacher, student, {"tv": TeacherForced(TotalVariation(), prefixes="recordings")}
    )
    trial = objective.attempt(x, context, generator=torch.Generator().manual_seed(0))
    objective.terms["tv"](trial)
    q, p = trial.shared["recordings"]
    expected = student.invert(x, context).conditionals
    torch.testing.assert_close(q.loc, expected.loc, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(q.log_scale, expected.log_scale, rtol=1e-3, atol=1e-3)
    teachers = teacher.conditionals(x, context)
    torch.testing.assert_close(p.log_prob(x), teachers.log_prob(x))
    assert q.loc.requires_grad


def test_terms_of_one_trial_share_the_teachers_draw():
    calls = []

    class Counted(InvertibleWhiteNoise):
        def sample(self, num, context=None):
            calls.append(num)
            return super().sample(num, context)[:, :50]

    terms = {"forward": TeacherForced(ForwardKL()), "tv": TeacherForced(TotalVariation())}
    objective = Objective(Counted(0.0, 1.0), InvertibleWhiteNoise(0.1, 1.0), terms)
    objective(None, shape=(2, 50))
    assert calls == [2]


def test_prefixes_need_laws_and_an_inverse():
    with pytest.raises(ValueError, match="need the law of every step and an inverse"):
        value(TeacherForced(ForwardKL()), WhiteNoise(0.0, 1.0), WhiteNoise(0.0, 1.0))


# Several teachers


def test_log_linear_pool_of_normals_has_its_known_optimum():
    """The product of N(-1, 1) and N(2, 1) at weights 2/3 and 1/3 is N(0, 1)."""
    teachers = [WhiteNoise(-1.0, 1.0), WhiteNoise(2.0, 1.0)]
    student = WhiteNoise(0.5, 0.7)
    objective = Objective(teachers[0], student, {"pool": LogLinearPool(teachers, [2, 1])})
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        losses = objective(None, shape=(4, 20))
        losses.total.backward()
        optimizer.step()
    assert student.loc.item() == pytest.approx(0.0, abs=1e-2)
    assert student.log_scale.item() == pytest.approx(0.0, abs=1e-2)
    # what is left is -log Z: (2/3) KL(N(0,1), N(-1,1)) + (1/3) KL(N(0,1), N(2,1))
    assert float(losses.values["pool"]) == pytest.approx(2 / 3 * 0.5 + 1 / 3 * 2.0, abs=1e-3)


@pytest.mark.parametrize("weights", [[1.0], [-1.0, 2.0], [0.0, 0.0]])
def test_log_linear_pools_refuse_bad_weights(weights):
    with pytest.raises(ValueError, match="weight"):
        LogLinearPool([WhiteNoise(-1.0, 1.0), WhiteNoise(2.0, 1.0)], weights)


@pytest.mark.parametrize("pool", ["mixture", "log_linear"])
def test_several_teachers_are_pooled_by_name(pool):
    torch.manual_seed(0)
    teachers, student = [small_teacher(seed) for seed in (0, 1)], STUDENTS["normal"].model()
    objective = ObjectiveConfig(pool=pool, balance="fixed").build(
        teachers[0], student, others=teachers[1:]
    )
    generator = torch.Generator().manual_seed(0)
    value = objective(None, shape=(2, 50), generator=generator).values["kl"]
    trial = objective.attempt(None, shape=(2, 50), generator=generator.manual_seed(0))
    q, laws = trial.draw.conditionals, [t.conditionals(trial.draw.x) for t in teachers]
    if pool == "log_linear":
        expected = torch.stack([KL()(q, law) for law in laws]).mean()
        torch.testing.assert_close(value, expected.detach())
    else:
        x = trial.draw.x
        mixed = (0.5 * laws[0].log_prob(x).exp() + 0.5 * laws[1].log_prob(x).exp()).log()
        torch.testing.assert_close(trial.laws.log_prob(x), mixed)


# Moving teachers


def test_a_moving_teacher_learns_and_its_average_follows():
    torch.manual_seed(0)
    teacher, student = WhiteNoise(0.0, 1.0), WhiteNoise(0.0, 1.0)
    moving = MovingTeacher(WhiteNoise(0.0, 1.0), averaging=0.9)
    objective = Objective(teacher, student, {"kl": StepDivergence(KL())}, moving=moving)
    assert objective.learned() == list(moving.live.parameters())
    parameters = [*student.parameters(), *objective.learned()]
    optimizer = torch.optim.Adam(parameters, lr=0.03)
    for _ in range(400):
        optimizer.zero_grad()
        losses = objective(2 + 0.5 * torch.randn(16, 50))
        losses.total.backward()
        optimizer.step()
    for density in (moving.live, objective.teacher.density, student):
        assert density.loc.item() == pytest.approx(2.0, abs=0.05)
        assert density.log_scale.item() == pytest.approx(math.log(0.5), abs=0.05)
    assert "teacher_nats" in losses.values
    assert teacher.loc.item() == 0.0  # the caller's own is left alone


def test_the_average_moves_by_its_rate():
    frozen = FrozenTeacher(WhiteNoise(0.0, 1.0))
    frozen.follow(WhiteNoise(1.0, 1.0), 0.25)
    assert frozen.density.loc.item() == pytest.approx(0.25)
    assert not frozen.density.loc.requires_grad


def test_a_moving_teacher_says_what_it_needs():
    objective = ObjectiveConfig(teacher_averaging=0.9).build(
        WhiteNoise(0.0, 1.0), WhiteNoise(0.0, 1.0)
    )
    with pytest.raises(ValueError, match="learns from recordings but none were given"):
        objective(None, shape=(1, 20))
    with pytest.raises(ValueError, match=r"averaging of a moving teacher is 1.0"):
        MovingTeacher(WhiteNoise(0.0, 1.0), averaging=1.0)
    with pytest.raises(ValueError, match="has no parameters to learn"):
        MovingTeacher(torch.distributions.Normal(0.0, 1.0))


# Recipes

NAMES = {
    "divergence": [
        "kl",
        "forward_kl",
        "jensen_shannon",
        "renyi",
        "total_variation",
        "wasserstein",
    ],
    "balance": ["fixed", "loudness", "scheduled", "target", "gradients", "uncertainty"],
    "term": [
        *("magnitude", "power", "features", "latent", "reconstruction", "forward", "drafting"),
        *("perceptual", "style", "contrastive", "adversarial"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in NAMES.items() for name in names]
)
def test_everything_is_switched_by_name_and_takes_a_step(kind, name):
    """Each by its name in a recipe: a finite loss whose gradient reaches the student."""
    case = TEACHERS["mel"]
    teacher, student = case.model().float(), STUDENTS["mel"].model().float()
    context = case.context(2, 60)
    context = context._replace(frames=context.frames.float())
    settings = {"weights": {"power": 1.0}, "target_nats": 0.1} if kind == "balance" else {}
    settings |= {"weights": {name: 1.0}} if kind == "term" else {kind: name}
    settings |= {"adversarial": AdversarialConfig(after_steps=0)}
    objective = ObjectiveConfig(**settings).build(
        teacher, student, 4000, classifier=small_classifier(4000, HOP)
    )
    losses = objective(0.1 * torch.randn(2, 60 * HOP), context)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    gradients = [p.grad for p in student.parameters() if p.grad is not None]
    assert any(float(gradient.abs().sum()) > 0 for gradient in gradients)
    if kind == "term":
        assert float(losses.values[name]) != 0


@pytest.mark.parametrize("option", [{"path_wise": True}, {"scale_penalty": 4.0}])
def test_some_options_are_of_kl(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"'{name}' is of 'kl' but the divergence is 'renyi'"):
        ObjectiveConfig(divergence="renyi", **option).build(
            WhiteNoise(0.0, 1.0), WhiteNoise(0.0, 1.0)
        )


def test_the_penalty_on_scales_is_a_recipes_option():
    teacher, student = WhiteNoise(0.0, 1.0), WhiteNoise(0.0, math.e)
    plain, penalised = (
        ObjectiveConfig(scale_penalty=penalty).build(teacher, student)(None, shape=(1, 20))
        for penalty in (0.0, 4.0)
    )
    difference = penalised.values["kl"] - plain.values["kl"]
    assert float(difference) == pytest.approx(4.0, rel=1e-5)


def test_prefixes_of_a_teacher_of_vectors_give_the_joint_forward_kl():
    torch.manual_seed(0)
    teacher, student = MAF(3, hidden=(8,)).double(), IAF(3, hidden=(8,)).double()
    with torch.no_grad():  # fresh ones are the same law
        for parameter in (*teacher.parameters(), *student.parameters()):
            parameter.add_(0.3 * torch.randn_like(parameter))
    forward = value(TeacherForced(ForwardKL()), teacher, student, shape=(4000, 3))
    x = teacher.sample(4000)
    with torch.no_grad():
        joint = (teacher.log_prob(x) - student.log_prob(x)) / 3
    assert abs(float(forward - joint.mean())) < 7 * float(joint.std()) / 4000**0.5


def test_path_wise_is_refused_where_only_joint_densities_are_known():
    with pytest.raises(ValueError, match="path-wise gradients need the law of every step"):
        value(StepDivergence(KL(path_wise=True)), PermutedMAF(3), PermutedIAF(3), shape=(5, 3))

"""Discriminators: they learn to tell, the student hears of it, and neither moves the other."""

import pytest
import torch

from tests.distillation.cases import WhiteNoise, trial_of
from wavestill.distillation import Adversarial, AdversarialConfig, Objective, ObjectiveConfig

RATE = 8000
LENGTH = 800
AT_ONCE = AdversarialConfig(after_steps=0, channels=4)


def adversarial(config=AT_ONCE):
    torch.manual_seed(0)
    return Adversarial(RATE, config, resolutions_s=(0.025, 0.01))


def value(term, x, y):
    with torch.no_grad():
        return float(term(trial_of(x, y)))


def colours(seed):
    """White noise as the recording, the same smoothed as the draw; one level."""
    white = torch.randn(4, LENGTH + 1, generator=torch.Generator().manual_seed(seed))
    return (white[:, 1:] + white[:, :-1]) / 2**0.5, white[:, 1:]


def test_the_two_losses_reach_one_side_each():
    term = adversarial()
    x, y = colours(0)
    x.requires_grad_()
    term(trial_of(x, y)).backward()
    assert float(x.grad.abs().sum()) > 0
    assert all(p.grad is None for p in term.parameters())
    x.grad = None
    term.lesson(trial_of(x, y)).backward()
    assert x.grad is None
    assert all(float(p.grad.abs().sum()) > 0 for p in term.parameters())


def test_discriminators_learn_to_tell_two_noises_apart():
    term = adversarial()
    optimizer = torch.optim.Adam(term.parameters(), lr=1e-2)
    for step in range(80):
        optimizer.zero_grad()
        term.lesson(trial_of(*colours(step))).backward()
        optimizer.step()
    x, y = colours(1000)
    with torch.no_grad():
        assert float(term.lesson(trial_of(x, y))) < 0.4
        assert float(term.lesson(trial_of(y, y))) > 0.5  # 1/2 at best where none can tell
        told, fooled = (float(term(trial_of(sound, y))) for sound in (x, y))
    assert fooled < 0.5 * told


def test_features_match_at_equality_and_the_score_is_least_squares():
    config = AdversarialConfig(after_steps=0, channels=4, feature_weight=0.0)
    x, y = colours(0)
    bare, matched = adversarial(config), adversarial()
    assert value(bare, y, y) == pytest.approx(value(matched, y, y))
    assert value(matched, x, y) > value(bare, x, y)
    ours, _, floor = bare._levelled(x, y)
    expected = [(d(ours, floor)[0] - 1).square().mean() for d in bare.discriminators]
    torch.testing.assert_close(bare(trial_of(x, y)), torch.stack(expected).mean())


def test_levels_are_the_recordings():
    """A scale common to both changes nothing; the student's own level is heard."""
    term = adversarial()
    x, y = colours(0)
    ours, scaled, quieter = (
        value(term, a * x, b * y) for a, b in ((1, 1), (0.01, 0.01), (0.3, 1))
    )
    assert scaled == pytest.approx(ours, rel=1e-4)
    assert abs(quieter - ours) > 1e-2


def test_before_its_time_the_student_hears_nothing_while_the_discriminators_learn():
    term = adversarial(AdversarialConfig(after_steps=2, channels=4))
    x, y = colours(0)
    heard = [value(term, x, y) for _ in range(4)]
    assert heard[:2] == [0.0, 0.0]
    assert min(heard[2:]) > 0
    assert int(term.step) == 4


def test_the_objective_adds_the_lesson_and_names_whom_it_trains():
    student, term = WhiteNoise(0.0, 0.5), adversarial()
    objective = Objective(WhiteNoise(0.0, 1.0), student, {"adversarial": term})
    y = colours(0)[1]
    losses = objective(y)
    torch.testing.assert_close(
        losses.total.detach(), losses.values["adversarial"] + losses.values["discriminator"]
    )
    losses.total.backward()
    assert student.log_scale.grad is not None
    assert [id(p) for p in objective.adversaries()] == [id(p) for p in term.parameters()]
    assert not {id(p) for p in objective.adversaries()} & {id(p) for p in objective.learned()}
    assert all(p.grad is not None for p in term.parameters())


def test_what_it_cannot_do_is_refused():
    white = WhiteNoise(0.0, 1.0)
    config = ObjectiveConfig(weights={"adversarial": 1.0})
    with pytest.raises(ValueError, match="'adversarial' needs the sampling rate"):
        config.build(white, white)
    with pytest.raises(ValueError, match="'adversarial' compares with recordings"):
        config.build(white, white, RATE)(None, shape=(1, LENGTH))
    with pytest.raises(ValueError, match=r"has none for 1000 steps; set 'adversarial.after_steps"):
        ObjectiveConfig(weights={"adversarial": 1.0}, balance="gradients").build(
            white, white, RATE
        )
    with pytest.raises(ValueError, match="'rate_share' is -1"):
        AdversarialConfig(rate_share=-1.0)

"""What a phone classifier hears: nothing at equality, texture wherever it falls, only forward."""

import pytest
import torch

from tests.distillation.cases import WhiteNoise, small_classifier, trial_of
from tests.models.table import HOP
from wavestill.distillation import ObjectiveConfig, Perceptual

LENGTH = 120 * HOP


def sounds():
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(2, LENGTH, generator=generator) for _ in range(2))


@pytest.mark.parametrize("compared", ["features", "style"])
def test_it_is_zero_at_equality_and_grows_with_the_distance(compared):
    term = Perceptual(small_classifier(), compared)
    x, y = sounds()
    assert float(term(trial_of(x, x))) == 0
    near, far = (float(term(trial_of((1 + s) * y, y))) for s in (0.1, 1.0))
    assert 0 < near < far


@pytest.mark.parametrize("compared", ["features", "style"])
def test_its_gradient_reaches_the_draw_alone(compared):
    classifier = small_classifier()
    term = Perceptual(classifier, compared)
    x, y = sounds()
    x.requires_grad_(), y.requires_grad_()
    term(trial_of(x, y)).backward()
    assert float(x.grad.abs().sum()) > 0
    assert y.grad is None
    assert not any(p.requires_grad or p.grad is not None for p in term.parameters())
    assert all(p.requires_grad for p in classifier.parameters())  # the caller's own is left alone


def test_style_is_the_same_wherever_in_the_clip_the_sound_falls():
    """A burst in silence, whole frames later: Gram matrices do not move, features do."""
    classifier = small_classifier().double()
    reach = classifier.receptive_field // 2 + HOP
    assert 4 * reach < LENGTH
    burst = torch.randn(1, LENGTH // 4, dtype=torch.float64)
    early, late = torch.zeros(2, 1, LENGTH, dtype=torch.float64)
    early[:, reach : reach + burst.shape[1]] = burst
    late[:, reach + 20 * HOP : reach + 20 * HOP + burst.shape[1]] = burst
    trial = trial_of(late, early)
    whole = LENGTH / classifier.config.sample_rate
    assert float(Perceptual(classifier, "style", stretch_s=whole)(trial)) < 1e-6
    assert float(Perceptual(classifier, "features")(trial)) > 0.1


def test_style_compares_stretches():
    """Two stretches change places: each has another style, the clip as a whole the same."""
    classifier = small_classifier().double()
    quiet, loud = 0.1, 2.0
    x = torch.randn(1, LENGTH, dtype=torch.float64)
    half = LENGTH // 2
    one, other = x.clone(), x.clone()
    one[:, :half] *= quiet
    one[:, half:] *= loud
    other[:, :half], other[:, half:] = one[:, half:], one[:, :half]
    trial = trial_of(one, other)
    seconds = LENGTH / classifier.config.sample_rate
    by_halves = float(Perceptual(classifier, "style", stretch_s=seconds / 2)(trial))
    by_clip = float(Perceptual(classifier, "style", stretch_s=seconds)(trial))
    assert by_halves > 20 * by_clip


def test_channels_count_alike_whatever_their_unit():
    """Draws without variation score 1, those of another variation 2, in units of any size."""
    term = Perceptual(small_classifier(), "features")
    x, y = sounds()
    units = torch.tensor([1.0, 3.0, 10.0])
    heard = {True: [5 * units + units * torch.randn(2, 2000, 3)]}
    term.classifier.features = lambda sound: heard[sound is y]
    for other, expected in ((5 * units.expand(2, 2000, 3), 1.0), (heard[True][0].flip(1), 2.0)):
        heard[False] = [other]
        assert float(term(trial_of(x, y))) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("name", ["perceptual", "style"])
def test_what_is_missing_is_named(name):
    config = ObjectiveConfig(weights={name: 1.0})
    white = WhiteNoise(0.0, 1.0)
    with pytest.raises(ValueError, match=f"'{name}' listens with a phone classifier; train one"):
        config.build(white, white, 8000)
    with pytest.raises(ValueError, match=r"classifier is of 8000 Hz but the recordings are of 16"):
        config.build(white, white, 16000, classifier=small_classifier(8000))
    objective = config.build(white, white, 8000, classifier=small_classifier(8000))
    with pytest.raises(ValueError, match=f"'{name}' compares with recordings"):
        objective(None, shape=(1, LENGTH))

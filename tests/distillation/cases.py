"""Models and trials whose every figure is known."""

import math

import torch
from torch import nn

from tests.models.table import HOP
from wavestill.density import Draw
from wavestill.distillation import FrozenTeacher, Trial
from wavestill.distributions import Normal
from wavestill.models.phone_classifier import PhoneClassifier, PhoneClassifierConfig

T = 40 * HOP


class WhiteNoise(nn.Module):
    """A Gaussian teacher or student of independent steps: every figure is known."""

    base = "normal"

    def __init__(self, loc: float, scale: float) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor(loc))
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def _law(self, like):
        return Normal(self.loc.expand_as(like), self.log_scale.expand_as(like))

    def conditionals(self, x, context=None):
        del context
        return self._law(x)

    def log_prob(self, x, context=None):
        return self.conditionals(x, context).log_prob(x).sum(-1)

    def sample(self, num, context=None):
        del context
        return self._law(torch.zeros(num, T)).sample()

    def rsample(self, noise, context=None):
        del context
        law = self._law(noise)
        return Draw(law.from_noise(noise), noise, law)


def trial_of(x, reference, teacher=None):
    """A trial whose draw is `x`, before a recording."""
    law = Normal(x, torch.zeros_like(x))
    white = WhiteNoise(0.0, 1.0)
    return Trial(
        Draw(x, torch.zeros_like(x), law),
        None if teacher is None else teacher.conditionals(x),
        FrozenTeacher(white if teacher is None else teacher),
        white,
        None,
        reference,
    )


def small_classifier(sample_rate=8000, hop_samples=HOP):
    """A classifier of eight phones, untrained."""
    torch.manual_seed(3)
    config = PhoneClassifierConfig(
        num_classes=8,
        hop_samples=hop_samples,
        sample_rate=sample_rate,
        layers=4,
        channels=6,
        hidden_channels=8,
    )
    return PhoneClassifier(config)

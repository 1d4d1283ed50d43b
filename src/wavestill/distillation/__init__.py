"""Density distillation: an objective of named, weighted terms of a student before its teacher."""

from wavestill.distillation.balance import Balance, FixedWeights, LoudnessBalance
from wavestill.distillation.divergence import StepDivergence
from wavestill.distillation.objective import Losses, Objective
from wavestill.distillation.recipe import ObjectiveConfig
from wavestill.distillation.spectral import MultiResolutionMagnitude, SpectralPower
from wavestill.distillation.trial import FrozenTeacher, Term, Trial

__all__ = [
    "Balance",
    "FixedWeights",
    "FrozenTeacher",
    "Losses",
    "LoudnessBalance",
    "MultiResolutionMagnitude",
    "Objective",
    "ObjectiveConfig",
    "SpectralPower",
    "StepDivergence",
    "Term",
    "Trial",
]

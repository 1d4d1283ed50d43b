"""Density distillation: an objective of named, weighted terms of a student before its teacher."""

from wavestill.distillation.adversarial import Adversarial, AdversarialConfig
from wavestill.distillation.balance import (
    Balance,
    Balanced,
    FixedWeights,
    GradientBalance,
    LoudnessBalance,
    ScheduledWeights,
    TargetBalance,
    UncertaintyBalance,
)
from wavestill.distillation.contrastive import Contrastive
from wavestill.distillation.divergence import StepDivergence
from wavestill.distillation.features import FeatureMatching
from wavestill.distillation.latent import LatentReconstruction
from wavestill.distillation.moving import MovingTeacher
from wavestill.distillation.objective import Losses, Objective
from wavestill.distillation.perceptual import Perceptual
from wavestill.distillation.pool import LogLinearPool
from wavestill.distillation.recipe import ObjectiveConfig
from wavestill.distillation.spectral import MultiResolutionMagnitude, SpectralPower
from wavestill.distillation.teacher_forced import TeacherForced
from wavestill.distillation.teacher_samples import JointForwardKL, Mirrored, TeacherSamples
from wavestill.distillation.trial import Estimator, FrozenTeacher, Term, Trial

__all__ = [
    "Adversarial",
    "AdversarialConfig",
    "Balance",
    "Balanced",
    "Contrastive",
    "Estimator",
    "FeatureMatching",
    "FixedWeights",
    "FrozenTeacher",
    "GradientBalance",
    "JointForwardKL",
    "LatentReconstruction",
    "LogLinearPool",
    "Losses",
    "LoudnessBalance",
    "Mirrored",
    "MovingTeacher",
    "MultiResolutionMagnitude",
    "Objective",
    "ObjectiveConfig",
    "Perceptual",
    "ScheduledWeights",
    "SpectralPower",
    "StepDivergence",
    "TargetBalance",
    "TeacherForced",
    "TeacherSamples",
    "Term",
    "Trial",
    "UncertaintyBalance",
]

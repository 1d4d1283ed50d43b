"""How the terms of an objective are weighted against one another: fixed, scheduled or adaptive."""

from wavestill.distillation.balance.base import Balance, Balanced, FixedWeights, weighted_sum
from wavestill.distillation.balance.gradients import GradientBalance
from wavestill.distillation.balance.loudness import LoudnessBalance
from wavestill.distillation.balance.schedule import Schedule, ScheduledWeights
from wavestill.distillation.balance.target import TargetBalance
from wavestill.distillation.balance.uncertainty import UncertaintyBalance

__all__ = [
    "Balance",
    "Balanced",
    "FixedWeights",
    "GradientBalance",
    "LoudnessBalance",
    "Schedule",
    "ScheduledWeights",
    "TargetBalance",
    "UncertaintyBalance",
    "weighted_sum",
]

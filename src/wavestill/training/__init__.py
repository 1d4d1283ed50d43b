"""Training: likelihood for teachers, distillation for students, on Lightning's Trainer."""

from wavestill.training.config import TrainingConfig
from wavestill.training.history import History
from wavestill.training.loop import distill, fit

__all__ = ["History", "TrainingConfig", "distill", "fit"]

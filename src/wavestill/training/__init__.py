"""Training: likelihood for teachers, distillation for students, on Lightning's Trainer."""

from wavestill.training.classification import fit_classifier
from wavestill.training.classifier_recipe import load_classifier
from wavestill.training.config import TrainingConfig
from wavestill.training.history import History
from wavestill.training.loop import distill, fit

__all__ = ["History", "TrainingConfig", "distill", "fit", "fit_classifier", "load_classifier"]

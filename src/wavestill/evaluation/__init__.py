"""Nats, spectral and perceptual metrics, speed; the HTML report."""

from wavestill.evaluation.measurement import ClipSounds, Evaluation, evaluate
from wavestill.evaluation.report import write_report

__all__ = ["ClipSounds", "Evaluation", "evaluate", "write_report"]

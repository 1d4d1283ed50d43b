"""How fast every way to draw is, beside what the machine can do at best: `wavestill bench`."""

from wavestill.evaluation.bench.measure import bench

__all__ = ["bench"]

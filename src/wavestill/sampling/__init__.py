"""Every way to draw from an autoregressive density, written against the protocols alone."""

from wavestill.distributions import standard_noise
from wavestill.sampling.cached import cached
from wavestill.sampling.naive import naive

__all__ = ["cached", "naive", "standard_noise"]

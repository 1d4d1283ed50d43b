"""Every way to draw from an autoregressive density, written against the protocols alone."""

from wavestill.distributions import counter_noise, standard_noise
from wavestill.sampling.cached import CachedSampler, cached
from wavestill.sampling.naive import naive
from wavestill.sampling.streaming import StudentSampler, stream

__all__ = [
    "CachedSampler",
    "StudentSampler",
    "cached",
    "counter_noise",
    "naive",
    "standard_noise",
    "stream",
]

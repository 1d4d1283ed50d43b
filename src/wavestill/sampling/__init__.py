"""Every way to draw from an autoregressive density, written against the protocols alone."""

from wavestill.distributions import counter_noise, standard_noise
from wavestill.sampling.cached import CachedSampler, cached
from wavestill.sampling.importance import ImportanceError, weighted
from wavestill.sampling.inversion import jacobi_invert
from wavestill.sampling.jacobi import jacobi
from wavestill.sampling.metropolis import metropolis
from wavestill.sampling.naive import naive
from wavestill.sampling.native import NativeSampler, native, native_invert, native_sampler
from wavestill.sampling.speculative import speculative
from wavestill.sampling.streaming import StudentSampler, stream

__all__ = [
    "CachedSampler",
    "ImportanceError",
    "NativeSampler",
    "StudentSampler",
    "cached",
    "counter_noise",
    "jacobi",
    "jacobi_invert",
    "metropolis",
    "naive",
    "native",
    "native_invert",
    "native_sampler",
    "speculative",
    "standard_noise",
    "stream",
    "weighted",
]

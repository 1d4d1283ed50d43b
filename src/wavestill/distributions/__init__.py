"""Batched univariate laws: what one step of a teacher or student can be given its past."""

from wavestill.distributions.base import (
    Base,
    Continuous,
    Distribution,
    noise_quadrature,
    same_quantile,
    standard_noise,
)
from wavestill.distributions.bernoulli import Bernoulli
from wavestill.distributions.counter import counter_noise
from wavestill.distributions.discretized import Discretized, Smoothed
from wavestill.distributions.location_scale import LocationScale
from wavestill.distributions.logistic import Logistic
from wavestill.distributions.mixture import Mixture
from wavestill.distributions.mulaw import MuLaw, mu_law_decode, mu_law_encode
from wavestill.distributions.normal import Normal
from wavestill.distributions.pooling import pooled
from wavestill.distributions.spline import Splined
from wavestill.distributions.stable import log1mexp

__all__ = [
    "Base",
    "Bernoulli",
    "Continuous",
    "Discretized",
    "Distribution",
    "LocationScale",
    "Logistic",
    "Mixture",
    "MuLaw",
    "Normal",
    "Smoothed",
    "Splined",
    "counter_noise",
    "log1mexp",
    "mu_law_decode",
    "mu_law_encode",
    "noise_quadrature",
    "pooled",
    "same_quantile",
    "standard_noise",
]

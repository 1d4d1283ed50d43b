"""Divergences D(q‖p) of each step, as one-dimensional integrals over known densities."""

from wavestill.divergences.base import Divergence, QuantileDivergence
from wavestill.divergences.best_fit import best_location_scale
from wavestill.divergences.jensen_shannon import JensenShannon
from wavestill.divergences.kl import KL, ForwardKL, kl_normal
from wavestill.divergences.quadrature import stratified_noise, stratified_points
from wavestill.divergences.renyi import Renyi
from wavestill.divergences.total_variation import TotalVariation
from wavestill.divergences.wasserstein import SquaredWasserstein

__all__ = [
    "KL",
    "Divergence",
    "ForwardKL",
    "JensenShannon",
    "QuantileDivergence",
    "Renyi",
    "SquaredWasserstein",
    "TotalVariation",
    "best_location_scale",
    "kl_normal",
    "stratified_noise",
    "stratified_points",
]

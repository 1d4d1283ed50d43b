"""Densities, each one file."""

from wavestill.models.affine_iaf import IAFWaveNetConfig
from wavestill.models.iaf_wavenet import IAFWaveNet
from wavestill.models.packed_student import PackedStudent
from wavestill.models.pools import MixturePool
from wavestill.models.wavenet import WaveNet, WaveNetConfig

__all__ = [
    "IAFWaveNet",
    "IAFWaveNetConfig",
    "MixturePool",
    "PackedStudent",
    "WaveNet",
    "WaveNetConfig",
]

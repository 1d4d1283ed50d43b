"""Densities, each one file."""

from wavestill.models.iaf_wavenet import IAFWaveNet, IAFWaveNetConfig
from wavestill.models.wavenet import WaveNet, WaveNetConfig

__all__ = ["IAFWaveNet", "IAFWaveNetConfig", "WaveNet", "WaveNetConfig"]

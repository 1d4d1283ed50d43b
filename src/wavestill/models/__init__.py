"""Densities, each one file."""

from wavestill.models.affine_iaf import IAFWaveNetConfig
from wavestill.models.block_transformer import BlockTransformer, BlockTransformerConfig
from wavestill.models.frame_prior import FramePrior, FramePriorConfig
from wavestill.models.hybrid import Hybrid
from wavestill.models.iaf_wavenet import IAFWaveNet
from wavestill.models.made import MADE, MADEConfig
from wavestill.models.nade import NADE, NADEConfig
from wavestill.models.packed_student import PackedStudent
from wavestill.models.pools import MixturePool
from wavestill.models.rnade import RNADE, RNADEConfig
from wavestill.models.wavenet import WaveNet, WaveNetConfig

__all__ = [
    "MADE",
    "NADE",
    "RNADE",
    "BlockTransformer",
    "BlockTransformerConfig",
    "FramePrior",
    "FramePriorConfig",
    "Hybrid",
    "IAFWaveNet",
    "IAFWaveNetConfig",
    "MADEConfig",
    "MixturePool",
    "NADEConfig",
    "PackedStudent",
    "RNADEConfig",
    "WaveNet",
    "WaveNetConfig",
]

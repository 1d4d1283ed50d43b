"""Densities, each one file."""

from wavestill.models.adoption import adopt
from wavestill.models.affine_iaf import IAFWaveNetConfig
from wavestill.models.block_transformer import BlockTransformer, BlockTransformerConfig
from wavestill.models.continuous_flow import CNF
from wavestill.models.distilled import Distilled
from wavestill.models.flows import IAF, MAF, NSF, PermutedIAF, PermutedMAF
from wavestill.models.frame_prior import FramePrior, FramePriorConfig
from wavestill.models.hybrid import Hybrid
from wavestill.models.iaf_wavenet import IAFWaveNet
from wavestill.models.made import MADE, MADEConfig
from wavestill.models.nade import NADE, NADEConfig
from wavestill.models.packed_student import PackedStudent
from wavestill.models.phone_classifier import PhoneClassifier, PhoneClassifierConfig
from wavestill.models.pools import MixturePool
from wavestill.models.rnade import RNADE, RNADEConfig
from wavestill.models.wavenet import WaveNet, WaveNetConfig

__all__ = [
    "CNF",
    "IAF",
    "MADE",
    "MAF",
    "NADE",
    "NSF",
    "RNADE",
    "BlockTransformer",
    "BlockTransformerConfig",
    "Distilled",
    "FramePrior",
    "FramePriorConfig",
    "Hybrid",
    "IAFWaveNet",
    "IAFWaveNetConfig",
    "MADEConfig",
    "MixturePool",
    "NADEConfig",
    "PackedStudent",
    "PermutedIAF",
    "PermutedMAF",
    "PhoneClassifier",
    "PhoneClassifierConfig",
    "RNADEConfig",
    "WaveNet",
    "WaveNetConfig",
    "adopt",
]

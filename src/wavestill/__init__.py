"""Distil slow autoregressive densities into samplers that run in one parallel pass.

The maths is imported at once and is light; whatever trains, reads sound or writes files is
imported on first use.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# GNU's OpenMP spins for milliseconds at the end of every operation: where another program wants
# the core, two threads took ten times as long as one. It reads this when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from wavestill.density import (
    Autoregressive,
    Conditioning,
    Density,
    Draw,
    InverseAutoregressive,
    JointDraw,
    Reparametrised,
    as_density,
)
from wavestill.models import (
    CNF,
    IAF,
    MADE,
    MAF,
    NADE,
    NSF,
    RNADE,
    BlockTransformer,
    BlockTransformerConfig,
    Distilled,
    FramePrior,
    FramePriorConfig,
    Hybrid,
    IAFWaveNet,
    IAFWaveNetConfig,
    MADEConfig,
    MixturePool,
    NADEConfig,
    PermutedIAF,
    PermutedMAF,
    RNADEConfig,
    WaveNet,
    WaveNetConfig,
)

if TYPE_CHECKING:
    from wavestill.audio import Corpus, MelSpec, prepare
    from wavestill.drawing import stream, synthesise
    from wavestill.evaluation import evaluate
    from wavestill.publish import Voice, load, save
    from wavestill.publish.hub import push
    from wavestill.publish.onnx import export
    from wavestill.synthesis import synth
    from wavestill.training import distill, fit
    from wavestill.training.density_folder import load_density

__version__ = "0.1.0"

_ON_FIRST_USE = {
    "Corpus": "wavestill.audio",
    "MelSpec": "wavestill.audio",
    "prepare": "wavestill.audio",
    "evaluate": "wavestill.evaluation",
    "Voice": "wavestill.publish",
    "load": "wavestill.publish",
    "save": "wavestill.publish",
    "push": "wavestill.publish.hub",
    "export": "wavestill.publish.onnx",
    "stream": "wavestill.drawing",
    "synth": "wavestill.synthesis",
    "synthesise": "wavestill.drawing",
    "distill": "wavestill.training",
    "fit": "wavestill.training",
    "load_density": "wavestill.training.density_folder",
}

__all__ = [
    "CNF",
    "IAF",
    "MADE",
    "MAF",
    "NADE",
    "NSF",
    "RNADE",
    "Autoregressive",
    "BlockTransformer",
    "BlockTransformerConfig",
    "Conditioning",
    "Corpus",
    "Density",
    "Distilled",
    "Draw",
    "FramePrior",
    "FramePriorConfig",
    "Hybrid",
    "IAFWaveNet",
    "IAFWaveNetConfig",
    "InverseAutoregressive",
    "JointDraw",
    "MADEConfig",
    "MelSpec",
    "MixturePool",
    "NADEConfig",
    "PermutedIAF",
    "PermutedMAF",
    "RNADEConfig",
    "Reparametrised",
    "Voice",
    "WaveNet",
    "WaveNetConfig",
    "as_density",
    "distill",
    "evaluate",
    "export",
    "fit",
    "load",
    "load_density",
    "prepare",
    "push",
    "save",
    "stream",
    "synth",
    "synthesise",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  (whatever the name stands for)
    if name in _ON_FIRST_USE:
        return getattr(import_module(_ON_FIRST_USE[name]), name)
    raise AttributeError(f"module 'wavestill' has no attribute '{name}'")

"""Every sequence model by name, small, with random weights: a new one is one more line."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from wavestill.density import Conditioning
from wavestill.models import IAFWaveNet, IAFWaveNetConfig, WaveNet, WaveNetConfig
from wavestill.nn.conditioning import ConditioningConfig

HOP = 8
MEL = ConditioningConfig(
    num_features=5, hop_samples=HOP, sample_rate=4000, channels=6, subframe_samples=4
)
PITCH = ConditioningConfig(
    num_features=5,
    hop_samples=HOP,
    sample_rate=4000,
    channels=6,
    subframe_samples=4,
    num_harmonics=2,
)
VOICES = ConditioningConfig(channels=6, num_speakers=3)
BOTH = ConditioningConfig(
    num_features=5, hop_samples=HOP, sample_rate=4000, channels=6, num_speakers=3
)

SMALL = {
    "layers": 5,
    "dilation_cycle": 3,
    "residual_channels": 6,
    "gate_channels": 5,
    "skip_channels": 7,
}


@dataclass
class Case:
    """A model and what it is conditioned on."""

    build: Callable[[], nn.Module]
    conditioning: ConditioningConfig | None = None
    extra: dict[str, object] = field(default_factory=dict)

    def model(self) -> nn.Module:
        """The model in float64 with every parameter moved off its initial value."""
        torch.manual_seed(1)
        model = self.build().double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(
                    0.3 * torch.randn_like(parameter) / max(1, parameter.shape[-1]) ** 0.5
                )
            model.gain.fill_(3.0)
            if getattr(model, "synthesis", None) is not None:
                taps = torch.tensor([0.3, -0.7, 1.2], dtype=torch.float64)  # poles inside 0.93
                model.synthesis.calibrate(taps, torch.tensor(0.6, dtype=torch.float64))
        return model

    def context(self, batch: int, frames: int, seed: int = 0) -> Conditioning | None:
        """A random context of `frames * HOP` samples."""
        if self.conditioning is None:
            return None
        generator = torch.Generator().manual_seed(seed)
        features, speaker = None, None
        if self.conditioning.num_features:
            features = torch.randn(
                batch,
                frames,
                self.conditioning.num_features,
                generator=generator,
                dtype=torch.float64,
            )
            if self.conditioning.num_harmonics:
                features[..., -2] = 5.0 + 0.3 * features[..., -2]
                features[..., -1] = (features[..., -1] > -0.5).double()
        if self.conditioning.num_speakers:
            speaker = torch.arange(batch) % self.conditioning.num_speakers
        return Conditioning(features, speaker)


def _teacher(conditioning: ConditioningConfig | None = None, **changes: object) -> Case:
    return Case(
        lambda: WaveNet(WaveNetConfig(**(SMALL | {"conditioning": conditioning} | changes))),
        conditioning,
    )


def _student(conditioning: ConditioningConfig | None = None, **changes: object) -> Case:
    shape = {
        "flows": (3, 4),
        "dilation_cycle": 3,
        "channels": 6,
        "initial_scale": 0.5,
        "conditioning": conditioning,
    }
    return Case(lambda: IAFWaveNet(IAFWaveNetConfig(**(shape | changes))), conditioning)


TEACHERS = {
    "logistics16": _teacher(num_mixtures=3),
    "logistics": _teacher(num_mixtures=3, bits=None),
    "gaussian": _teacher(head="gaussian"),
    "mulaw": _teacher(head="mulaw"),
    "predictor": _teacher(head="gaussian", predictor_order=4),
    "filter2": _teacher(filter_width=2, num_mixtures=2, bits=None),
    "mel": _teacher(MEL, num_mixtures=3, bits=None),
    "pitch": _teacher(PITCH, num_mixtures=3, predictor_order=3),
    "voices": _teacher(VOICES, head="gaussian"),
    "mel+voices": _teacher(BOTH, head="gaussian"),
}
STUDENTS = {
    "logistic": _student(),
    "normal": _student(base="normal"),
    "one-flow": _student(flows=(4,)),
    "predictor": _student(predictor_order=3),
    "mel": _student(MEL),
    "pitch": _student(PITCH),
    "voices": _student(VOICES, base="normal"),
    "mel+voices": _student(BOTH),
}

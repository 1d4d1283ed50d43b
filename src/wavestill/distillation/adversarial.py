"""The adversarial term: discriminators that tell the student's draws from recordings."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from wavestill.distillation.spectral import RESOLUTIONS_S, power_spectrum, quiet_power
from wavestill.distillation.trial import Trial

Heard = tuple[Tensor, list[Tensor]]
"""A discriminator's scores, and the features of its layers."""


@dataclass(frozen=True)
class AdversarialConfig:
    """How the adversarial term learns and acts.

    Arguments:
        after_steps: Steps of training before the student hears of it; the discriminators learn
            from the first.
        channels: Width of the discriminators.
        feature_weight: Weight of feature matching beside the score; 0 for none.
        rate_share: The discriminators' learning rate as a share of the student's.
    """

    after_steps: int = 1000
    channels: int = 16
    feature_weight: float = 2.0
    rate_share: float = 0.5

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"'channels' is {self.channels}; it must be positive")
        for name in ("after_steps", "feature_weight", "rate_share"):
            if getattr(self, name) < 0:
                raise ValueError(f"'{name}' is {getattr(self, name)}; it must be 0 or more")


class SpectrogramDiscriminator(nn.Module):
    r"""Scores of patches of one log-magnitude spectrogram.

    Convolutions over frequency and time, strided in frequency; each score sees a patch of some
    frames and bands, so that texture counts and the phase of the noise does not.

    References:
        | UnivNet (Jang et al., 2021), section 2.2 (multi-resolution spectrograms),
          https://arxiv.org/abs/2106.07889

    Arguments:
        window_samples: Window of the transform; the hop is a fifth of it.
        channels: Width.
    """

    def __init__(self, window_samples: int, channels: int) -> None:
        super().__init__()
        self.window_samples = window_samples
        strides = (2, 2, 2, 1)
        self.layers = nn.ModuleList(
            weight_norm(
                nn.Conv2d(1 if k == 0 else channels, channels, (5, 3), (stride, 1), padding=(2, 1))
            )
            for k, stride in enumerate(strides)
        )
        self.score = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x: Tensor, floor: Tensor | float) -> Heard:
        """Scores and features of waveforms `x (B, T)` of about unit level.

        Arguments:
            x: Waveforms.
            floor: A power under which nothing is heard.
        """
        power = power_spectrum(x, self.window_samples)
        h = 0.5 * (power + floor).log().unsqueeze(1)  # (B, 1, bins, frames)
        features = []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
            features.append(h.to(x.dtype))
        return self.score(h).to(x.dtype), features


class Adversarial(nn.Module):
    r"""Least-squares adversaries at several resolutions of the spectrogram, and feature matching.

    .. math::
        L_D = \mathrm{mean}_k \; E\,(D_k(y) - 1)^2 + E\,D_k(x)^2, \qquad
        L_G = \mathrm{mean}_k \; E\,(D_k(x) - 1)^2 + \lambda_f \,
            \mathrm{mean}_l \frac{E\,|D_{kl}(x) - D_{kl}(y)|}{E\,|D_{kl}(y)|}

    over draws `x` and recordings `y` of the same conditioning. `forward` gives :math:`L_G`, whose
    gradient reaches the student alone, and `lesson` :math:`L_D`, whose gradient reaches the
    discriminators alone: `Objective` adds both, and training steps each with its own Adam. A
    divergence is content where the teacher is unsure; an adversary is not, and can lead a student
    past its teacher (IAF + GAN, below). That it does so by leaving the teacher shows in KL.

    References:
        | Parallel WaveGAN (Yamamoto et al., 2020), section 2.2 (least squares, one learning rate
          half the other), https://arxiv.org/abs/1910.11480
        | Probability density distillation with generative adversarial networks (Yamamoto et al.,
          2019), https://arxiv.org/abs/1904.04472

    Arguments:
        sample_rate: Samples per second.
        config: How it learns and acts.
        resolutions_s: Windows in seconds.
    """

    step: Tensor

    def __init__(
        self,
        sample_rate: int,
        config: AdversarialConfig | None = None,
        resolutions_s: tuple[float, ...] = RESOLUTIONS_S,
    ) -> None:
        super().__init__()
        self.config = config or AdversarialConfig()
        windows = [round(sample_rate * seconds) for seconds in resolutions_s]
        self.discriminators = nn.ModuleList(
            SpectrogramDiscriminator(window, self.config.channels) for window in windows
        )
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def forward(self, trial: Trial) -> Tensor:
        """What the student descends, >= 0; counts the step. 0 before its time.

        Raises:
            ValueError: If there is no recording, or it is shorter than a window.
        """
        reference = trial.require_reference("adversarial")
        step = int(self.step)
        self.step += 1
        if step < self.config.after_steps:
            return reference.new_zeros(())
        ours, theirs, floor = self._levelled(trial.draw.x, reference)
        # Detached weights: through them the gradient goes on to the student, and no further.
        weights = {name: value.detach() for name, value in self.discriminators.named_parameters()}
        parts = []
        for number, discriminator in enumerate(self.discriminators):
            own = {
                name.removeprefix(f"{number}."): value
                for name, value in weights.items()
                if name.startswith(f"{number}.")
            }
            score, features = functional_call(discriminator, own, (ours, floor))
            part = (score - 1).square().mean()
            if self.config.feature_weight:
                with torch.no_grad():
                    _, wanted = discriminator(theirs, floor)
                part = part + self.config.feature_weight * _distance(features, wanted)
            parts.append(part)
        return torch.stack(parts).mean()

    def lesson(self, trial: Trial) -> Tensor:
        """What the discriminators descend, >= 0; 1 while they cannot tell, 0 when they can."""
        reference = trial.require_reference("adversarial")
        ours, theirs, floor = self._levelled(trial.draw.x.detach(), reference)
        parts = []
        for discriminator in self.discriminators:
            false, _ = discriminator(ours, floor)
            true, _ = discriminator(theirs, floor)
            parts.append(false.square().mean() + (true - 1).square().mean())
        return torch.stack(parts).mean()

    def _levelled(self, x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, float]:
        """Both in units of the recordings' level, and the power that is silence there."""
        dtype = next(self.discriminators.parameters()).dtype
        level = reference.square().mean().sqrt().clamp_min(1e-10)  # a batch may be silent
        theirs = (reference / level).to(dtype)
        return (x / level).to(dtype), theirs, quiet_power(theirs)


def _distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    distances = [
        (own - other).abs().mean() / other.abs().mean().clamp_min(1e-10)
        for own, other in zip(ours, theirs, strict=True)
    ]
    return torch.stack(distances).mean()

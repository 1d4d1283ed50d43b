r"""Frames in units that suit a model: uncorrelated components of the mels, and pitch.

The mels are turned by the principal axes of their change from frame to frame and scaled to unit
change, :math:`u = W^T (m - \bar m)`: what is new in a frame is then of unit size and, to first
order, uncorrelated.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Parts(NamedTuple):
    """Frames in the units of a model.

    Arguments:
        components: Of the mels, `(B, F, M)`.
        log_f0: In standard deviations, `(B, F)`; through unvoiced frames its last voiced value.
            None where frames have no pitch.
        voicing: 0 or 1, `(B, F)`; None likewise.
    """

    components: Tensor
    log_f0: Tensor | None = None
    voicing: Tensor | None = None

    @property
    def pitch(self) -> tuple[Tensor, Tensor]:
        """Log F0 and voicing, where frames have them."""
        assert self.log_f0 is not None
        assert self.voicing is not None
        return self.log_f0, self.voicing


class FrameComponents(nn.Module):
    """From frames to their `Parts` and back, by the statistics given to `calibrate`.

    Arguments:
        num_features: Columns of a frame.
        pitch: Whether the last two are log F0 (nats of Hz) and voicing (0 or 1).

    Raises:
        ValueError: If there would be no mels.

    Example:
        >>> components = FrameComponents(4, pitch=True)
        >>> frames = torch.tensor([[[-3.0, -2.0, 5.1, 1.0], [-3.0, -1.0, 9.9, 0.0]]])
        >>> components.frames(components(frames))[0, 1]  # no voice: F0 stands still
        tensor([-3.0000, -1.0000,  5.1000,  0.0000])
    """

    mean: Tensor
    turn: Tensor
    back: Tensor
    spread: Tensor
    pitch_unit: Tensor

    def __init__(self, num_features: int, *, pitch: bool) -> None:
        super().__init__()
        self.pitch = pitch
        self.num_features = num_features
        self.num_mels = num_features - 2 * pitch
        if self.num_mels < 1:
            raise ValueError(
                f"num_features={num_features} leaves no mels beside pitch={pitch}; give more "
                "columns"
            )
        self.register_buffer("mean", torch.zeros(self.num_mels))
        self.register_buffer("turn", torch.eye(self.num_mels))
        self.register_buffer("back", torch.eye(self.num_mels))
        self.register_buffer("spread", torch.ones(self.num_mels))
        self.register_buffer("pitch_unit", torch.tensor([5.0, 0.25]))

    @property
    def log_volume(self) -> Tensor:
        """Log of how much a frame's mels are stretched, in nats."""
        log_volume: Tensor = torch.linalg.slogdet(self.turn)[1]
        return log_volume

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Set axes and scales from frames `(B, F, C)`.

        Raises:
            ValueError: If there are too few frames.
        """
        mels = x[..., : self.num_mels].double()
        change = (mels[:, 1:] - mels[:, :-1]).flatten(0, 1)
        if len(change) <= self.num_mels:
            raise ValueError(
                f"{len(change)} changes from frame to frame do not tell the axes of "
                f"{self.num_mels} mels; give more frames"
            )
        variance, axes = torch.linalg.eigh(change.T @ change / len(change))
        variance, axes = variance.flip(0), axes.flip(1)  # the largest first
        # A band that never changes has no scale to divide by.
        scale = variance.clamp_min(1e-8 * float(variance[0]) + 1e-12).sqrt()
        self.mean.copy_(mels.flatten(0, 1).mean(0))
        self.turn.copy_(axes / scale)
        self.back.copy_((axes * scale).T)
        components = (mels - self.mean.double()) @ (axes / scale)
        self.spread.copy_(components.flatten(0, 1).std(0).clamp_min(1e-6))
        if self.pitch:
            log_f0 = x[..., -2][x[..., -1] > 0.5]
            if len(log_f0) > 1:
                self.pitch_unit.copy_(torch.stack([log_f0.mean(), log_f0.std().clamp_min(1e-3)]))

    def forward(self, x: Tensor) -> Parts:
        """Frames `(B, F, C)` to their parts.

        Raises:
            ValueError: If the columns are not those, or voicing is neither 0 nor 1.
        """
        self.check(x)
        with torch.autocast(x.device.type, enabled=False):  # data keep full precision
            components = (x[..., : self.num_mels] - self.mean) @ self.turn
        if not self.pitch:
            return Parts(components)
        voicing = x[..., -1]
        log_f0 = (x[..., -2] - self.pitch_unit[0]) / self.pitch_unit[1]
        frame = torch.arange(x.shape[1], device=x.device)
        last = torch.where(voicing > 0.5, frame, -1).cummax(1).values  # the last voiced frame
        held = log_f0.gather(1, last.clamp(min=0))
        return Parts(components, torch.where(last >= 0, held, 0.0), voicing)

    def frames(self, parts: Parts) -> Tensor:
        """Frames `(..., C)` of their parts `(..., M)`."""
        mels = parts.components @ self.back + self.mean
        if not self.pitch:
            return mels
        log_f0, voicing = parts.pitch
        log_f0 = log_f0 * self.pitch_unit[1] + self.pitch_unit[0]
        return torch.cat([mels, log_f0.unsqueeze(-1), voicing.unsqueeze(-1)], -1)

    def seen(self, parts: Parts) -> tuple[Tensor, ...]:
        """Components, and where there is pitch log F0 and voicing, as networks see them.

        In standard deviations, and within three. Beyond, little was learned, and what is drawn
        feeds itself: without the bound (at five) 3 of 40 stretches of ten seconds lost their way
        in a roar, with it none.
        """
        components = (parts.components / self.spread).clamp(-3.0, 3.0)
        if not self.pitch:
            return (components,)
        log_f0, voicing = parts.pitch
        return components, log_f0.clamp(-3.0, 3.0), voicing

    def check(self, x: Tensor) -> None:
        """Refuse what are no frames of this kind; see `forward`."""
        if x.dim() != 3 or x.shape[-1] != self.num_features:
            raise ValueError(
                f"the frames have shape {tuple(x.shape)} but the model is of (batch, frames, "
                f"{self.num_features}); use the features it was built for"
            )
        if self.pitch and not bool(((x[..., -1] == 0) | (x[..., -1] == 1)).all()):
            raise ValueError(
                "the last column is not all 0 or 1 but stands for voicing; give frames of a spec "
                "with pitch, or build the model with pitch=False"
            )

"""The perceptual loss: what a classifier of phones hears in the draw and in the recording."""

from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn

from wavestill.distillation.features import moment_distance
from wavestill.distillation.trial import Trial
from wavestill.models.phone_classifier import PhoneClassifier

Compared = Literal["features", "style"]

STRETCH_S = 0.25
"""Stretch of time whose Gram matrices are compared: a few phones, as the paper's clips of 0.32 s.
Over longer ones the styles of different phones would be averaged into one."""


class Perceptual(nn.Module):
    r"""Distance of the layers :math:`f_l` of a phone classifier on the draw and on the recording.

    .. math:: \text{features:}\; \frac1L \sum_l \mathrm{mean}_t \,
        \tfrac{1}{C_l} \| f_{l,t}(x) - f_{l,t}(y) \|^2, \qquad
        \text{style:}\; \frac1L \sum_l \frac{\sum_i \| G_l^{(i)}(x) - G_l^{(i)}(y) \|^2}
        {\sum_i \| G_l^{(i)}(y) \|^2}, \quad
        G_l^{(i)} = \mathrm{mean}_{t \in i} \, [1, f_{l,t}] [1, f_{l,t}]^\top

    Every channel is standardised by its mean and deviation over the recordings of the batch, so
    that none counts for the unit it happens to have; stretches of time are `i`. Features ask for
    the same sound at the same time, phases included in the early layers: 0 at equality, 1 for a
    draw that has nothing of the recording's variation, 2 for one of its own. Gram matrices only
    ask for the same texture, wherever in the stretch it falls. The paper found style better.

    References:
        | Parallel WaveNet (van den Oord et al., 2018), section 4 (perceptual loss), https://arxiv.org/abs/1711.10433
        | A Neural Algorithm of Artistic Style (Gatys et al., 2015), equations 1 and 3 to 5,
          https://arxiv.org/abs/1508.06576

    Arguments:
        classifier: The classifier; a frozen copy is kept.
        compared: `features` or `style`.
        stretch_s: Stretch of the Gram matrices in seconds; the whole clip if that is shorter.
    """

    def __init__(
        self,
        classifier: PhoneClassifier,
        compared: Compared = "style",
        *,
        stretch_s: float = STRETCH_S,
    ) -> None:
        super().__init__()
        self.classifier = deepcopy(classifier).eval().requires_grad_(requires_grad=False)
        self.compared = compared
        self.stretch_s = stretch_s

    def forward(self, trial: Trial) -> Tensor:
        """The distance of the draw from the recording, 0 at equality.

        Raises:
            ValueError: If there is no recording, or it is shorter than a frame.
        """
        name = "perceptual" if self.compared == "features" else "style"
        reference = trial.require_reference(name)
        dtype = self.classifier.gain.dtype
        heard = self.classifier.features(trial.draw.x.to(dtype))
        with torch.no_grad():
            wanted = self.classifier.features(reference.to(dtype))
        distances = []
        for ours, theirs in map(_standardised, heard, wanted):
            if self.compared == "features":
                distances.append((ours - theirs).square().mean())
            else:  # of the layer at frame rate a stretch is so many frames
                stretch = self._stretch(ours.shape[1], reference.shape[1])
                distances.append(moment_distance([ours], [theirs], stretch))
        return torch.stack(distances).mean()

    def _stretch(self, num_steps: int, num_samples: int) -> int:
        """Steps of a layer's stretch, for a layer of so many steps over so many samples."""
        rate = self.classifier.config.sample_rate * num_steps / num_samples
        return max(1, round(self.stretch_s * rate))


def _standardised(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Features `(B, T, C)` in units of each channel's deviation over the recordings."""
    ours, theirs = ours.float(), theirs.float()
    variance, mean = torch.var_mean(theirs, (0, 1), correction=0)
    # a channel that is dead on these recordings must not shout when the draw wakes it
    scale = (variance + 1e-3 * variance.mean() + 1e-20).sqrt()
    return (ours - mean) / scale, (theirs - mean) / scale

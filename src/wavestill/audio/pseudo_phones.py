"""Pseudo-phones: clusters of mel-cepstra, for corpora that nobody has labelled."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from wavestill.audio.corpus import Clip, Clips

NUM_CEPSTRA = 13
"""The level and twelve coefficients of the envelope's shape: what recognisers began with."""

_FRAMES_MAX = 60_000
"""Frames to cluster: twelve minutes of speech at 80 a second; more would not move the centres."""


@dataclass(frozen=True)
class PseudoPhones:
    r"""The nearest of `K` centres to each frame's standardised mel-cepstrum.

    .. math:: k_i = \arg\min_k \| (C m_i - \mu) / \sigma - v_k \|^2

    with the log-mels :math:`m_i` and the cosine transform `C`. The centres are those of k-means,
    so no label is needed; what falls together sounds alike, which is most of what a phone is. The
    order of the centres is by the first cepstrum, the level: 0 is the quietest.

    Arguments:
        mean: :math:`\mu`, `(13,)`.
        scale: :math:`\sigma`, `(13,)`.
        centres: `v (K, 13)`.
        num_mels: Columns of a frame that are mels; what follows them is not looked at.
    """

    mean: Tensor
    scale: Tensor
    centres: Tensor
    num_mels: int

    @property
    def num_classes(self) -> int:
        """`K`."""
        return len(self.centres)

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each, as phones have."""
        return tuple(f"cluster {k}" for k in range(self.num_classes))

    def __call__(self, clip: Clip) -> Int64[Tensor, " F"]:
        """The class of each frame of a clip."""
        return self.label(torch.from_numpy(clip.frames))

    def label(self, frames: Float[Tensor, "F C"]) -> Int64[Tensor, " F"]:
        """The class of each frame."""
        points = (mel_cepstra(frames[:, : self.num_mels]) - self.mean) / self.scale
        return torch.cdist(points, self.centres).argmin(1)


def mel_cepstra(log_mels: Float[Tensor, "F M"]) -> Float[Tensor, "F K"]:
    r"""The first 13 mel-cepstra of log-mels.

    .. math:: c_{ik} = \frac{1}{M} \sum_m m_{im} \cos \frac{\pi k (m + 1/2)}{M}
    """
    num_mels = log_mels.shape[1]
    m = torch.arange(num_mels, dtype=torch.float64) + 0.5
    k = torch.arange(NUM_CEPSTRA, dtype=torch.float64).unsqueeze(1)
    transform = torch.cos(math.pi / num_mels * k * m) / num_mels
    return log_mels @ transform.T.to(log_mels)


def find_pseudo_phones(clips: Clips, num_classes: int = 64, *, seed: int = 0) -> PseudoPhones:
    """Cluster the frames of a corpus.

    Arguments:
        clips: A split with mel frames.
        num_classes: How many pseudo-phones: 64 is about the phones of a language with their
            commonest variants.
        seed: Of the choice of frames and of the first centres.

    Raises:
        ValueError: If the frames are not mels, or fewer than the classes.
    """
    num_mels = getattr(clips.spec, "num_mels", 0)
    if not num_mels:
        raise ValueError(
            "pseudo-phones are clusters of mels but the corpus has none; prepare it with a mel "
            "preset, or give the folder of its label files as 'labels'"
        )
    generator = torch.Generator().manual_seed(seed)
    parts, total = [], 0
    for i in torch.randperm(len(clips), generator=generator).tolist():
        parts.append(torch.from_numpy(clips[i].frames)[:, :num_mels])
        total += len(parts[-1])
        if total >= _FRAMES_MAX:
            break
    cepstra = mel_cepstra(torch.cat(parts)) if parts else torch.zeros(0, NUM_CEPSTRA)
    if not 2 <= num_classes <= len(cepstra):
        raise ValueError(
            f"{num_classes} pseudo-phones cannot be made of {len(cepstra)} frames; "
            "ask for 2 or more, and no more than there are frames"
        )
    mean, scale = cepstra.mean(0), cepstra.std(0, correction=0).clamp_min(1e-5)
    centres = k_means((cepstra - mean) / scale, num_classes, generator)
    return PseudoPhones(mean, scale, centres[centres[:, 0].argsort()], num_mels)


def k_means(
    points: Float[Tensor, "N D"], num_centres: int, generator: torch.Generator, *, rounds: int = 30
) -> Float[Tensor, "K D"]:
    """Centres of clusters by Lloyd's rounds from k-means++ seeds; an empty cluster keeps its own.

    References:
        | k-means++: The Advantages of Careful Seeding (Arthur and Vassilvitskii, 2007),
          section 2.2
    """
    first = torch.randint(len(points), (1,), generator=generator)
    chosen = [points[first]]
    nearest = torch.full((len(points),), math.inf, dtype=points.dtype)
    for _ in range(num_centres - 1):
        nearest = torch.minimum(nearest, (points - chosen[-1]).square().sum(1))
        # all points may lie on centres already: then any will do
        index = torch.multinomial(nearest + 1e-12, 1, generator=generator)
        chosen.append(points[index])
    centres = torch.cat(chosen)
    for _ in range(rounds):
        owner = torch.cdist(points, centres).argmin(1)
        count = torch.zeros(num_centres, dtype=points.dtype).index_add_(
            0, owner, torch.ones(len(points), dtype=points.dtype)
        )
        total = torch.zeros_like(centres).index_add_(0, owner, points)
        moved = torch.where(
            count.unsqueeze(1) > 0, total / count.clamp_min(1).unsqueeze(1), centres
        )
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres

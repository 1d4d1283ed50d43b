"""Random crops for training, a pure function of (seed, step)."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from wavestill.audio.corpus import Clips
from wavestill.density import Conditioning


class Batch(NamedTuple):
    """Crops `x (B, T)` in [-1, 1] and their frames `(B, F, C)` and speakers `(B,)` or None."""

    x: Float[Tensor, "B T"]
    context: Conditioning


class Crops(IterableDataset[Batch]):
    """An endless stream of batches of random crops, each on frame boundaries.

    A clip is drawn with a probability in proportion to its length, then a place in it uniformly.
    Batch `step` depends on nothing but the clips, the seed and the step, so a run resumed at a
    step sees what it would have seen. Give it to a `DataLoader` with `batch_size=None`; with
    several workers batches still come in order.

    Arguments:
        clips: Where from.
        clip_frames: Length of a crop in frames.
        batch_size: Crops in a batch.
        seed: Of the stream.
        start_step: The first batch's step.

    Raises:
        ValueError: If no clip is as long as a crop.
    """

    def __init__(
        self,
        clips: Clips,
        *,
        clip_frames: int,
        batch_size: int,
        seed: int = 0,
        start_step: int = 0,
    ) -> None:
        if clip_frames < 1 or batch_size < 1:
            raise ValueError(
                f"'clip_frames' {clip_frames} and 'batch_size' {batch_size} must be at least 1"
            )
        if len(clips) == 0:
            raise ValueError(
                "the split holds no clips; prepare the corpus with more recordings or fractions"
            )
        long_enough = clips.num_frames >= clip_frames
        if not long_enough.any():
            raise ValueError(
                f"'clip_frames' is {clip_frames} but the longest clip has "
                f"{clips.num_frames.max()} frames; ask for shorter crops"
            )
        self.clips = clips
        self.clip_frames = clip_frames
        self.batch_size = batch_size
        self.seed = seed
        self.start_step = start_step
        self.num_too_short = int(np.sum(~long_enough))
        """Clips shorter than a crop: they are never drawn."""
        weight = np.where(long_enough, clips.num_frames, 0)
        self._cumulative = np.cumsum(weight / weight.sum())

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        rng = np.random.default_rng([self.seed, step])
        spec, length = self.clips.spec, self.clip_frames
        # the last entry of the cumulative sum may be a rounding error below 1
        chosen = np.searchsorted(
            self._cumulative, rng.random(self.batch_size) * self._cumulative[-1], "right"
        )
        first = self.clips.first_frame[chosen] + rng.integers(
            self.clips.num_frames[chosen] - length + 1
        )
        hop = spec.hop_samples
        audio = np.stack([self.clips.audio[f * hop : (f + length) * hop] for f in first])
        frames = np.stack([self.clips.frames[f : f + length] for f in first])
        speakers = [self.clips.speaker(int(i)) for i in chosen]
        known = [speaker for speaker in speakers if speaker is not None]
        context = Conditioning(torch.from_numpy(frames), torch.tensor(known) if known else None)
        return Batch(torch.from_numpy(audio).float() / 32768, context)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        step = self.start_step + (worker.id if worker else 0)
        while True:
            yield self.batch(step)
            step += worker.num_workers if worker else 1

"""Random crops for training, a pure function of (seed, step)."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from wavestill.audio.corpus import Clips, Piece
from wavestill.audio.shards import DamagedClip
from wavestill.density import Conditioning

_DRAWS_AT_MOST = 100
"""Damaged clips in a row after which the corpus, not a clip, is at fault."""


class Batch(NamedTuple):
    """Crops `x (B, T)` in [-1, 1] and their frames `(B, F, C)` and speakers `(B,)` or None.

    `damaged` names the clips that were drawn for it but could not be used.
    """

    x: Float[Tensor, "B T"]
    context: Conditioning
    damaged: tuple[DamagedClip, ...] = ()


class Crops(IterableDataset[Batch]):
    """An endless stream of batches of random crops, each on frame boundaries.

    A clip is drawn with a probability in proportion to its length, then a place in it uniformly.
    Batch `step` depends on nothing but the clips, the seed and the step, so a run resumed at a
    step sees what it would have seen; a crop drawn anew in place of a damaged clip moves no other.
    Give it to a `DataLoader` with `batch_size=None`; with
    several workers batches still come in order.

    Arguments:
        clips: Where from.
        clip_frames: Length of a crop in frames.
        batch_size: Crops in a batch.
        seed: Of the stream.
        start_step: The first batch's step.
        damaged: Whether a damaged clip ends the stream by `DamagedClip`, or another crop is drawn
            in its place and `Batch.damaged` tells.

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
        damaged: Literal["raise", "skip"] = "raise",
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
        self.damaged = damaged
        self.num_too_short = int(np.sum(~long_enough))
        """Clips shorter than a crop: they are never drawn."""
        weight = np.where(long_enough, clips.num_frames, 0)
        self._cumulative = np.cumsum(weight / weight.sum())

    def batch(self, step: int, rows: slice | None = None) -> Batch:
        """The batch of one step, or only these rows of it (nothing else is read then).

        Raises:
            DamagedClip: If a clip cannot be read and none may take its place, or far too many
                cannot.
        """
        chosen, first = self._draw(np.random.default_rng([self.seed, step]), self.batch_size)
        places = range(self.batch_size)[slice(None) if rows is None else rows]
        pieces, damaged = [], []
        for place in places:
            for attempt in range(_DRAWS_AT_MOST):
                if attempt:
                    rng = np.random.default_rng([self.seed, step, place, attempt])
                    chosen[place], first[place] = (drawn[0] for drawn in self._draw(rng, 1))
                try:
                    pieces.append(self._piece(int(chosen[place]), int(first[place])))
                    break
                except DamagedClip as error:
                    damaged.append(error)
                    if self.damaged == "raise" or attempt == _DRAWS_AT_MOST - 1:
                        raise
        audio = np.stack([piece.audio for piece in pieces])
        frames = np.stack([piece.frames for piece in pieces])
        speakers = [self.clips.speaker(int(chosen[place])) for place in places]
        known = [speaker for speaker in speakers if speaker is not None]
        context = Conditioning(torch.from_numpy(frames), torch.tensor(known) if known else None)
        return Batch(torch.from_numpy(audio).float() / 32768, context, tuple(damaged))

    def _draw(self, rng: np.random.Generator, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Clips, and the first frame of a crop in each."""
        # the last entry of the cumulative sum may be a rounding error below 1
        chosen = np.searchsorted(self._cumulative, rng.random(num) * self._cumulative[-1], "right")
        return chosen, rng.integers(self.clips.num_frames[chosen] - self.clip_frames + 1)

    def _piece(self, clip: int, first: int) -> Piece:
        return self.clips.piece(clip, first, first + self.clip_frames)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        step = self.start_step + (worker.id if worker else 0)
        while True:
            yield self.batch(step)
            step += worker.num_workers if worker else 1

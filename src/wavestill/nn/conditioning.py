r"""Conditioning as the layers see it: rows at a low rate, found under each sample.

A row is added to all the samples of its sub-frame. Repetition and 1x1 products are linear and
commute, so the layers' projections run at the sub-frame rate. How frames become rows is told in
`frames.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class ConditioningConfig:
    """How frames and speakers condition a sequence model.

    Arguments:
        num_features: Columns of the frames; 0 for none. With `num_harmonics > 0` the last two are
            log F0 (in nats of Hz, continuous through unvoiced parts) and voicing (0 or 1).
        hop_samples: Samples per frame.
        sample_rate: Samples per second.
        channels: Width of the frame-rate network and of its output.
        subframe_samples: Samples per sub-frame, a divisor of the hop; 0 takes the largest of at
            most 2 ms.
        num_harmonics: Harmonics of F0 in the source signal; 0 for none.
        num_speakers: Size of the speaker embedding; 0 for none.
    """

    num_features: int = 0
    hop_samples: int = 0
    sample_rate: int = 0
    channels: int = 64
    subframe_samples: int = 0
    num_harmonics: int = 0
    num_speakers: int = 0

    def __post_init__(self) -> None:
        if self.subframe_samples < 0:
            raise ValueError(f"'subframe_samples' is {self.subframe_samples}; 0 is the default")
        if self.subframe_samples and self.hop_samples % self.subframe_samples:
            raise ValueError(
                f"subframe_samples={self.subframe_samples} does not divide "
                f"hop_samples={self.hop_samples}; choose a divisor, or 0 for the default"
            )

    @property
    def resolved_subframe_samples(self) -> int:
        """Samples per sub-frame, the default resolved."""
        if self.subframe_samples:
            return self.subframe_samples
        longest = max(1, int(0.002 * self.sample_rate))
        return max(d for d in range(1, longest + 1) if self.hop_samples % d == 0)


@dataclass(frozen=True)
class Encoded:
    """A context after its network, or a piece of one: what the layers add to their samples.

    Positions count samples from the beginning of the sequence.

    Arguments:
        features: `(B, S, C)`, one row per sub-frame; one row in all where only a speaker is given.
        subframe_samples: Samples per row; 0 where the one row holds for ever.
        source: The harmonic source at sample rate, `(B, T, 2 * num_harmonics)`, or None.
        start_samples: Position of the first row.
        position: Position of the next sample; `(B,)` where every sequence has its own. Sequences
            that end before others may then run on under their last row: whoever draws them cuts
            them.
    """

    features: Tensor
    subframe_samples: int
    source: Tensor | None = None
    start_samples: int = 0
    position: int | Tensor = 0

    @property
    def num_samples(self) -> int | None:
        """Samples that are conditioned on; None where there is no end."""
        return self.features.shape[1] * self.subframe_samples if self.subframe_samples else None

    def at(self, position: int | Tensor) -> "Encoded":
        """The same context, seen from sample `position` on."""
        return replace(self, position=position)

    def select(self, index: Tensor) -> "Encoded":
        """The contexts of the sequences `index (B',)`."""
        position = self.position if isinstance(self.position, int) else self.position[index]
        source = None if self.source is None else self.source[index]
        return replace(self, features=self.features[index], source=source, position=position)

    def rows(self, num_samples: int) -> tuple[Tensor, int | Tensor]:
        """The rows under the next samples, and how far into the first of them they begin."""
        if not self.subframe_samples:
            return self.features, 0
        offset = self._offset(num_samples)
        if isinstance(offset, int):
            first, lead = divmod(offset, self.subframe_samples)
            last = first + (lead + max(num_samples, 1) - 1) // self.subframe_samples
            return self.features[:, first : last + 1], lead
        firsts = offset // self.subframe_samples
        leads = offset - firsts * self.subframe_samples
        num_rows = int(leads.max() + num_samples - 1) // self.subframe_samples + 1
        return _windows(self.features, firsts, num_rows), leads

    def source_at(self, num_samples: int) -> Tensor | None:
        """The harmonic source of the next samples, `(B, n, 2 * num_harmonics)`."""
        if self.source is None:
            return None
        offset = self._offset(num_samples)
        if isinstance(offset, int):
            return self.source[:, offset : offset + num_samples]
        return _windows(self.source, offset, num_samples)

    def _offset(self, num_samples: int) -> int | Tensor:
        """Where the next samples begin, counted from the first row."""
        offset, total = self.position - self.start_samples, self.num_samples
        if isinstance(offset, int) and total is not None and offset + num_samples > total:
            raise ValueError(
                f"the sequence runs to sample {self.start_samples + offset + num_samples} but its "
                f"conditioning ends at {self.start_samples + total}; give more frames"
            )
        return offset


def side_by_side(parts: Sequence[Encoded]) -> Encoded:
    """Contexts of one sequence each as one of several, drawn together from their beginnings.

    Shorter ones run on under their last row, without a source: whoever draws them cuts them. Each
    has been encoded for itself, so that its end is an end.

    Raises:
        ValueError: If there are none, or they are not of one kind.
    """
    kinds = {(part.features.shape[2], part.subframe_samples) for part in parts}
    if len(kinds) != 1:
        raise ValueError(
            f"{len(parts)} contexts of {len(kinds)} kinds cannot stand side by side; encode all "
            "with one model, and at least one"
        )
    num_rows = max(part.features.shape[1] for part in parts)
    features = [
        torch.cat([part.features, part.features[:, -1:].expand(-1, num_rows - own, -1)], 1)
        for part in parts
        for own in (part.features.shape[1],)
    ]
    sources = [part.source for part in parts if part.source is not None]
    source = None
    if sources:
        longest = max(own.shape[1] for own in sources)
        source = torch.cat([F.pad(own, (0, 0, 0, longest - own.shape[1])) for own in sources])
    return Encoded(torch.cat(features), parts[0].subframe_samples, source)


def _windows(rows: Tensor, first: Tensor, num_rows: int) -> Tensor:
    """`num_rows` of `rows (B, S, C)` from `first (B,)` on; past the end the last one again."""
    index = first.unsqueeze(1) + torch.arange(num_rows, device=first.device)
    batch = torch.arange(len(first), device=first.device).unsqueeze(1)
    return rows[batch, index.clamp(max=rows.shape[1] - 1)]


def add_rows(x: Tensor, rows: Tensor, subframe_samples: int, lead: int | Tensor) -> Tensor:
    """`x (B, n, C)` plus each sample's row of `(B, S, C)`; `lead` of the first row are over."""
    batch, n, channels = x.shape
    num_rows = rows.shape[1]
    if num_rows == 1:
        return x + rows
    if n == num_rows * subframe_samples:
        return (x.view(batch, num_rows, subframe_samples, channels) + rows.unsqueeze(2)).view_as(x)
    steps = torch.arange(n, device=x.device)
    if isinstance(lead, int):
        return x + rows[:, (steps + lead) // subframe_samples]
    index = (steps + lead.unsqueeze(1)) // subframe_samples  # (B, n)
    return x + rows[torch.arange(batch, device=x.device).unsqueeze(1), index]

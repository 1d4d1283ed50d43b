"""What a run is fed: batches that depend on seed and step alone, so resumed runs see the same."""

import math
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from wavestill.audio.corpus import Corpus
from wavestill.audio.crops import Crops
from wavestill.audio.shards import DamagedClip
from wavestill.density import Autoregressive, Context, Density, InverseAutoregressive

Pair = tuple[Tensor | None, Tensor]
"""Rows `x (N, D)` with the context of each, `(N, ...)`; x is None where contexts are enough."""

Data = Tensor | Corpus | Pair

ROWS_AT_ONCE = 1024
"""Held-out rows that are measured together: bounds memory, nothing else."""


class Batch(NamedTuple):
    """One step's material.

    Arguments:
        x: Sequences `(B, T)` or vectors `(B, D)`; None where a student is distilled from noise
            alone.
        context: What they are conditioned on; None for unconditional densities.
        shape: The shape of `x`.
    """

    x: Tensor | None
    context: Context
    shape: tuple[int, int]

    def require_x(self) -> Tensor:
        """The sequences, where the task cannot do without."""
        if self.x is None:
            raise ValueError("this training needs data but none were given")
        return self.x

    def part(self, number: int, of: int) -> "Batch":
        """One of so many parts of equal size, in order."""
        size = self.shape[0] // of
        rows = slice(number * size, (number + 1) * size)
        context: Any = self.context
        if isinstance(context, tuple):  # a named tuple of what each row is conditioned on
            items: list[Any] = [None if item is None else item[rows] for item in context]
            context = type(context)(*items)
        elif isinstance(context, Tensor):
            context = context[rows]
        x = None if self.x is None else self.x[rows]
        return Batch(x, context, (size, *self.shape[1:]))

    def parts(self, num: int) -> Iterator["Batch"]:
        """All of so many parts, in order; of one part the batch itself."""
        return iter([self]) if num == 1 else (self.part(number, num) for number in range(num))


class Reference(NamedTuple):
    """Material to set a model's scales by before training.

    Arguments:
        x: Waveforms `(N,)` or `(B, T)`.
        frames: Their features `(M, C)`; None without conditioning.
    """

    x: Tensor
    frames: Tensor | None


@runtime_checkable
class Source(Protocol):
    """Batches by number, and what else a run must know of its data.

    Attributes:
        whole: Sequences are given from their true beginning, not cut out of longer ones.
        grid_nats: Added to a continuous law's -log p(x) per sample for nats on the data's grid; 0
            for plain nats.
        clip_samples: Samples per sequence.
        reads_files: Making a batch may have to wait for a disk, so it is done ahead.
    """

    whole: bool
    grid_nats: float
    clip_samples: int
    reads_files: bool

    def batch(self, step: int) -> Batch:
        """The batch of one step; the same whenever it is asked for."""
        ...

    def reference(self, num_samples: int) -> Reference:
        """Material to set a model's scales by before training: about `num_samples` samples."""
        ...


@runtime_checkable
class InParts(Protocol):
    """A source that makes one process's part of a batch without the rest of it."""

    def part(self, step: int, number: int, of: int) -> Batch:
        """One of so many equal parts of a step's batch."""
        ...


class Rows(NamedTuple):
    """Rows of tensors that belong together.

    Arguments:
        x: Sequences `(N, T)` or vectors `(N, D)`; None where only contexts are known.
        context: The context of each row, `(N, ...)`; None for unconditional densities.
    """

    x: Tensor | None
    context: Tensor | None

    def __len__(self) -> int:
        """How many rows there are."""
        rows = self.context if self.x is None else self.x
        assert rows is not None
        return rows.shape[0]

    def at(self, index: Tensor | slice) -> "Rows":
        """The rows at `index`."""
        return Rows(*(part if part is None else part[index] for part in self))

    def split(self, num_second: int, seed: int) -> tuple["Rows", "Rows"]:
        """The rows in two, `num_second` of them, chosen by the seed, in the second part."""
        order = torch.randperm(self.__len__(), generator=step_generator(seed, 0))
        return self.at(order[num_second:]), self.at(order[:num_second])

    @property
    def of_vectors(self) -> bool:
        """Whether each step of a sequence is a vector, `x (N, T, C)`."""
        return self.x is not None and self.x.dim() == 3

    @property
    def are_vectors(self) -> bool:
        """Whether there are more rows than columns, as of vectors and seldom of sequences."""
        return self.x is not None and self.x.dim() == 2 and self.x.shape[0] > self.x.shape[1]


def rows_of(data: Tensor | Pair) -> Rows:
    """Sequences `(N, T)` or `(N, T, C)`, vectors `(N, D)`, one long sequence `(N,)`, or a pair.

    Raises:
        ValueError: If a tensor has another number of dimensions, or holds values that are not
            finite, or the parts of a pair differ in length.
    """
    x, context = data if isinstance(data, tuple) else (data, None)
    for part in (x, context):
        if part is not None and not isinstance(part, Tensor):
            raise ValueError(
                f"the data is a {type(part).__name__}; give a torch.Tensor (torch.from_numpy)"
            )
    if x is not None:
        if x.dim() not in (1, 2, 3) or x.numel() == 0:
            raise ValueError(
                f"the data has shape {tuple(x.shape)}; give one long sequence (N,), sequences "
                "(N, T) or (N, T, C), or vectors (N, D)"
            )
        x = x.unsqueeze(0) if x.dim() == 1 else x
    for part in (x, context):
        if part is not None and not bool(torch.isfinite(part).all()):
            raise ValueError(
                "the data holds values that are not finite (NaN or infinite); remove them first"
            )
    if x is not None and context is not None and x.shape[0] != context.shape[0]:
        raise ValueError(
            f"there are {x.shape[0]} rows of data but {context.shape[0]} of context; "
            "give each row its own"
        )
    return Rows(x, context)


def rows_with_x(data: Tensor | Pair) -> Rows:
    """Rows to learn from.

    Raises:
        ValueError: As `rows_of`; and if there are contexts alone.
    """
    rows = rows_of(data)
    if rows.x is None:
        raise ValueError("there are contexts but no data; give a pair (x, context)")
    return rows


class TensorSource:
    """Rows of a tensor, drawn at random; rows longer than a clip are cropped at random.

    Arguments:
        rows: `x (N, T)`, and the context of each row where there is one.
        batch_size: Rows per batch.
        clip_samples: Longest piece of a row.
        seed: Seed of the choice.

    Raises:
        ValueError: If rows that have a context would be cropped: it belongs to the whole.
    """

    grid_nats = 0.0
    reads_files = False

    def __init__(self, rows: Rows, batch_size: int, clip_samples: int, seed: int) -> None:
        assert rows.x is not None, "rows without x are for NoiseSource"
        self.rows, self.context = rows.x, rows.context
        self.batch_size = batch_size
        self.clip_samples = min(clip_samples, self.rows.shape[1])
        self.whole = self.clip_samples == self.rows.shape[1]
        self.seed = seed
        if self.context is not None and not self.whole:
            raise ValueError(
                f"rows of {self.rows.shape[1]} values have a context each and cannot be cropped "
                f"to 'clip_samples' {clip_samples}; raise it"
            )

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        generator = step_generator(self.seed, step)
        num_rows, num_samples = self.rows.shape[:2]
        row = torch.randint(num_rows, (self.batch_size, 1), generator=generator)
        start = torch.randint(
            num_samples - self.clip_samples + 1, (self.batch_size, 1), generator=generator
        )
        x = self.rows[row, start + torch.arange(self.clip_samples)]
        context = None if self.context is None else self.context[row.squeeze(1)]
        return Batch(x, context, (self.batch_size, self.clip_samples))

    def reference(self, num_samples: int) -> Reference:
        """Rows from the front, until there are `num_samples`."""
        num_rows = max(1, num_samples // self.rows.shape[1])
        return Reference(self.rows[:num_rows, :num_samples], None)


def whole_batches(rows: Rows, num: int) -> list[Batch]:
    """The first `num` rows, each once, in batches of equal size."""
    assert rows.x is not None, "rows are measured by their x"
    rows = rows.at(slice(num))
    num_batches = -(-len(rows) // ROWS_AT_ONCE)
    pieces = (rows.at(slice(first, None, num_batches)) for first in range(num_batches))
    return [Batch(x, context, (x.shape[0], x.shape[1])) for x, context in pieces if x is not None]


class CorpusSource:
    """Random frame-aligned crops of a prepared corpus, with their frames and speakers.

    Arguments:
        corpus: The corpus.
        split: Which of its splits.
        batch_size: Crops per batch.
        clip_samples: Samples per crop, rounded to whole frames.
        seed: Seed of the choice.

    Attributes:
        damaged: Why clips cannot be read, by their names, as far as they were met; other crops
            took their places.
    """

    whole = False
    reads_files = True
    grid_nats = math.log(2**15)  # prepared recordings lie on the 16-bit grid of [-1, 1)

    def __init__(
        self, corpus: Corpus, split: str, batch_size: int, clip_samples: int, seed: int
    ) -> None:
        self.clips = corpus.split(split)
        hop_samples = corpus.spec.hop_samples
        clip_frames = max(1, round(clip_samples / hop_samples))
        longest = int(self.clips.num_frames.max(initial=0))
        if clip_frames > longest and split == "train":
            raise ValueError(
                f"'clip_samples' is {clip_samples} but the longest clip to train on has "
                f"{longest * hop_samples}; set it lower"
            )
        clip_frames = min(clip_frames, longest)  # held-out clips may be shorter than training's
        self.clip_samples = clip_frames * hop_samples
        self._crops = Crops(
            self.clips, clip_frames=clip_frames, batch_size=batch_size, seed=seed, damaged="skip"
        )
        self.damaged: dict[str, str] = {}

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        return self.part(step, 0, 1)

    def part(self, step: int, number: int, of: int) -> Batch:
        """One of so many equal parts of a step's batch; nothing else is read."""
        size = self._crops.batch_size // of
        drawn = self._crops.batch(step, slice(number * size, (number + 1) * size))
        for clip in drawn.damaged:
            self.damaged.setdefault(clip.id, str(clip))
        return Batch(drawn.x, drawn.context, (drawn.x.shape[0], drawn.x.shape[1]))

    def reference(self, num_samples: int) -> Reference:
        """Whole clips, spread over the split, until there are `num_samples`; their frames too.

        Raises:
            DamagedClip: If not one can be read.
        """
        waves, frames, total = [], [], 0
        for index in _spread(len(self.clips)):
            try:
                clip = self.clips[index]
            except DamagedClip as error:
                self.damaged.setdefault(error.id, str(error))
                if len(self.damaged) == len(self.clips):
                    raise
                continue
            waves.append(torch.from_numpy(clip.wave))
            frames.append(torch.from_numpy(clip.frames))
            total += len(clip.wave)
            if total >= num_samples:
                break
        return Reference(torch.cat(waves), torch.cat(frames))


class NoiseSource:
    """No data, only a shape and perhaps contexts: the student's own noise is all there is.

    Arguments:
        teacher: Draws the few sequences that the student's scale is set by.
        batch_size: Sequences per batch.
        length: Samples per sequence.
        context: Contexts `(N, ...)` of which each batch takes some at random; None for
            unconditional teachers.
        seed: Seed of that choice.
    """

    whole = True
    grid_nats = 0.0
    reads_files = False

    def __init__(
        self,
        teacher: Density,
        batch_size: int,
        length: int,
        context: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        self.teacher = teacher
        self.shape = (batch_size, length)
        self.clip_samples = length
        self.context = context
        self.seed = seed

    def batch(self, step: int) -> Batch:
        """A shape; the noise is drawn by the objective, seeded by the step."""
        if self.context is None:
            return Batch(None, None, self.shape)
        generator = step_generator(self.seed, step)
        row = torch.randint(self.context.shape[0], self.shape[:1], generator=generator)
        return Batch(None, self.context[row], self.shape)

    def reference(self, num_samples: int) -> Reference:
        """Draws of the teacher: many short ones, as sequential samplers cost by their length."""
        teacher = self.teacher
        if isinstance(teacher, nn.Module):
            teacher = deepcopy(teacher).eval()
        num_draws = max(1, num_samples // self.clip_samples)
        if hasattr(teacher, "num_dims"):  # vectors: their length is their own
            num_draws = min(num_draws, 1000)
            context = self._contexts(num_draws)
            return Reference(teacher.sample(num_draws, context), None)
        if isinstance(teacher, Autoregressive | InverseAutoregressive):
            length = min(self.clip_samples, 1000)
            draws = teacher.sample(min(num_draws, 64), length=length)  # type: ignore[call-arg]
        else:
            num_draws = min(num_draws, 1000)
            draws = teacher.sample(num_draws, self._contexts(num_draws))
        return Reference(draws, None)

    def _contexts(self, num: int) -> Tensor | None:
        if self.context is None:
            return None
        return self.context[torch.arange(num, device=self.context.device) % len(self.context)]


def _spread(num: int) -> Iterator[int]:
    """All of `0 ... num - 1`, in an order whose beginnings are spread evenly."""
    stride = next(
        s for s in range(max(1, round(0.618 * num)), num + 2) if math.gcd(s, num) == 1 or num == 1
    )
    for k in range(num):
        yield k * stride % num


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step of one run."""
    return torch.Generator().manual_seed(step_seed(seed, step))


def step_seed(seed: int, step: int) -> int:
    """One seed per step; a prime keeps neighbouring seeds and steps apart."""
    return (seed * 1_000_003 + step) % 2**63

r"""Sound while its frames still come: any chunk size, the same samples as from the whole.

Frames pass the model's conditioning network piece by piece (it looks a few frames ahead, so the
sound lags behind by them), the noise of a stretch is counted off from its seed, and the sampler
goes on from its state. Nothing of the past is kept but what the networks still hear.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from wavestill.density import Context, State, Streaming
from wavestill.distributions import Base, counter_noise
from wavestill.nn.conditioning import Encoded

# Longer pieces are drawn in parts of this many samples: it bounds the memory of activations and is
# large enough that the parts cost nothing extra.
PART_SAMPLES = 16384


@runtime_checkable
class Extending(Protocol):
    """A sampler that goes on where it ended: `CachedSampler`, `StudentSampler`, the native one."""

    def extend(self, noise: Tensor, context: Context = None) -> Tensor:
        """The sample's next steps `(B, n)` from their base draws."""
        ...


@runtime_checkable
class FramePieces(Protocol):
    """Frames to pieces of an encoded context: `wavestill.nn.frames.FrameStream`."""

    def extend(self, frames: Tensor, *, is_last: bool = False) -> Encoded:
        """The rows that become known with `frames (B, n, C)`."""
        ...


class StudentSampler:
    """A student that goes on where it ended.

    Arguments:
        student: The density.
    """

    def __init__(self, student: Streaming) -> None:
        self._student = student
        self._state: State | None = None

    def extend(
        self,
        noise: Tensor,
        context: Context = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """The sample's next steps `(B, n)`; the context as for `CachedSampler.extend`.

        Arguments:
            noise: Their base draws, `(B, n)`.
            context: As for `CachedSampler.extend`.
            progress: Called with the number of finished steps after each part of the stretch.
        """
        parts: list[Tensor] = []
        done = 0
        for part in torch.split(noise, PART_SAMPLES, dim=1):
            draw, self._state = self._student.stream(part, context, self._state)
            parts.append(draw.x)
            done += part.shape[1]
            if progress is not None:
                progress(done)
        return torch.cat(parts, dim=1)


def stream(
    sampler: Extending,
    pieces: FramePieces,
    frames: Iterable[Tensor],
    base: Base,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    chunk_samples: int | None = None,
) -> Iterator[Tensor]:
    """Sound `(n,)` as it becomes known.

    All of it together is the sample that `counter_noise(base, seed, 1, T)` and the whole context
    give, however frames and chunks are cut.

    Arguments:
        sampler: Goes on where it ended; begun anew for each stream.
        pieces: The model's conditioning network, begun anew as well.
        frames: Frames as they come, each `(n, C)` with any `n >= 0`.
        base: The noise that the sampler takes.
        seed: Of the noise.
        temperature: Factor on the noise.
        chunk_samples: Samples of each chunk but the last; None gives what is ready after each
            piece of frames.

    Raises:
        ValueError: If no frames come, or `chunk_samples` is less than 1.
    """
    if chunk_samples is not None and chunk_samples < 1:
        raise ValueError(f"'chunk_samples' is {chunk_samples}; give 1 or more, or None")
    ready: list[Tensor] = []
    for sound in _drawn(sampler, pieces, frames, base, seed, temperature):
        if chunk_samples is None:
            yield sound
            continue
        ready.append(sound)
        if sum(len(part) for part in ready) >= chunk_samples:
            *chunks, rest = torch.split(torch.cat(ready), chunk_samples)
            if len(rest) == chunk_samples:
                chunks, rest = [*chunks, rest], rest[:0]
            yield from chunks
            ready = [rest]
    if chunk_samples is not None and sum(len(part) for part in ready) > 0:
        yield torch.cat(ready)


def _drawn(
    sampler: Extending,
    pieces: FramePieces,
    frames: Iterable[Tensor],
    base: Base,
    seed: int,
    temperature: float,
) -> Iterator[Tensor]:
    """The sound of each piece of frames, in parts."""
    empty: Tensor | None = None
    for part in frames:
        batch = part.unsqueeze(0)
        empty = batch[:, :0]
        if batch.shape[1]:
            with torch.no_grad():
                piece = pieces.extend(batch)
            yield from _parts(sampler, piece, batch, base, seed, temperature)
    if empty is None:
        raise ValueError("no frames came; give at least one")
    with torch.no_grad():
        piece = pieces.extend(empty, is_last=True)
    yield from _parts(sampler, piece, empty, base, seed, temperature)


def _parts(
    sampler: Extending,
    piece: Encoded,
    like: Tensor,
    base: Base,
    seed: int,
    temperature: float,
) -> Iterator[Tensor]:
    """The sound of one piece, `PART_SAMPLES` at a time."""
    for start in range(0, piece.num_samples or 0, PART_SAMPLES):
        length = min(PART_SAMPLES, (piece.num_samples or 0) - start)
        position = piece.start_samples + start
        noise = counter_noise(base, seed, 1, length, start=position, dtype=like.dtype)
        yield sampler.extend(temperature * noise.to(like.device), piece)[0]

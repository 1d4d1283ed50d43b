"""What a client holds while its sound is drawn: pieces come out of it, in order, in good time."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Int16

from wavestill.serving.refusals import Refusal

Served = Literal["student", "native", "speculative"]

PIECES_MAX = 8
"""Pieces that wait for a slow client before its sound is no longer drawn."""

_FRAMES_MAX = 256  # that wait to be drawn before a live client is no longer listened to


@dataclass(frozen=True)
class Order:
    """What is to be drawn.

    Arguments:
        sampler: How.
        seed: Of the noise.
        speaker: Number of the speaker; None where the voice has one without a name.
        frames: `(F, C)`; None where they come live.
        gain_db: What the recording was raised by; the sound is lowered by it.
        with_kl: Whether to measure KL(student || teacher) along the draw.
    """

    sampler: Served
    seed: int = 0
    speaker: int | None = None
    frames: Float32[np.ndarray, "F C"] | None = None
    gain_db: float = 0.0
    with_kl: bool = False


class Piece(NamedTuple):
    """A stretch of the sound.

    Arguments:
        levels: 16-bit samples.
        kl_nats: KL per sample, the mean of each frame of the stretch; empty where not asked for.
    """

    levels: Int16[np.ndarray, " n"]
    kl_nats: tuple[float, ...] = ()


class Ticket:
    """One sound on its way: the engine's thread delivers, the event loop takes.

    Arguments:
        order: What is drawn.
        seconds: Time until it must be done, in seconds.
        wake: Tells the engine that there is room, or frames, or that the client has left.
    """

    def __init__(self, order: Order, seconds: float, wake: Callable[[], None]) -> None:
        self.order = order
        self.deadline = time.monotonic() + seconds
        self.is_cancelled = False
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece | Refusal | None] = asyncio.Queue()
        self._num_delivered = self._num_taken = 0  # each has one writer
        self._frames: deque[np.ndarray] = deque()
        self._num_frames, self._frames_ended = 0, False
        self._lock = threading.Lock()
        self._may_offer = asyncio.Event()
        self._may_offer.set()

    # the engine's side

    @property
    def has_room(self) -> bool:
        """Whether the client keeps up."""
        return self._num_delivered - self._num_taken < PIECES_MAX

    def deliver(self, piece: Piece) -> None:
        """Hand out the next stretch."""
        self._num_delivered += 1
        self._put(piece)

    def end(self, refusal: Refusal | None = None) -> None:
        """Say that there is no more, or why not."""
        self._put(refusal)

    @property
    def has_frames(self) -> bool:
        """Whether frames wait to be drawn, or their end to be noticed."""
        return bool(self._frames) or self._frames_ended

    def take_frames(self, most: int) -> tuple[np.ndarray | None, bool]:
        """Up to `most` of the frames that have come, and whether these are the last."""
        taken: list[np.ndarray] = []
        with self._lock:
            while self._frames and most > 0:
                part = self._frames.popleft()
                if len(part) > most:
                    self._frames.appendleft(part[most:])
                    part = part[:most]
                most -= len(part)
                taken.append(part)
            self._num_frames -= sum(map(len, taken))
            is_last = self._frames_ended and not self._frames
            if self._num_frames < _FRAMES_MAX:
                self._call(self._may_offer.set)
        return (np.concatenate(taken) if taken else None), is_last

    def _put(self, item: Piece | Refusal | None) -> None:
        self._call(lambda: self._pieces.put_nowait(item))

    def _call(self, function: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop has ended, and with it whoever waited
            self.is_cancelled = True

    # the client's side

    async def take(self) -> Piece | None:
        """The next stretch; None after the last.

        Raises:
            Refusal: If it could not be drawn.
        """
        item = await self._pieces.get()
        if isinstance(item, Refusal):
            raise item
        if item is not None:
            was_full = not self.has_room
            self._num_taken += 1
            if was_full:
                self._wake()
        return item

    async def offer(self, frames: np.ndarray) -> None:
        """Give a live sound its next frames; waits while those before them are still undrawn."""
        await self._may_offer.wait()
        with self._lock:
            self._frames.append(frames)
            self._num_frames += len(frames)
            if self._num_frames >= _FRAMES_MAX:
                self._may_offer.clear()
        self._wake()

    def end_frames(self) -> None:
        """Say that a live sound gets no more frames."""
        with self._lock:
            self._frames_ended = True
        self._wake()

    def cancel(self) -> None:
        """Leave: nothing more is drawn."""
        self.is_cancelled = True
        self._wake()

"""One thread that draws for all: a bounded queue, turns, and sounds side by side."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from wavestill.publish import Voice
from wavestill.serving.drawings import Drawing, Models, NativeDrawing, drawing_of
from wavestill.serving.limits import Limits
from wavestill.serving.refusals import Refusal
from wavestill.serving.tickets import Order, Ticket

_log = logging.getLogger("wavestill.serving")

SIDE_BY_SIDE_MAX = 8
"""Sounds of the native teacher drawn together: on one Zen 5 core 8 are made in the time of 2.7."""

_NEVER_READY_S = 0.5  # how often sounds that wait are looked at for having run out of time


class Engine:
    """Draws what is ordered, on a thread of its own.

    Arguments:
        voice: What everybody draws from.
        limits: How many, and how long.
    """

    def __init__(self, voice: Voice, limits: Limits) -> None:
        self.models = Models(voice)
        self.limits = limits
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._active: list[Drawing] = []
        self._in_house = 0
        self._is_stopping = False
        self._mean_seconds = 1.0  # of a request, smoothed
        self._thread = threading.Thread(target=self._run, name="wavestill-engine", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Sounds that are ordered and not begun."""
        return len(self._waiting)

    @property
    def num_active(self) -> int:
        """Drawings in the making."""
        return len(self._active)

    @property
    def num_in_house(self) -> int:
        """Requests that hold a place, whether their body is still read or their sound drawn."""
        return self._in_house

    @property
    def is_alive(self) -> bool:
        """Whether there is somebody to draw."""
        return self._thread.is_alive()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the limited places; in the event loop's thread.

        Raises:
            Refusal: 429 if all are taken.
        """
        if self._in_house >= self.limits.places:
            turns = math.ceil(self._in_house / self.limits.max_active)
            raise Refusal(
                429,
                f"all {self.limits.places} places are taken; come back later",
                retry_after_s=max(1, min(60, math.ceil(turns * self._mean_seconds))),
            )
        self._in_house += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self._in_house -= 1
            self._mean_seconds += 0.1 * (time.monotonic() - began - self._mean_seconds)

    def submit(self, order: Order, *, seconds: float) -> Ticket:
        """Have a sound drawn; within the event loop, holding a place.

        Raises:
            Refusal: 422 if the voice cannot draw so.
        """
        if order.sampler not in self.models.samplers:
            raise Refusal(
                422,
                f"this voice has no sampler '{order.sampler}'; it has "
                f"{', '.join(self.models.samplers) or 'none'}",
            )
        ticket = Ticket(order, seconds, self._wake)
        with self._changed:
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def stop(self) -> None:
        """Stop drawing, whatever is in the making."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._forget_waiting()
                batch = self._next_batch()
                if self._is_stopping:
                    break
                if not batch and not any(drawing.is_ready for drawing in self._active):
                    self._changed.wait(_NEVER_READY_S)
            if batch:
                self._begin(batch)
            for drawing in list(self._active):
                if self._is_over(drawing) or (drawing.is_ready and self._turn(drawing)):
                    self._active.remove(drawing)

    def _next_batch(self) -> list[Ticket]:
        """What begins now: one sound or, of the native teacher, all that suit each other.

        Who does not keep up takes no turns, and must not hold up those who would.
        """
        num_ready = sum(drawing.is_ready for drawing in self._active)
        if not self._waiting or num_ready >= self.limits.max_active:
            return []
        first = self._waiting.popleft()
        batch = [first]
        if _is_side_by_side(first):
            for ticket in list(self._waiting):
                if len(batch) < SIDE_BY_SIDE_MAX and _suit(first, ticket):
                    self._waiting.remove(ticket)
                    batch.append(ticket)
        return batch

    def _begin(self, batch: list[Ticket]) -> None:
        try:
            if _is_side_by_side(batch[0]):
                drawing: Drawing = NativeDrawing(self.models, batch)
            else:
                drawing = drawing_of(self.models, batch[0])
        except Exception as error:  # whatever it is, others must still be served
            _refuse(batch, error)
        else:
            self._active.append(drawing)

    def _turn(self, drawing: Drawing) -> bool:
        """Bring a drawing forward; True when it is over, well or badly."""
        try:
            is_done = drawing.turn()
        except Exception as error:  # as above
            _refuse(drawing.tickets, error)
            return True
        if is_done:
            for ticket in drawing.tickets:
                ticket.end()
        return is_done

    def _is_over(self, drawing: Drawing) -> bool:
        """Whether nobody waits for it any more."""
        for ticket in drawing.tickets:
            self._check_deadline(ticket)
        return all(ticket.is_cancelled for ticket in drawing.tickets)

    def _forget_waiting(self) -> None:
        for ticket in list(self._waiting):
            self._check_deadline(ticket)
            if ticket.is_cancelled:
                self._waiting.remove(ticket)

    def _check_deadline(self, ticket: Ticket) -> None:
        if not ticket.is_cancelled and time.monotonic() > ticket.deadline:
            ticket.is_cancelled = True
            ticket.end(
                Refusal(
                    413,
                    "this sound was not done within its time; ask for less at once, or for "
                    "sampler=student",
                )
            )


def _is_side_by_side(ticket: Ticket) -> bool:
    return ticket.order.sampler == "native" and ticket.order.frames is not None


def _suit(first: Ticket, other: Ticket) -> bool:
    """Whether two sounds are drawn side by side: neither is over twice as long as the other."""
    if not _is_side_by_side(other):
        return False
    assert first.order.frames is not None
    assert other.order.frames is not None
    short, long = sorted((len(first.order.frames), len(other.order.frames)))
    return long <= 2 * short


def _refuse(tickets: list[Ticket], error: Exception) -> None:
    """Tell why: a ValueError is the client's, anything else is ours and is logged."""
    if isinstance(error, ValueError):
        refusal = Refusal(422, str(error))
    else:
        _log.error("a sound could not be drawn", exc_info=error)
        refusal = Refusal(500, "the service failed on this request; its log says why")
    for ticket in tickets:
        ticket.end(refusal)

"""Sounds in the making, each drawn a stretch at a time so that many take turns on one model.

The student and the native teacher give the same samples whatever the stretches are, and the native
teacher whatever is drawn beside it (`tests/serving` holds both to `synth`): turns and company
change nothing of a sound.
"""

import time
from collections.abc import Generator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int16
from torch import Tensor

from wavestill.density import Conditioning
from wavestill.drawing import DRAFT_WINDOW
from wavestill.models import IAFWaveNet, PackedStudent, WaveNet
from wavestill.nn.conditioning import Encoded
from wavestill.publish import Voice
from wavestill.sampling import (
    CachedSampler,
    NativeSampler,
    StudentSampler,
    counter_noise,
    native_sampler,
)
from wavestill.sampling.speculative import Speculation, speculative_rounds
from wavestill.serving.judging import Judge, StudentLaws
from wavestill.serving.refusals import Refusal
from wavestill.serving.tickets import Order, Piece, Served, Ticket

FIRST_FRAMES = 4
"""Frames of the first stretch: what is heard first comes first."""

STRETCH_SAMPLES = 4096
"""Samples of a stretch, all sounds in it together: some tens of milliseconds of work."""

LIVE_FRAMES = 16
"""Frames of a live sound that are drawn in one turn."""

_TURN_SECONDS = 0.05
"""Of a turn whose rounds are short."""


@runtime_checkable
class Drawing(Protocol):
    """Something that is drawn in turns.

    Arguments:
        tickets: Whose sounds it makes.
    """

    tickets: list[Ticket]

    @property
    def is_ready(self) -> bool:
        """Whether a turn would bring it forward."""
        ...

    def turn(self) -> bool:
        """Draw a stretch and deliver it; True when all is delivered."""
        ...


class Models:
    """A voice's models, packed once for all who draw from them.

    Arguments:
        voice: With a student, a teacher or both.
    """

    def __init__(self, voice: Voice) -> None:
        self.voice = voice
        self.student = None if voice.student is None else PackedStudent(voice.student)
        self._teacher = None if voice.teacher is None else native_sampler(voice.teacher)

    @property
    def samplers(self) -> tuple[Served, ...]:
        """What this voice can be drawn with."""
        has_student, has_teacher = self.student is not None, self._teacher is not None
        return (
            *(("student",) if has_student else ()),
            *(("native",) if has_teacher else ()),
            *(("speculative",) if has_student and has_teacher else ()),
        )

    @property
    def teacher_sampler(self) -> NativeSampler | CachedSampler:
        """The teacher at the beginning of a sound."""
        if isinstance(self._teacher, NativeSampler):
            return self._teacher.anew()
        return CachedSampler(self.voice.require_teacher())

    @property
    def packed_student(self) -> PackedStudent:
        """The student.

        Raises:
            ValueError: If the voice has none.
        """
        if self.student is None:
            self.voice.require_student()
        assert self.student is not None
        return self.student


class StudentDrawing:
    """One sound of the student, from frames that are all there."""

    def __init__(self, models: Models, ticket: Ticket) -> None:
        self.tickets = [ticket]
        self._student = models.packed_student
        self._sampler = StudentSampler(self._student)
        self._encoded = _encode(self._student, ticket.order)
        self._position = 0

    @property
    def is_ready(self) -> bool:
        """Whether the client keeps up."""
        return self.tickets[0].has_room

    def turn(self) -> bool:
        """Draw a stretch."""
        [ticket] = self.tickets
        total = self._encoded.num_samples or 0
        length = _stretch(self._position, total, ticket.order)
        noise = _noise(self._student, ticket.order, self._position, length)
        x = self._sampler.extend(noise, self._encoded)
        ticket.deliver(Piece(levels_of(x[0], ticket.order.gain_db)))
        self._position += length
        return self._position >= total


class NativeDrawing:
    """Sounds of the teacher side by side: its weights are read once for all of them.

    Shorter sounds run on under their last frame until the longest is done, which is not delivered.
    """

    def __init__(self, models: Models, tickets: list[Ticket]) -> None:
        self.tickets = tickets
        self._teacher = models.voice.require_teacher()
        self._sampler = models.teacher_sampler
        encoded = [_encode(self._teacher, ticket.order) for ticket in tickets]
        self._totals = [part.num_samples or 0 for part in encoded]
        self._longest = tickets[int(np.argmax(self._totals))].order
        self._encoded = _side_by_side(encoded)
        self._position = 0

    @property
    def is_ready(self) -> bool:
        """Always: sounds are bounded, and one slow client must not stop the others."""
        return True

    def turn(self) -> bool:
        """Draw a stretch of each."""
        waits = zip(self.tickets, self._totals, strict=True)
        # drawn no further than for those who are still here
        longest = max((total for ticket, total in waits if not ticket.is_cancelled), default=0)
        position = self._position
        if position >= longest:
            return True
        length = _stretch(position, max(self._totals), self._longest, len(self.tickets))
        length = min(length, longest - position)
        noise = [_noise(self._teacher, t.order, position, length) for t in self.tickets]
        x = self._sampler.extend(torch.cat(noise), self._encoded)
        self._position += length
        for ticket, sound, total in zip(self.tickets, x, self._totals, strict=True):
            if position < total and not ticket.is_cancelled:
                try:
                    levels = levels_of(sound[: total - position], ticket.order.gain_db)
                except ValueError as error:  # of its own frames: the others go on
                    ticket.is_cancelled = True
                    ticket.end(Refusal(422, str(error)))
                    continue
                ticket.deliver(Piece(levels))
                if self._position >= total:
                    ticket.end()
        return self._position >= longest


class SpeculativeDrawing:
    """One sound of the teacher, drafted by the student and verified."""

    def __init__(self, models: Models, ticket: Ticket) -> None:
        self.tickets = [ticket]
        order, student = ticket.order, models.voice.require_student()
        assert order.frames is not None
        length = len(order.frames) * models.voice.spec.hop_samples
        self._rounds: Generator[tuple[Tensor, Tensor], None, Speculation] = speculative_rounds(
            models.voice.require_teacher(),
            student,
            _noise(student, order, 0, length),
            _context(order),
            generator=torch.Generator().manual_seed(order.seed),
            window=DRAFT_WINDOW,
        )
        self._delivered = 0

    @property
    def is_ready(self) -> bool:
        """Whether the client keeps up."""
        return self.tickets[0].has_room

    def turn(self) -> bool:
        """Rounds for a while, or until a stretch is done."""
        [ticket] = self.tickets
        until = time.monotonic() + _TURN_SECONDS
        while True:
            step = next(self._rounds, None)
            if step is None:
                return True
            x, position = step
            done = int(position[0])
            if time.monotonic() > until or done == x.shape[1]:
                break
        if done > self._delivered:
            ticket.deliver(Piece(levels_of(x[0, self._delivered : done], ticket.order.gain_db)))
            self._delivered = done
        return done == x.shape[1]


class LiveDrawing:
    """One sound whose frames still come.

    Frames pass the conditioning network one at a time, so that the sound does not depend on how
    they were cut into messages. From that of whole frames it differs by rounding.
    """

    def __init__(self, models: Models, ticket: Ticket) -> None:
        self.tickets = [ticket]
        order, voice = ticket.order, models.voice
        speaker = None if order.speaker is None else torch.tensor([order.speaker])
        self._model: WaveNet | IAFWaveNet
        self._sampler: StudentLaws | NativeSampler | CachedSampler
        if order.sampler == "student":
            self._model = voice.require_student()
            self._sampler = StudentLaws(models.packed_student)
        else:
            self._model, self._sampler = voice.require_teacher(), models.teacher_sampler
        self._pieces = self._model.frame_stream(speaker)
        self._columns = voice.spec.num_features
        self._num_heard = self._position = 0
        self._judge: Judge | None = None
        if order.with_kl:
            teacher = voice.require_teacher()
            self._judge = Judge(teacher, speaker, voice.spec.hop_samples, order.seed)

    @property
    def is_ready(self) -> bool:
        """Whether frames are there and the client keeps up."""
        return self.tickets[0].has_frames and self.tickets[0].has_room

    @torch.no_grad()
    def turn(self) -> bool:
        """Draw what the frames that have come allow."""
        [ticket] = self.tickets
        given, is_last = ticket.take_frames(LIVE_FRAMES)
        frames = torch.zeros(1, 0, self._columns) if given is None else torch.tensor(given)[None]
        self._num_heard += frames.shape[1]
        if is_last and self._num_heard == 0:
            raise ValueError("no frames came before the end; send at least one")
        singly = torch.split(frames, 1, dim=1) if frames.shape[1] else ()
        rows = [self._pieces.extend(frame) for frame in singly]
        if is_last:
            rows.append(self._pieces.extend(frames[:, :0], is_last=True))
        heard = None if self._judge is None else self._judge.hear(frames, is_last=is_last)
        if length := sum(piece.num_samples or 0 for piece in rows):
            noise = _noise(self._model, ticket.order, self._position, length)
            x = self._sampler.extend(noise, _joined(rows))
            self._position += length
            kl_nats: list[float] = []
            if self._judge is not None and isinstance(self._sampler, StudentLaws):
                kl_nats = self._judge.judge(x, self._sampler.laws, heard)
            ticket.deliver(Piece(levels_of(x[0], ticket.order.gain_db), tuple(kl_nats)))
        return is_last


def drawing_of(models: Models, ticket: Ticket) -> Drawing:
    """The drawing of a ticket that is not drawn side by side with others."""
    if ticket.order.frames is None:
        return LiveDrawing(models, ticket)
    if ticket.order.sampler == "student":
        return StudentDrawing(models, ticket)
    return SpeculativeDrawing(models, ticket)


def levels_of(x: Tensor, gain_db: float) -> Int16[np.ndarray, " n"]:
    """Samples on the 16-bit grid at the recording's own level, as `write_sound` puts them there.

    Raises:
        ValueError: If a sample is not finite.
    """
    wave = x.numpy() * 10 ** (-gain_db / 20)
    if not np.isfinite(wave).all():
        raise ValueError(
            "these frames lead the model to samples that are not finite; send log-mels of the "
            "voice's spec (GET /v1/models)"
        )
    return np.clip(np.rint(wave.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)


def _context(order: Order) -> Conditioning:
    speaker = None if order.speaker is None else torch.tensor([order.speaker])
    return Conditioning(torch.tensor(order.frames)[None], speaker)


@torch.no_grad()
def _encode(model: WaveNet | IAFWaveNet, order: Order) -> Encoded:
    encoded = model.encode(_context(order))
    assert encoded is not None
    return encoded


def _side_by_side(parts: list[Encoded]) -> Encoded:
    """Contexts of several sounds as a batch; shorter ones go on under their last row."""
    rows = max(part.features.shape[1] for part in parts)
    samples = max(part.num_samples or 0 for part in parts)
    sources = [part.source for part in parts if part.source is not None]
    return Encoded(
        torch.cat([_lengthened(part.features, rows) for part in parts]),
        parts[0].subframe_samples,
        torch.cat([_lengthened(source, samples) for source in sources]) if sources else None,
    )


def _joined(parts: list[Encoded]) -> Encoded:
    """Pieces of one context that follow each other."""
    sources = [part.source for part in parts if part.source is not None]
    return Encoded(
        torch.cat([part.features for part in parts], dim=1),
        parts[0].subframe_samples,
        torch.cat(sources, dim=1) if sources else None,
        parts[0].start_samples,
        parts[0].position,
    )


def _lengthened(rows: Tensor, length: int) -> Tensor:
    return torch.cat([rows, rows[:, -1:].expand(-1, length - rows.shape[1], -1)], dim=1)


def _stretch(position: int, total: int, order: Order, num: int = 1) -> int:
    """Samples of the next stretch of each of `num` sounds."""
    assert order.frames is not None
    hop = total // len(order.frames)
    length = FIRST_FRAMES * hop if position == 0 else max(hop, STRETCH_SAMPLES // num)
    return min(length, total - position)


def _noise(model: WaveNet | IAFWaveNet, order: Order, start: int, length: int) -> Tensor:
    return counter_noise(model.base, order.seed, 1, length, start=start, dtype=torch.float32)

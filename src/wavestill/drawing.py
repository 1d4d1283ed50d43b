"""From frames to sound with a voice: whole, by any sampler, or as a stream."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from wavestill.density import Conditioning
from wavestill.models import IAFWaveNet, PackedStudent, WaveNet
from wavestill.nn.conditioning import Encoded, side_by_side
from wavestill.publish import Voice
from wavestill.sampling import (
    CachedSampler,
    NativeSampler,
    StudentSampler,
    counter_noise,
    jacobi,
    naive,
    native_sampler,
    speculative,
)
from wavestill.sampling.streaming import stream as stream_samples

Sampler = Literal["student", "native", "cached", "speculative", "jacobi", "naive"]
Streamed = Literal["student", "native", "cached"]

Progress = Callable[[int, int], None]

DRAFT_WINDOW = 16
"""Drafts a round, near the best for a voice; always so many, since refined drafts depend on their
number, and a seed is to name a sound whatever else is drawn with it."""

# Speech finishes a step or two in each pass, so a longer window would only cost more.
_JACOBI_WINDOW = 64


@torch.no_grad()
def synthesise(
    voice: Voice,
    frames: Float[np.ndarray, "F C"],
    *,
    sampler: Sampler = "student",
    seed: int = 0,
    temperature: float = 1.0,
    speaker: str | None = None,
    progress: Progress | None = None,
) -> Float32[np.ndarray, " T"]:
    """Draw the sound of some frames, `T = F * hop_samples`.

    Arguments:
        voice: Teacher, student or both.
        frames: Features made by the voice's own spec, `(F, C)`.
        sampler: `student`: one parallel pass. The others draw from the teacher, exactly: `native`
            and `cached` step by step, in C++ and in PyTorch; `speculative`: drafted by the student
            and verified; `jacobi`: all steps at once, iterated; `naive`: the textbook way.
        seed: Of the noise; the same seed gives the same sound, and all but `speculative` and
            `student` the same draw of the teacher.
        temperature: Factor on the noise; 1 draws from the model itself, less trades hiss for
            dullness. Not for `speculative`, which has no exact law then.
        speaker: Name of one of the voice's speakers.
        progress: Called with the samples done and their total.

    Raises:
        ValueError: If the voice lacks the model or speaker asked for, or frames or temperature are
            not usable.
    """
    return synthesise_batch(
        voice,
        [frames],
        sampler=sampler,
        seed=seed,
        temperature=temperature,
        speaker=speaker,
        progress=progress,
    )[0]


@torch.no_grad()
def synthesise_batch(
    voice: Voice,
    batch: Sequence[Float[np.ndarray, "_ C"]],
    *,
    sampler: Sampler = "student",
    seed: int = 0,
    temperature: float = 1.0,
    speaker: str | None = None,
    progress: Progress | None = None,
) -> list[Float32[np.ndarray, " _"]]:
    """Draw the sounds of several clips of any lengths together.

    Each gets the noise and, from its own frames, the conditioning that `synthesise` gives it by
    itself. All run as long as the longest, and what is drawn past the end of the others is cut.
    `student` and `native` give each the sound it has alone, to float32's rounding (to the bit, on
    a trained voice). PyTorch's sums round otherwise in a batch: with `cached`, `jacobi`, `naive`
    and `speculative` the sound is the same until a draw falls within rounding of a gap between
    two modes, or a decision of its threshold; from there on it is another draw of the same law.

    Arguments:
        voice: As for `synthesise`, like all that follow.
        batch: Features of each clip, `(F_i, C)`.
        sampler: Of all.
        seed: Of all: clips drawn together share their noise, as they would alone.
        temperature: Of all.
        speaker: Of all.
        progress: Called with the samples done and their total, both of the longest clip, or for
            `speculative` of all.

    Raises:
        ValueError: As for `synthesise`, if any of the clips cannot be used; or if there are none.
    """
    check_temperature(temperature, sampler)
    if not batch:
        raise ValueError("there are no clips to draw; give the frames of at least one")
    for frames in batch:
        if frames.ndim != 2 or frames.shape[1] != voice.spec.num_features or len(frames) == 0:
            raise ValueError(
                f"the frames have shape {frames.shape} but this voice takes (frames, "
                f"{voice.spec.num_features})"
            )
    number = _speaker(voice, speaker)
    contexts = [
        Conditioning(torch.from_numpy(np.array(frames, np.float32))[None], number)
        for frames in batch
    ]
    model = drawn_model(voice, sampler)
    lengths = [len(frames) * voice.spec.hop_samples for frames in batch]
    base = voice.require_student().base if sampler == "speculative" else model.base
    noise = temperature * counter_noise(base, seed, 1, max(lengths), dtype=torch.float32)
    noise = noise.expand(len(batch), -1).contiguous()
    told = None if progress is None else _told(progress, max(lengths))
    encoded = _encoded(model, contexts)
    if sampler in get_args(Streamed):
        x = _sampler(model, sampler).extend(noise, encoded, progress=told)
    elif sampler == "speculative":
        teacher, student = voice.require_teacher(), voice.require_student()
        x = speculative(
            teacher,
            student,
            noise,
            encoded,
            student_context=_encoded(student, contexts),
            generator=[torch.Generator().manual_seed(seed) for _ in batch],
            window=DRAFT_WINDOW,
            progress=progress,
        ).x
    elif sampler == "jacobi":
        teacher = voice.require_teacher()
        x = jacobi(teacher, noise, encoded, window=_JACOBI_WINDOW, progress=told).x
    else:
        x = naive(voice.require_teacher(), noise, encoded, progress=told)
    return [row[:length].numpy() for row, length in zip(x, lengths, strict=True)]


def _encoded(model: WaveNet | IAFWaveNet, contexts: Sequence[Conditioning]) -> Encoded | None:
    """The contexts of several clips, each encoded for itself, side by side."""
    encoded = [part for context in contexts if (part := model.encode(context)) is not None]
    return side_by_side(encoded) if encoded else None


def stream(
    voice: Voice,
    frames: Iterable[Float[np.ndarray, "_ C"]],
    *,
    sampler: Streamed = "student",
    seed: int = 0,
    temperature: float = 1.0,
    speaker: str | None = None,
    chunk_samples: int | None = None,
) -> Iterator[Float32[np.ndarray, " _"]]:
    """Sound while its frames still come, in bounded memory: `synthesise` without the wait.

    The sound of a frame comes as soon as the three after it are there.

    Arguments:
        voice: Teacher, student or both.
        frames: Features as they come, each `(n, C)`.
        sampler: `student`, or the teacher step by step: `native`, `cached`.
        seed: As for `synthesise`, whose sound this is.
        temperature: As for `synthesise`.
        speaker: As for `synthesise`.
        chunk_samples: Samples of each chunk but the last; None gives what is ready.

    Raises:
        ValueError: If the voice lacks the model or speaker asked for, or frames or temperature are
            not usable.
    """
    check_temperature(temperature, sampler)
    model = drawn_model(voice, sampler)
    sound = stream_samples(
        _sampler(model, sampler),
        model.frame_stream(_speaker(voice, speaker)),
        (torch.from_numpy(np.array(part, np.float32)) for part in frames),
        model.base,
        seed=seed,
        temperature=temperature,
        chunk_samples=chunk_samples,
    )
    return (chunk.numpy() for chunk in sound)


def drawn_model(voice: Voice, sampler: Sampler) -> WaveNet | IAFWaveNet:
    """The model of a voice that a sampler draws from.

    Raises:
        ValueError: If the voice lacks it, or the student that drafts for it.
    """
    if sampler == "student":
        return voice.require_student()
    if sampler == "speculative":
        voice.require_student()
    return voice.require_teacher()


def check_temperature(temperature: float, sampler: Sampler) -> None:
    """Refuse temperatures that mean nothing.

    Raises:
        ValueError: If it is negative or not finite, or the sampler's claim is that it is exact.
    """
    if not (np.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"'temperature' is {temperature}; it must be 0 or more")
    if sampler == "speculative" and temperature != 1:
        raise ValueError(
            f"'temperature' is {temperature} but speculative sampling draws from the teacher's "
            "own law; leave it at 1, or draw with 'native'"
        )


def _told(progress: Progress, length: int) -> Callable[[int], None]:
    return lambda done: progress(done, length)


def _speaker(voice: Voice, speaker: str | None) -> Tensor | None:
    number = voice.speaker_number(speaker)
    return None if number is None else torch.tensor([number])


def _sampler(
    model: WaveNet | IAFWaveNet, sampler: Sampler
) -> StudentSampler | CachedSampler | NativeSampler:
    """What draws stretch by stretch."""
    if isinstance(model, IAFWaveNet):
        return StudentSampler(PackedStudent(model))
    if sampler == "native":
        return native_sampler(model, threads=torch.get_num_threads())
    return CachedSampler(model)

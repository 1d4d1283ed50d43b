"""The whole measurement of a voice: nats, copies of held-out recordings, their metrics, speed."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32

from wavestill.audio.corpus import Clip, Corpus
from wavestill.audio.linguistic import measuring_spec
from wavestill.audio.mel import MelSpec
from wavestill.audio.spec import FeatureSpec
from wavestill.density import Autoregressive, InverseAutoregressive
from wavestill.evaluation.drafting import draft
from wavestill.evaluation.griffin_lim import griffin_lim
from wavestill.evaluation.inputs import (
    context_for,
    device_of,
    noise_for,
    set_to_evaluation,
    size_of,
    tensor_for,
)
from wavestill.evaluation.likelihood import Closeness, closeness, teacher_nats
from wavestill.evaluation.metrics import compare, missing_libraries
from wavestill.evaluation.speed import measure_speed
from wavestill.machine import describe_machine, wavestill_commit, wavestill_version
from wavestill.sampling import cached

Waves = list[Float32[np.ndarray, " T"]]
Progress = Callable[[str, float], None]


@runtime_checkable
class EvaluatedVoice(Protocol):
    """What is measured: a teacher, a student or both, and the frames they were made for."""

    @property
    def teacher(self) -> Autoregressive | None:
        """The autoregressive density."""
        ...

    @property
    def student(self) -> InverseAutoregressive | None:
        """Its parallel student."""
        ...

    @property
    def spec(self) -> FeatureSpec:
        """How their frames are made."""
        ...

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of its speakers, in the order that numbers them; empty for a single voice."""
        ...


@dataclass(frozen=True)
class ClipSounds:
    """A recording and its copies, all of one length.

    Arguments:
        id: The clip's name in the corpus.
        text: What is said, if known.
        sounds: Waveforms by name: `recording`, and those of `teacher`, `student`, `griffin_lim`
            that exist.
    """

    id: str
    text: str | None
    sounds: dict[str, Float32[np.ndarray, " T"]]


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Arguments:
        results: Figures under the keys of `results.json`: finite numbers and strings. A figure
            that could not be had has no key, and `notes` says why. Beside a mean over several
            clips stands its `..._standard_error`.
        clips: The sounds that the figures are of, for the report.
        sample_rate_hz: Their rate.
    """

    results: dict[str, Any]
    clips: tuple[ClipSounds, ...]
    sample_rate_hz: int


def evaluate(
    voice: EvaluatedVoice,
    corpus: Corpus,
    *,
    split: str = "test",
    num_clips: int = 8,
    max_seconds: float = 4.0,
    num_points: int = 64,
    with_speed: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a voice on held-out recordings that it copies from their own frames.

    All figures are of the same clips, spread evenly over the split and cut to their first
    `max_seconds`. The teacher samples step by step (`sampling.cached`), all clips at once; the
    student and Griffin-Lim take one at a time.

    Arguments:
        voice: Teacher, student, or both, and the spec of their frames.
        corpus: A prepared corpus of the same spec.
        split: Which of its splits.
        num_clips: How many clips at most.
        max_seconds: Seconds of each clip at most.
        num_points: Stratified points per step in KL and TV.
        with_speed: Also measure samples per second.
        seed: Of all noise.
        progress: Told the stage and the share of it that is done, 0 to 1.

    Raises:
        ValueError: If the voice is empty, the corpus has another spec, the split has no clips, or
            a number is not positive.
    """
    teacher, student = voice.teacher, voice.student
    if teacher is None and student is None:
        raise ValueError(
            "the voice has neither a teacher nor a student; train one first (wavestill fit)"
        )
    if num_clips < 1 or max_seconds <= 0 or num_points < 1:
        raise ValueError(
            f"num_clips={num_clips}, max_seconds={max_seconds} and num_points={num_points} "
            "must be positive"
        )
    voice.spec.require_same(corpus.spec)
    clips = _choose(corpus, split, num_clips, max_seconds, voice.speakers)
    for clip in clips:
        if not np.isfinite(clip.frames).all():
            raise ValueError(f"the frames of '{clip.id}' are not finite; prepare the corpus again")
    for model in (teacher, student):
        set_to_evaluation(model)
    progress = progress or (lambda stage, share: None)
    generator = torch.Generator().manual_seed(seed)
    notes = [
        f"{name.upper()} is left out: '{library}' is not installed "
        "(pip install 'wavestill[eval]')."
        for name, library in missing_libraries().items()
    ]
    results: dict[str, Any] = {
        "machine": describe_machine(),
        "version": wavestill_version(),
        "commit": wavestill_commit(),
        "data": _describe(clips, split, corpus.spec),
    }
    sounds: dict[str, Waves] = {"recording": [clip.wave for clip in clips]}
    if teacher is not None:
        results["teacher"] = _teacher_figures(teacher, clips, notes, progress)
        sounds["teacher"] = _teacher_copies(teacher, clips, generator, progress)
    if student is not None:
        close = _close(teacher, student, clips, generator, num_points, progress)
        results["student"] = _student_figures(student, close, notes)
        if teacher is not None:
            results["student"] |= _draft_figures(teacher, student, clips, seed, notes, progress)
        sounds["student"] = [np.asarray(c.x.float().cpu()) for c in close]
    mel_spec = measuring_spec(voice.spec)
    if isinstance(voice.spec, MelSpec):
        sounds["griffin_lim"] = [
            griffin_lim(clip.frames, mel_spec, seed=seed)
            for clip in _tell(clips, "Griffin-Lim", progress)
        ]
    else:
        notes.append("Griffin-Lim is left out: it takes mels, and this voice labels.")
    quality = _quality(clips, sounds, mel_spec, notes, progress)
    results["data"] |= {
        k: v for k, v in quality.pop("recording").items() if k.startswith("harmonicity")
    }
    if student is not None:
        spread = {k: v for k, v in quality["student"].items() if k.startswith("std_over_data")}
        results["student"] = spread | results["student"]
    if with_speed:
        progress("speed", 0.0)
        longest = max(clips, key=lambda clip: len(clip.wave))
        results["speed"] = measure_speed(teacher, student, longest, mel_spec)
        progress("speed", 1.0)
    results["quality"] = quality
    results["notes"] = notes
    return Evaluation(
        results,
        tuple(
            ClipSounds(clip.id, clip.text, {name: waves[i] for name, waves in sounds.items()})
            for i, clip in enumerate(clips)
        ),
        corpus.spec.sample_rate,
    )


def _choose(
    corpus: Corpus, split: str, num_clips: int, max_seconds: float, speakers: tuple[str, ...]
) -> list[Clip]:
    """Clips spread over the split, cut to whole frames, speakers numbered as by the voice."""
    clips = corpus.split(split)
    if len(clips) == 0:
        others = [
            name
            for name in ("test", "valid", "train")
            if name != split and len(corpus.split(name))
        ]
        raise ValueError(
            f"the {split} split is empty; there are clips in {' and '.join(others) or 'no split'}"
        )
    chosen = np.unique(
        np.linspace(0, len(clips) - 1, min(num_clips, len(clips))).round().astype(int)
    )
    hop = corpus.spec.hop_samples
    most = max(1, math.floor(max_seconds * corpus.spec.sample_rate / hop))
    return [
        clips[i]._replace(
            wave=clips[i].wave[: most * hop],
            frames=clips[i].frames[:most],
            speaker=_number(clips.entries[i].speaker, speakers),
        )
        for i in chosen.tolist()
    ]


def _number(name: str | None, speakers: tuple[str, ...]) -> int | None:
    if not speakers:
        return None
    if len(speakers) > 1 and name not in speakers:
        raise ValueError(
            f"the voice knows the speakers {', '.join(speakers)}, not {name!r} of the corpus"
        )
    return speakers.index(name) if name in speakers else 0


def _describe(clips: Sequence[Clip], split: str, spec: FeatureSpec) -> dict[str, Any]:
    seconds = sum(len(clip.wave) for clip in clips) / spec.sample_rate
    return {
        "split": split,
        "num_clips": len(clips),
        "seconds": seconds,
        "sample_rate_hz": spec.sample_rate,
    }


def _teacher_figures(
    teacher: Autoregressive, clips: Sequence[Clip], notes: list[str], progress: Progress
) -> dict[str, Any]:
    nats = [
        teacher_nats(teacher, tensor_for(teacher, clip.wave)[None], context_for(teacher, [clip]))
        for clip in _tell(clips, "teacher's likelihood", progress)
    ]
    return {
        **_summary("nll_nats_per_sample", nats, "teacher", notes),
        **_summary(
            "nll_bits_per_sample", [value / math.log(2) for value in nats], "teacher", notes
        ),
        **size_of(teacher),
    }


def _teacher_copies(
    teacher: Autoregressive, clips: Sequence[Clip], generator: torch.Generator, progress: Progress
) -> Waves:
    """All clips in one batch, short ones padded: a step costs about the same for one and many."""
    length = max(len(clip.wave) for clip in clips)
    x = cached(
        teacher,
        noise_for(teacher, len(clips), length, generator),
        context_for(teacher, clips),
        progress=lambda step: progress("teacher, step by step", step / length),
    )
    return [
        np.asarray(row[: len(clip.wave)].float().cpu()) for row, clip in zip(x, clips, strict=True)
    ]


def _close(
    teacher: Autoregressive | None,
    student: InverseAutoregressive,
    clips: Sequence[Clip],
    generator: torch.Generator,
    num_points: int,
    progress: Progress,
) -> list[Closeness]:
    """The student's copies, each with its distance from the teacher, where there is one."""
    points = torch.Generator(device_of(student)).manual_seed(generator.initial_seed())
    return [
        closeness(
            teacher,
            student,
            noise_for(student, 1, len(clip.wave), generator),
            context_for(teacher, [clip]),
            context_for(student, [clip]),
            points,
            num_points=num_points,
        )
        for clip in _tell(clips, "student against teacher", progress)
    ]


def _student_figures(
    student: InverseAutoregressive, close: list[Closeness], notes: list[str]
) -> dict[str, Any]:
    columns = {
        "kl_nats_per_sample": [c.kl_nats for c in close],
        "kl_floor_nats_per_sample": [c.kl_floor_nats for c in close],
        "tv_per_step": [c.tv for c in close],
    }
    figures: dict[str, Any] = {}
    for name, values in columns.items():
        figures |= _summary(
            name, [value for value in values if value is not None], "student", notes
        )
    return figures | size_of(student)


def _draft_figures(
    teacher: Autoregressive,
    student: InverseAutoregressive,
    clips: Sequence[Clip],
    seed: int,
    notes: list[str],
    progress: Progress,
) -> dict[str, float]:
    """How the student does as the teacher's draft: under the teacher's own prefixes, that is."""
    try:
        drafted = draft(teacher, student, clips, seed, progress)
    except ValueError as error:  # a student that cannot draft, a teacher whose state stays
        notes.append(f"student: no speculative sampling ({error}).")
        return {}
    return {
        **_summary("tv_per_step_under_teacher", drafted.tv, "student", notes),
        **_summary("samples_per_round", drafted.samples_per_round, "student", notes),
        "samples_per_round_bound": drafted.samples_per_round_bound,
    }


def _quality(
    clips: Sequence[Clip],
    sounds: dict[str, Waves],
    spec: MelSpec,
    notes: list[str],
    progress: Progress,
) -> dict[str, dict[str, float]]:
    """Means of every metric of every system over the clips; the recordings are one of them."""
    quality: dict[str, dict[str, float]] = {}
    for done, (system, copies) in enumerate(sounds.items()):
        progress("metrics", done / len(sounds))
        values: dict[str, list[float]] = defaultdict(list)
        reasons: dict[str, list[str]] = defaultdict(list)
        for clip, copy in zip(clips, copies, strict=True):
            found, undefined = compare(clip.wave, copy, spec)
            for name, value in found.items():
                values[name].append(value)
            for name, reason in undefined.items():
                reasons[name].append(reason)
        quality[system] = {}
        for name, per_clip in values.items():
            quality[system] |= _summary(name, per_clip, system, notes)
        if system != "recording":
            notes += [
                f"{system}: {name} has no value on {len(why)} of {len(clips)} clips "
                f"({'; '.join(sorted(set(why)))})."
                for name, why in reasons.items()
            ]
    progress("metrics", 1.0)
    return quality


def _summary(
    name: str, values: Sequence[float], system: str, notes: list[str]
) -> dict[str, float]:
    """Mean over the clips and its standard error; what is not finite is left out and named."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if len(finite) < len(values):
        notes.append(
            f"{system}: {name} is not finite on {len(values) - len(finite)} of {len(values)} "
            "clips."
        )
    if len(finite) == 0:
        return {}
    summary = {name: float(finite.mean())}
    if len(finite) > 1:
        summary[f"{name}_standard_error"] = float(finite.std(ddof=1) / math.sqrt(len(finite)))
    return summary


def _tell(clips: Sequence[Clip], stage: str, progress: Progress) -> Iterator[Clip]:
    for done, clip in enumerate(clips):
        progress(stage, done / len(clips))
        yield clip
    progress(stage, 1.0)

"""From files of recordings, frames or labels to files of sound, with a voice."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from wavestill.audio.files import WRITE_SUFFIXES, SoundError, write_sound
from wavestill.drawing import Sampler, check_temperature, drawn_model, synthesise_batch
from wavestill.input_frames import Copied, frames_of, frames_of_recording
from wavestill.publish import Voice, load

__all__ = ["MAX_BATCH_SAMPLES", "SynthesisReport", "frames_of_recording", "synth"]

MAX_BATCH_SAMPLES = 1 << 21
"""Samples drawn together, padding included: two minutes at 16 kHz, some 200 MB of memory."""

# Clips drawn together run as long as the longest of them, so the shortest may not be much shorter.
_LEAST_SHARE = 0.75
# So many batches' worth of inputs are read before they are sorted into batches.
_BATCHES_AHEAD = 4


@dataclass
class SynthesisReport:
    """What `synth` did.

    Arguments:
        written: Output by input, as paths.
        failed: One-line reason by input.
        notes: What was converted, estimated or clipped, by input.
        seconds: Sound made, in seconds.
        sample_rate: Samples per second of the output.
        sampler: How it was drawn.
    """

    sampler: str
    sample_rate: int
    seconds: float = 0.0
    written: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)


class _Job(NamedTuple):
    """An input that has been read, and where its sound goes."""

    source: Path
    target: Path
    copied: Copied

    @property
    def num_frames(self) -> int:
        return len(self.copied.frames)


def synth(
    model: Path | str,
    inputs: Sequence[Path | str],
    out: Path | str,
    *,
    sampler: Sampler = "student",
    seed: int = 0,
    temperature: float = 1.0,
    speaker: str | None = None,
    overwrite: bool = False,
    max_batch_samples: int = MAX_BATCH_SAMPLES,
    share: tuple[int, int] = (0, 1),
    progress: Callable[[str, int, int], None] | None = None,
) -> SynthesisReport:
    """Write the sound of recordings (copy-synthesis), of saved frames or of labels.

    A recording is resampled to the voice's rate and raised to the level it was trained at, its
    frames are taken, and the sound drawn from them is brought back to the recording's own level.
    Frames (.npy, .npz) and labels (.lab, .TextGrid) sound as loud as the voice's recordings were
    when it was trained. Inputs of similar length are drawn together (`synthesise_batch`). An input
    that cannot be used is named in the report; the others are still made.

    Arguments:
        model: Folder of a voice.
        inputs: Recordings (.wav, .flac, .ogg, .mp3), frames (.npy, .npz), or for voices of
            linguistic features labels (.lab, .TextGrid).
        out: A .wav or .flac file for one input; otherwise a folder, where each input gets a .wav
            of its name.
        sampler: As for `synthesise`.
        seed: As for `synthesise`; every input is drawn from the same seed.
        temperature: As for `synthesise`.
        speaker: As for `synthesise`.
        overwrite: Replace outputs that exist. Otherwise their inputs are named in the report and
            left out, so that the same call goes on where an earlier one was stopped.
        max_batch_samples: Samples drawn together at most, padding included; a longer input is
            drawn by itself.
        share: Number of this process and how many there are: of `n`, number `i` takes the inputs
            `i, i + n, ...`.
        progress: Called with what is drawn, the samples done and their total.

    Raises:
        ValueError: If the voice cannot be used as asked, or `out` does not suit the inputs.
    """
    voice = load(model)
    drawn_model(voice, sampler)
    voice.speaker_number(speaker)
    check_temperature(temperature, sampler)
    if max_batch_samples < 1:
        raise ValueError(f"'max_batch_samples' is {max_batch_samples}; give 1 or more")
    targets = _targets([Path(path) for path in inputs], Path(out))
    number, total = share
    if not 0 <= number < total:
        raise ValueError(f"'share' is {share}; processes are numbered from 0 to their total - 1")
    targets = dict(list(targets.items())[number::total])
    report = SynthesisReport(sampler, voice.spec.sample_rate)

    def draw(jobs: Sequence[_Job]) -> list[Float32[np.ndarray, " _"]]:
        told = None if progress is None else _named(progress, jobs)
        return synthesise_batch(
            voice,
            [job.copied.frames for job in jobs],
            sampler=sampler,
            seed=seed,
            temperature=temperature,
            speaker=speaker,
            progress=told,
        )

    jobs = _read(targets, voice, report, overwrite=overwrite)
    for batch in _batches(jobs, voice.spec.hop_samples, max_batch_samples):
        try:
            sounds = draw(batch)
        except ValueError:  # one of them cannot be drawn: each by itself, to say which
            for job in batch:
                try:
                    _write(job, draw([job])[0], report)
                except ValueError as error:
                    report.failed[str(job.source)] = str(error)
            continue
        for job, sound in zip(batch, sounds, strict=True):
            _write(job, sound, report)
    _sort(report, list(targets))
    return report


def _read(
    targets: dict[Path, Path], voice: Voice, report: SynthesisReport, *, overwrite: bool
) -> Iterator[_Job]:
    """The inputs that can be used, as they are read; the others go into the report."""
    for source, target in targets.items():
        try:
            if target.exists() and not overwrite:
                raise ValueError(f"'{target}' exists; --overwrite replaces it")
            yield _Job(source, target, frames_of(source, voice))
        except (ValueError, OSError) as error:
            report.failed[str(source)] = str(error).removeprefix(f"{source}: ")


def _batches(jobs: Iterator[_Job], hop_samples: int, max_samples: int) -> Iterator[list[_Job]]:
    """Inputs of similar length together, as many as memory allows; nearly as they come."""
    waiting: list[_Job] = []
    for job in jobs:
        waiting.append(job)
        if sum(own.num_frames for own in waiting) * hop_samples >= _BATCHES_AHEAD * max_samples:
            yield from _sorted_batches(waiting, hop_samples, max_samples)
            waiting = []
    yield from _sorted_batches(waiting, hop_samples, max_samples)


def _sorted_batches(jobs: list[_Job], hop_samples: int, max_samples: int) -> Iterator[list[_Job]]:
    batch: list[_Job] = []
    for job in sorted(jobs, key=lambda own: -own.num_frames):
        if batch:
            longest = batch[0].num_frames
            is_full = (len(batch) + 1) * longest * hop_samples > max_samples
            if is_full or job.num_frames < _LEAST_SHARE * longest:
                yield batch
                batch = []
        batch.append(job)
    if batch:
        yield batch


def _write(job: _Job, x: Float32[np.ndarray, " _"], report: SynthesisReport) -> None:
    source, notes = str(job.source), list(job.copied.notes)
    # whole or not at all: a later call leaves what has its name
    partial = job.target.with_name(f".{os.getpid()}-{job.target.name}")
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        level = 10 ** (-job.copied.gain_db / 20)
        num_clipped = write_sound(partial, x * level, report.sample_rate)
        partial.replace(job.target)
    except (OSError, SoundError) as error:
        partial.unlink(missing_ok=True)
        reason = error.reason if isinstance(error, SoundError) else error.strerror or error
        report.failed[source] = f"'{job.target}': {reason}"
        return
    if num_clipped:
        notes.append(f"{num_clipped:,} samples were beyond full scale and are clipped")
    if notes:
        report.notes[source] = notes
    report.written[source] = str(job.target)
    report.seconds += len(x) / report.sample_rate


def _sort(report: SynthesisReport, sources: Sequence[Path]) -> None:
    """Put the report in the order of the inputs."""
    place = {str(source): i for i, source in enumerate(sources)}
    report.written = dict(sorted(report.written.items(), key=lambda item: place[item[0]]))
    report.failed = dict(sorted(report.failed.items(), key=lambda item: place[item[0]]))


def _named(
    progress: Callable[[str, int, int], None], jobs: Sequence[_Job]
) -> Callable[[int, int], None]:
    name = str(jobs[0].source) + (f" and {len(jobs) - 1} more" if len(jobs) > 1 else "")
    return lambda done, total: progress(name, done, total)


def _targets(inputs: list[Path], out: Path) -> dict[Path, Path]:
    """The output file of each input.

    Raises:
        ValueError: If a file is asked for and there are several inputs, or two outputs would be
            one file.
    """
    is_file = out.suffix.lower() in WRITE_SUFFIXES and not out.is_dir()
    if not inputs:
        raise ValueError("there is no input; give recordings or frames")
    if is_file and len(inputs) > 1:
        raise ValueError(f"'{out}' is one file but there are {len(inputs)} inputs; give a folder")
    if not is_file and (out.is_file() or (out.suffix and not out.is_dir())):
        raise ValueError(f"'{out}' is neither a folder nor a .wav or .flac file; give one of them")
    targets = {source: out if is_file else out / f"{source.stem}.wav" for source in inputs}
    taken: dict[Path, Path] = {}
    for source, target in targets.items():
        if target.resolve() == source.resolve():
            raise ValueError(f"'{target}' would overwrite its own input; give another output")
        if target in taken:
            raise ValueError(
                f"'{taken[target]}' and '{source}' would both become '{target}'; give them other "
                "names"
            )
        taken[target] = source
    return targets

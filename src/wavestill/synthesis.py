"""From files of recordings or frames to files of sound, with a voice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from jaxtyping import Float32

from wavestill.audio.features import extract, load_frames
from wavestill.audio.files import WRITE_SUFFIXES, Sound, SoundError, read_sound, write_sound
from wavestill.audio.levels import SILENCE_DBFS, find_level, quantise, rms_dbfs
from wavestill.drawing import Sampler, check_temperature, drawn_model, synthesise
from wavestill.publish import Voice, load

FRAME_SUFFIXES = (".npy", ".npz")


class Copied(NamedTuple):
    """Frames of a recording, and the way back to its level.

    Arguments:
        frames: `(F, C)`.
        gain_db: What the recording was raised by before its frames were taken.
        notes: What had to be converted.
    """

    frames: Float32[np.ndarray, "F C"]
    gain_db: float
    notes: tuple[str, ...]


@dataclass
class SynthesisReport:
    """What `synth` did.

    Arguments:
        written: Output by input, as paths.
        failed: One-line reason by input.
        notes: What was converted or clipped, by input.
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


def frames_of_recording(path: Path, voice: Voice) -> Copied:
    """`copy_sound` of a file.

    Raises:
        SoundError: If the file cannot be used.
    """
    return copy_sound(read_sound(path), voice, path)


def copy_sound(sound: Sound, voice: Voice, path: Path) -> Copied:
    """The frames of a recording, resampled and levelled as `prepare` does.

    They depend on the sound alone, not on the name of its file.

    Arguments:
        sound: As read.
        voice: Whose spec, rate and level the frames are to have.
        path: Names the recording in messages.

    Raises:
        SoundError: If the recording cannot be used.
    """
    spec = voice.spec
    wave, notes = sound.wave, list(sound.notes)
    if sound.sample_rate != spec.sample_rate:
        notes.append(
            f"resampled from {sound.sample_rate:,} Hz to the voice's {spec.sample_rate:,} Hz"
        )
        wave = soxr.resample(wave, sound.sample_rate, spec.sample_rate, quality="VHQ")
    # Whole frames: the last one is filled with silence rather than cut.
    wave = np.pad(wave, (0, -len(wave) % spec.hop_samples))
    if len(wave) < spec.min_samples:
        raise SoundError(path, f"too short: {len(wave) / spec.sample_rate:.3f} s")
    if rms_dbfs(wave) < SILENCE_DBFS:
        raise SoundError(path, f"silent: its RMS is {rms_dbfs(wave):.1f} dBFS")
    gain_db = find_level(wave, voice.level_dbfs).gain_db
    levels = quantise(wave * np.float32(10 ** (gain_db / 20)), key="copy", seed=0)
    return Copied(
        extract(levels.astype(np.float32) / np.float32(32768), spec), gain_db, tuple(notes)
    )


def synth(
    model: Path | str,
    inputs: Sequence[Path | str],
    out: Path | str,
    *,
    sampler: Sampler = "student",
    seed: int = 0,
    temperature: float = 1.0,
    speaker: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> SynthesisReport:
    """Write the sound of recordings (copy-synthesis) or of saved frames.

    A recording is resampled to the voice's rate and raised to the level it was trained at, its
    frames are taken, and the sound drawn from them is brought back to the recording's own level.
    Frames (.npy, .npz) sound as loud as the voice's recordings were when it was trained. An input
    that cannot be used is named in the report; the others are still made.

    Arguments:
        model: Folder of a voice.
        inputs: Recordings (.wav, .flac, .ogg, .mp3) or frames (.npy, .npz).
        out: A .wav or .flac file for one input; otherwise a folder, where each input gets a .wav
            of its name.
        sampler: As for `synthesise`.
        seed: As for `synthesise`; every input is drawn from the same seed.
        temperature: As for `synthesise`.
        speaker: As for `synthesise`.
        progress: Called with the input, the samples done and their total.

    Raises:
        ValueError: If the voice cannot be used as asked, or `out` does not suit the inputs.
    """
    voice = load(model)
    drawn_model(voice, sampler)
    voice.speaker_number(speaker)
    check_temperature(temperature, sampler)
    targets = _targets([Path(path) for path in inputs], Path(out))
    report = SynthesisReport(sampler, voice.spec.sample_rate)
    for source, target in targets.items():
        try:
            if source.suffix.lower() in FRAME_SUFFIXES:
                copied = Copied(load_frames(source, voice.spec), 0.0, ())
            else:
                copied = frames_of_recording(source, voice)
            x = synthesise(
                voice,
                copied.frames,
                sampler=sampler,
                seed=seed,
                temperature=temperature,
                speaker=speaker,
                progress=None if progress is None else _named(progress, str(source)),
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            num_clipped = write_sound(
                target, x * 10 ** (-copied.gain_db / 20), voice.spec.sample_rate
            )
        except (ValueError, OSError) as error:
            report.failed[str(source)] = str(error).removeprefix(f"{source}: ")
            continue
        notes = list(copied.notes)
        if num_clipped:
            notes.append(f"{num_clipped:,} samples were beyond full scale and are clipped")
        if notes:
            report.notes[str(source)] = notes
        report.written[str(source)] = str(target)
        report.seconds += len(x) / voice.spec.sample_rate
    return report


def _named(progress: Callable[[str, int, int], None], name: str) -> Callable[[int, int], None]:
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

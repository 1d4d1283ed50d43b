"""The frames that a voice is given: of recordings, of saved frames, of labels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from jaxtyping import Float32

from wavestill.audio.features import extract, load_frames
from wavestill.audio.files import Sound, SoundError, read_sound
from wavestill.audio.labels import LABEL_SUFFIXES, Label, labels_beside, read_labels
from wavestill.audio.levels import SILENCE_DBFS, find_level, quantise, rms_dbfs
from wavestill.audio.linguistic import LinguisticSpec, linguistic_frames
from wavestill.audio.mel import MelSpec
from wavestill.audio.mel_pitch import MEASURED_ERROR, estimate_pitch_from_mels
from wavestill.publish import Voice

FRAME_SUFFIXES = (".npy", ".npz")


class Copied(NamedTuple):
    """Frames of an input, and the way back to its level.

    Arguments:
        frames: `(F, C)`.
        gain_db: What a recording was raised by before its frames were taken; 0 for others.
        notes: What had to be converted or estimated.
    """

    frames: Float32[np.ndarray, "F C"]
    gain_db: float
    notes: tuple[str, ...]


def frames_of(path: Path, voice: Voice) -> Copied:
    """The frames of an input of any kind that the voice takes.

    Raises:
        ValueError: In one line, if the file cannot be used.
    """
    suffix = path.suffix.lower()
    if suffix in FRAME_SUFFIXES:
        return frames_of_file(path, voice)
    if suffix in [known.lower() for known in LABEL_SUFFIXES]:
        return frames_of_labels(path, voice)
    return frames_of_recording(path, voice)


def frames_of_recording(path: Path, voice: Voice) -> Copied:
    """The frames of a recording, resampled and levelled as `prepare` does.

    For a voice of linguistic features its labels lie beside it under the same name.

    Raises:
        SoundError: If the recording cannot be used.
        ValueError: If its labels cannot be used.
    """
    labels = None
    if isinstance(voice.spec, LinguisticSpec):
        beside = labels_beside(path)
        if beside is None:
            raise SoundError(
                path,
                f"this voice takes labels, and no {path.stem}.lab or .TextGrid lies beside it",
            )
        labels = read_labels(beside)
    return copy_sound(read_sound(path), voice, path, labels)


def copy_sound(
    sound: Sound, voice: Voice, path: Path, labels: Sequence[Label] | None = None
) -> Copied:
    """The frames of a recording, resampled and levelled as `prepare` does.

    They depend on the sound alone, not on the name of its file.

    Arguments:
        sound: As read.
        voice: Whose spec, rate and level the frames are to have.
        path: Names the recording in messages.
        labels: Its phones, for a voice of linguistic features.

    Raises:
        SoundError: If the recording cannot be used, or such a voice is given no labels.
    """
    spec = voice.spec
    if isinstance(spec, LinguisticSpec) and labels is None:
        raise SoundError(path, "this voice takes labels, and there are none")
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
    wave = levels.astype(np.float32) / np.float32(32768)
    return Copied(extract(wave, spec, labels), gain_db, tuple(notes))


def frames_of_file(path: Path, voice: Voice) -> Copied:
    """Saved frames; where they are mels alone and the voice takes pitch, it is estimated.

    Raises:
        ValueError: In one line, if the file cannot be used.
    """
    spec = voice.spec
    if isinstance(spec, MelSpec) and spec.pitch:
        try:
            return Copied(load_frames(path, spec), 0.0, ())
        except ValueError as error:
            try:
                mels = load_frames(path, replace(spec, pitch=False))
            except ValueError:  # not mels alone: say what is wrong with it as frames of the voice
                raise error from None
        pitch = estimate_pitch_from_mels(mels, spec)
        note = f"F0 estimated from its mels ({MEASURED_ERROR})"
        return Copied(np.concatenate([mels, pitch], axis=1), 0.0, (note,))
    return Copied(load_frames(path, spec), 0.0, ())


def frames_of_labels(path: Path, voice: Voice) -> Copied:
    """The frames of a label file, as long as it says.

    Raises:
        ValueError: In one line, if the file cannot be used, or the voice takes no labels, or pitch
            as well, which they do not tell.
    """
    spec = voice.spec
    if not isinstance(spec, LinguisticSpec):
        raise ValueError(f"{path}: labels, but this voice takes mels; give recordings or frames")
    if spec.pitch:
        raise ValueError(
            f"{path}: labels tell no F0, which this voice takes; give a recording with its labels "
            "beside it, or frames (.npz)"
        )
    labels = read_labels(path)
    try:
        return Copied(linguistic_frames(labels, spec), 0.0, ())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error

"""What happens to each recording on its way into a corpus."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import soxr
from jaxtyping import Float32, Int16

from wavestill.audio.features import extract
from wavestill.audio.files import SoundError, read_sound
from wavestill.audio.labels import read_labels
from wavestill.audio.levels import SILENCE_DBFS, find_level, quantise, rms_dbfs
from wavestill.audio.linguistic import LinguisticSpec
from wavestill.audio.recordings import Recording
from wavestill.audio.spec import FeatureSpec
from wavestill.audio.splits import SPLITS, canonical_split, prompt_key


class Treated(NamedTuple):
    """A recording as the corpus stores it.

    Arguments:
        audio: Samples on the 16-bit grid.
        frames: Its features.
        gain_db: What it was raised by.
        notes: What was converted.
        prompt: What must not be in two splits.
    """

    audio: Int16[np.ndarray, " T"]
    frames: Float32[np.ndarray, "F C"]
    gain_db: float
    notes: tuple[str, ...]
    prompt: str


@dataclass(frozen=True)
class Treatment:
    """Resampling, levelling, quantising and measuring; the same for every recording.

    Arguments:
        spec: Rate and features of the corpus.
        level_dbfs: Root mean square asked for, dB below full scale.
        seed: Of the dither.
    """

    spec: FeatureSpec
    level_dbfs: float
    seed: int

    def __call__(self, recording: Recording) -> Treated:
        """Treat one recording.

        Raises:
            SoundError: If it cannot be used.
        """
        spec, path = self.spec, recording.path
        if recording.split is not None and canonical_split(recording.split) is None:
            raise SoundError(path, f"its split {recording.split!r} is none of {', '.join(SPLITS)}")
        wave, sample_rate, read_notes = read_sound(path)
        notes = list(read_notes)
        if sample_rate != spec.sample_rate:
            notes.append(f"resampled from {sample_rate:,} Hz")
            if sample_rate < spec.sample_rate:
                notes.append(f"nothing above {sample_rate / 2:,.0f} Hz is in the recording")
            wave = soxr.resample(wave, sample_rate, spec.sample_rate, quality="VHQ")
        wave = wave[: len(wave) // spec.hop_samples * spec.hop_samples]
        if len(wave) < spec.min_samples:
            raise SoundError(
                path,
                f"too short: {len(wave) / spec.sample_rate:.3f} s in whole frames, "
                f"less than {spec.min_samples / spec.sample_rate:.3f} s",
            )
        if rms_dbfs(wave) < SILENCE_DBFS:
            raise SoundError(
                path, f"silent: its RMS is {rms_dbfs(wave):.1f} dBFS, below {SILENCE_DBFS:.0f}"
            )
        level = find_level(wave, self.level_dbfs)
        if level.limited:
            notes.append(f"below {self.level_dbfs:g} dBFS RMS, since its peak is at the limit")
        gain = np.float32(10 ** (level.gain_db / 20))
        audio = quantise(wave * gain, key=recording.id, seed=self.seed)
        rounded = audio.astype(np.float32) / np.float32(32768)
        if isinstance(spec, LinguisticSpec):
            frames = _extract_labelled(rounded, recording, spec)
        else:
            frames = extract(rounded, spec)
        prompt = prompt_key(recording.text, path)
        return Treated(audio, frames, level.gain_db, tuple(notes), prompt)


def _extract_labelled(
    wave: Float32[np.ndarray, " T"], recording: Recording, spec: LinguisticSpec
) -> Float32[np.ndarray, "F C"]:
    """The features of a recording's labels.

    Raises:
        SoundError: If it has none, or they cannot be used.
    """
    if recording.labels is None:
        raise SoundError(recording.path, "it has no label file")
    try:
        return extract(wave, spec, read_labels(recording.labels))
    except ValueError as error:
        said = str(error).removeprefix(str(recording.labels)).removeprefix(":").strip()
        raise SoundError(recording.path, f"{recording.labels.name}: {said}") from error

"""What happens to each recording on its way into a corpus."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import soxr
from jaxtyping import Float32, Int16

from wavestill.audio.features import extract
from wavestill.audio.files import SoundError, read_sound
from wavestill.audio.layouts import Recording
from wavestill.audio.levels import SILENCE_DBFS, find_level, quantise, rms_dbfs
from wavestill.audio.mel import MelSpec
from wavestill.audio.splits import SPLITS, canonical_split


class Treated(NamedTuple):
    """A recording as the corpus stores it, the gain it was given and what was converted."""

    audio: Int16[np.ndarray, " T"]
    frames: Float32[np.ndarray, "F C"]
    gain_db: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Treatment:
    """Resampling, levelling, quantising and measuring; the same for every recording.

    Arguments:
        spec: Rate and features of the corpus.
        level_dbfs: Root mean square asked for, dB below full scale.
        seed: Of the dither.
    """

    spec: MelSpec
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
        frames = extract(audio.astype(np.float32) / np.float32(32768), spec)
        return Treated(audio, frames, level.gain_db, tuple(notes))

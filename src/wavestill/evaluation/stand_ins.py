"""Recordings unlike those a voice learned from, made of its own: stand-ins for foreign speech.

Other speakers, rooms, levels, rates and a language that nobody speaks, each made by one change to
a held-out recording, or by the synthetic voices of flite where that is installed. They are no
substitute for real recordings of other people: what they show is which change does how much.
"""

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import soxr
from jaxtyping import Float

from wavestill.audio.files import read_sound

Wave = Float[np.ndarray, " _"]
Recording = tuple[Wave, int]
"""A sound in [-1, 1] and its samples per second."""

FLITE_TEXT = "The tall ships left the harbour at dawn, and nobody on the pier said a word."
FLITE_PHONES = (
    "pau k ow n iy ch iy w aa pau d iy n aa hh ae l t ae s y uw t eh m ao r g eh n pau"
    " m iy k aa s aa eh s s uw k aa s aa pau"
)
"""Words of Japanese, German and Spanish in the phones that an English voice has."""


def stand_ins(
    clips: Mapping[str, Wave], sample_rate: int, *, seed: int = 0
) -> dict[str, dict[str, Recording]]:
    """Recordings by condition and name, `as recorded` first.

    Arguments:
        clips: Held-out recordings by name, in [-1, 1].
        sample_rate: Of the clips, in Hz.
        seed: Of the room's echoes and the noise.
    """
    rng = np.random.default_rng(seed)
    echo = room(sample_rate, rng)
    changes: dict[str, Callable[[Wave], Recording]] = {
        "as recorded": lambda x: (x, sample_rate),
        "+12 dB": lambda x: (_held(x * 10**0.6), sample_rate),
        "-20 dB": lambda x: (x / 10, sample_rate),
        "22.05 kHz": lambda x: (soxr.resample(x, sample_rate, 22_050, "VHQ"), 22_050),
        "telephone, 8 kHz": lambda x: (soxr.resample(x, sample_rate, 8_000, "VHQ"), 8_000),
        "a room, 0.5 s": lambda x: (_held(np.convolve(x, echo)[: len(x)]), sample_rate),
        "noise, 20 dB SNR": lambda x: (
            _held(x + 0.1 * np.std(x) * rng.normal(size=len(x))),
            sample_rate,
        ),
        "spoken backwards": lambda x: (x[::-1].copy(), sample_rate),
    }
    if importlib.util.find_spec("pyworld") is not None:
        changes["F0 × 0.55, formants × 0.85"] = lambda x: (
            speaker(x, sample_rate, 0.55, 0.85),
            sample_rate,
        )
        changes["F0 × 1.4, formants × 1.15"] = lambda x: (
            speaker(x, sample_rate, 1.4, 1.15),
            sample_rate,
        )
    made = {
        condition: {name: change(wave) for name, wave in clips.items()}
        for condition, change in changes.items()
    }
    if shutil.which("flite") is not None:
        for voice in ("rms", "awb", "slt"):
            made[f"flite's voice {voice}"] = {voice: flite(voice, ["-t", FLITE_TEXT])}
        made["foreign words by flite"] = {
            voice: flite(voice, ["-p", FLITE_PHONES]) for voice in ("rms", "slt")
        }
    return made


def speaker(wave: Wave, sample_rate: int, f0_factor: float, formant_factor: float) -> Wave:
    """The same words by another throat: WORLD's F0 and spectral envelope, each stretched.

    References:
        | WORLD (Morise et al., 2016), https://doi.org/10.1587/transinf.2015EDP7457

    Arguments:
        wave: The recording.
        sample_rate: Samples per second.
        f0_factor: Factor on F0.
        formant_factor: Factor on the frequencies of the envelope.
    """
    import pyworld as vocoder  # an extra: `wavestill[pitch]`

    x = np.ascontiguousarray(wave, np.float64)
    f0, times = vocoder.dio(x, sample_rate)
    f0 = vocoder.stonemask(x, f0, times, sample_rate)
    envelope = vocoder.cheaptrick(x, f0, times, sample_rate)
    noise = vocoder.d4c(x, f0, times, sample_rate)
    bins = np.arange(envelope.shape[1])
    for table in (envelope, noise):
        for row in table:
            row[:] = np.interp(bins / formant_factor, bins, row)
    made = vocoder.synthesize(f0 * f0_factor, envelope, noise, sample_rate)
    return _held(np.pad(made, (0, max(0, len(x) - len(made))))[: len(x)])


def room(sample_rate: int, rng: np.random.Generator, seconds: float = 0.5) -> Wave:
    """An impulse response: the sound itself, and echoes that fall by 60 dB in `seconds`."""
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    response = rng.normal(size=len(times)) * 10 ** (-3 * times / seconds)
    response *= 0.7 / np.linalg.norm(response)  # 3 dB under the direct sound
    response[: round(0.002 * sample_rate)] = 0.0  # the first wall is 0.3 m away
    response[0] = 1.0
    return np.asarray(response)


def flite(voice: str, arguments: list[str]) -> Recording:
    """A sentence by one of flite's voices."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoken.wav"
        command = ["flite", "-voice", voice, *arguments, "-o", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        wave, sample_rate, _ = read_sound(path)
    return wave, sample_rate


def _held(wave: Wave) -> Wave:
    """What a converter would make of it: full scale is full scale."""
    return np.asarray(np.clip(wave, -1.0, 1.0 - 2.0**-15))

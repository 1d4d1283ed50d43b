"""Loudness, and the way back to the 16-bit grid."""

import hashlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int16

PEAK_DBFS = -1.0
"""No sample is raised above this: room for intersample peaks and for a model's own excursions."""

SILENCE_DBFS = -70.0
"""Sounds quieter than this are silence: raising them would raise the noise of their last bits."""


class Level(NamedTuple):
    """A gain, and whether the peak held it below the loudness asked for."""

    gain_db: float
    limited: bool


def rms_dbfs(wave: Float[np.ndarray, " T"]) -> float:
    """Root mean square about the mean, dB below full scale (a constant has none: -inf)."""
    deviation = float(np.std(wave, dtype=np.float64))
    return 20 * float(np.log10(deviation)) if deviation > 0 else -np.inf


def find_level(wave: Float[np.ndarray, " T"], level_dbfs: float) -> Level:
    """The gain that brings a sound to this RMS, or as near as its peak allows (`PEAK_DBFS`)."""
    wanted_db = level_dbfs - rms_dbfs(wave)
    allowed_db = PEAK_DBFS - 20 * float(np.log10(np.abs(wave).max()))
    return Level(min(wanted_db, allowed_db), wanted_db > allowed_db)


def quantise(wave: Float[np.ndarray, " T"], *, key: str, seed: int) -> Int16[np.ndarray, " T"]:
    r"""Round to the 16-bit grid under triangular dither.

    .. math:: k = \mathrm{round}(2^{15} x + u_1 + u_2), \qquad u_i \sim U(-\tfrac12, \tfrac12)

    Dither makes the error's mean and variance independent of the sound, so quiet passages keep no
    pattern of the grid that a likelihood could learn. It is a function of (seed, key): the same
    recording gives the same bits.

    References:
        | Lipshitz, Wannamaker and Vanderkooy, "Quantization and Dither" (1992), section 4.4
    """
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    dither = rng.random(len(wave)) - rng.random(len(wave))
    levels = np.rint(wave.astype(np.float64) * 32768 + dither)
    return np.clip(levels, -32768, 32767).astype(np.int16)

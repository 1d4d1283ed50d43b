"""Sounds to test with: a buzz with formants is enough of a voice for every property here."""

from collections.abc import Callable

import numpy as np
import pytest

Voice = Callable[..., np.ndarray]


@pytest.fixture(scope="session")
def voice() -> Voice:
    """`voice(seconds, rate, f0_hz=...)`: harmonics of a gliding F0, with a little noise."""

    def make(
        seconds: float = 0.5,
        rate: int = 16000,
        *,
        f0_hz: float = 140.0,
        glide: float = 0.2,
        seed: int = 0,
    ) -> np.ndarray:
        rng = np.random.default_rng(seed)
        time_s = np.arange(round(seconds * rate)) / rate
        f0 = f0_hz * (1 + glide * np.sin(2 * np.pi * 1.3 * time_s + seed))
        phase = 2 * np.pi * np.cumsum(f0) / rate
        harmonics = [
            np.sin(k * phase) / k for k in range(1, 20) if k * f0_hz * (1 + glide) < rate / 2
        ]
        sound = 0.05 * np.sum(harmonics, axis=0) + 0.001 * rng.normal(size=len(time_s))
        return sound.astype(np.float32)

    return make

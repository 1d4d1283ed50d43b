"""Sounds with a pitch and pauses, and a corpus of them."""

import numpy as np
import pytest
import soundfile

from wavestill.audio import Corpus, MelSpec, prepare

SPEC = MelSpec(8000, 256, 80, 256, 32, 0.0, 4000.0)


def voice_like(seconds: float, seed: int, rate: int = 8000) -> np.ndarray:
    """Harmonics of a gliding pitch in syllables, over a little noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    f0_hz = 120 * 2 ** (0.3 * np.sin(2 * np.pi * 0.7 * t + seed))
    phase = 2 * np.pi * np.cumsum(f0_hz) / rate
    tone = sum(np.sin(k * phase) / k for k in range(1, 20))
    syllables = np.clip(1.5 * np.sin(2 * np.pi * 3 * t + seed), 0, 1)
    return (0.1 * tone * syllables + 0.001 * rng.normal(size=len(t))).astype(np.float32)


@pytest.fixture
def spec() -> MelSpec:
    return SPEC


@pytest.fixture
def wave() -> np.ndarray:
    return voice_like(1.6, seed=1)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "source").mkdir()
    for i in range(24):
        soundfile.write(
            folder / "source" / f"{i:02}.wav", voice_like(0.5 + 0.01 * i, seed=i), 8000
        )
    prepare(folder / "source", folder / "corpus", spec=SPEC)
    return Corpus(folder / "corpus")

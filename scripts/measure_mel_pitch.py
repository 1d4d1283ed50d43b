"""How far F0 estimated from mels is from F0 estimated from the waveform, over a corpus.

    python scripts/measure_mel_pitch.py CORPUS [SPLIT]

The corpus is one that `wavestill prepare --pitch` made. As a scale for the figures, pYIN is
measured the same way on some of the clips: two estimators that both see the waveform do not agree
either.
"""

import sys

import numpy as np

from wavestill.audio import Corpus
from wavestill.audio.mel_pitch import estimate_pitch_from_mels
from wavestill.audio.pitch import _pyin, pitch_estimator  # the one that is not in use

NUM_PYIN_CLIPS = 20


def describe(name: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """The figures of estimates `(F, 2)` against references `(F, 2)`."""
    found, reference = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    is_voiced, found_voiced = reference[:, 1] > 0.5, found[:, 1] > 0.5
    both = is_voiced & found_voiced
    cents = 1200 / np.log(2) * (found[:, 0] - reference[:, 0])[both]
    is_gross = np.abs(cents) > 1200 * np.log2(1.2)
    return (
        f"{name}: {np.median(np.abs(cents)):.1f} cents median, "
        f"{np.sqrt(np.mean(cents[~is_gross] ** 2)):.0f} RMS without and "
        f"{np.sqrt(np.mean(cents**2)):.0f} with the {is_gross.mean():.2%} that are off by 20 % "
        f"or more; voicing differs in {(is_voiced != found_voiced).mean():.1%} of frames "
        f"({(found_voiced & ~is_voiced).mean():.1%} too many, "
        f"{(is_voiced & ~found_voiced).mean():.1%} too few)"
    )


def main() -> None:
    """Measure and say."""
    corpus = Corpus(sys.argv[1])
    clips = corpus.split(sys.argv[2] if len(sys.argv) > 2 else "test")
    spec = corpus.spec
    from_mels = [
        (estimate_pitch_from_mels(clip.frames[:, : spec.num_mels], spec), clip.frames[:, -2:])
        for clip in clips
    ]
    print(f"{len(from_mels)} clips against {pitch_estimator()}")
    print(describe("from mels", from_mels))
    pyin = []
    for clip in [clips[i] for i in range(0, len(clips), max(1, len(clips) // NUM_PYIN_CLIPS))]:
        f0_hz = _pyin(clip.wave[spec.hop_samples // 2 :], spec)[: len(clip.frames)]
        found = np.stack([np.log(np.where(f0_hz > 0, f0_hz, 1)), f0_hz > 0], axis=1)
        pyin.append((found, clip.frames[:, -2:]))
    print(describe(f"pYIN from the waveform, {len(pyin)} clips", pyin))


if __name__ == "__main__":
    main()

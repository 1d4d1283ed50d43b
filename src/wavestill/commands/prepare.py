"""`wavestill prepare`."""

from pathlib import Path

from wavestill import audio
from wavestill.commands.terminal import Outcome, say, waiting


def prepare(
    corpus: Path,
    out: Path,
    *,
    preset: str = "wavestill_16k",
    pitch: bool = False,
    level_dbfs: float = -23.0,
    valid_fraction: float = 0.05,
    test_fraction: float = 0.05,
    seed: int = 0,
) -> Outcome:
    """Check, resample, level and index recordings; unusable files are named and skipped.

    Arguments:
        corpus: Folder of recordings: plain (.wav, .flac, .ogg, .mp3 at any depth), LJSpeech's
            layout (metadata.csv and wavs/), or with a metadata.psv.
        out: Folder to make; one that holds a corpus of the same source and spec is replaced.
        preset: Mel features: wavestill_8k, wavestill_16k, wavestill_24k or hifigan_22k.
        pitch: Add log F0 and voicing, which models with a harmonic source need.
        level_dbfs: RMS that every clip is brought to, dB below full scale.
        valid_fraction: Share of prompts held out for validation, where the corpus does not say.
        test_fraction: Share of prompts held out for testing, where the corpus does not say.
        seed: Seed of dither and splits.
    """
    with waiting("preparing") as show:
        report = audio.prepare(
            corpus,
            out,
            preset=preset,
            pitch=pitch,
            level_dbfs=level_dbfs,
            valid_fraction=valid_fraction,
            test_fraction=test_fraction,
            seed=seed,
            progress=lambda done, total: show("", done / max(1, total)),
        )
    say(str(report))
    return Outcome(report.to_dict())

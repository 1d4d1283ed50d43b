"""`wavestill prepare`."""

from pathlib import Path

from wavestill import audio
from wavestill.commands.terminal import Outcome, say, waiting


def prepare(
    corpus: Path,
    out: Path | None = None,
    *,
    preset: str = "wavestill_16k",
    pitch: bool = False,
    labels: Path | None = None,
    level_dbfs: float = -23.0,
    valid_fraction: float = 0.05,
    test_fraction: float = 0.05,
    seed: int = 0,
    workers: int | None = None,
    shard_mib: int = 1024,
    verify: bool = False,
) -> Outcome:
    """Check, resample, level and index recordings; unusable files are named and skipped.

    An interrupted preparation is kept in OUT.partial: the same command goes on with it.

    Arguments:
        corpus: Folder of recordings: plain (.wav, .flac, .ogg, .mp3 at any depth), LJSpeech's
            layout (metadata.csv and wavs/), VCTK's, LibriTTS's, or with a metadata.psv. With
            --verify, a prepared corpus.
        out: Folder to make; one that holds a corpus of the same source and spec is replaced.
        preset: Mel features: wavestill_8k, wavestill_16k, wavestill_24k, hifigan_22k,
            tacotron2_22k or vocos_24k.
        pitch: Add log F0 and voicing, which models with a harmonic source need.
        labels: Folder of phone labels (.lab, .TextGrid) named as the recordings are; features are
            then linguistic ones, at the preset's rate and hop.
        level_dbfs: RMS that every clip is brought to, dB below full scale.
        valid_fraction: Share of prompts held out for validation, where the corpus does not say.
        test_fraction: Share of prompts held out for testing, where the corpus does not say.
        seed: Seed of dither and splits.
        workers: Processes; unless given as many as there are cores, fewer for few recordings.
        shard_mib: Most MiB of a shard, the files that the corpus is divided into.
        verify: Prepare nothing: read the prepared CORPUS and name what is damaged in it.
    """
    if verify:
        return _verify(corpus, out)
    if out is None:
        raise ValueError("there is no OUT; give the folder to make")
    with waiting("preparing") as show:
        report = audio.prepare(
            corpus,
            out,
            preset=preset,
            pitch=pitch,
            labels=labels,
            level_dbfs=level_dbfs,
            valid_fraction=valid_fraction,
            test_fraction=test_fraction,
            seed=seed,
            workers=workers,
            shard_mib=shard_mib,
            progress=lambda done, total: show("", done / max(1, total)),
        )
    say(str(report))
    return Outcome(report.to_dict())


def _verify(corpus: Path, out: Path | None) -> Outcome:
    if out is not None:
        raise ValueError(f"--verify makes nothing, so there is no place for '{out}'; leave it out")
    with waiting("verifying") as show:
        found = audio.verify(corpus, progress=lambda done, total: show("", done / max(1, total)))
    say(str(found))
    return Outcome(found.to_dict(), failed=bool(found.damaged))

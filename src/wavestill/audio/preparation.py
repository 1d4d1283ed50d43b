"""From recordings to a corpus that trains: checked, resampled, levelled, split and indexed."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from wavestill.audio.corpus import ClipEntry
from wavestill.audio.files import SoundError
from wavestill.audio.layouts import Layout, Recording, Skipped, find_recordings
from wavestill.audio.levels import SILENCE_DBFS
from wavestill.audio.mel import MEL_PRESETS, MelSpec
from wavestill.audio.pitch import pitch_estimator
from wavestill.audio.reports import PreparationReport
from wavestill.audio.splits import SplitPlan, canonical_split, keep_splits, make_splits, prompt_key
from wavestill.audio.treatment import Treatment
from wavestill.audio.writing import CorpusWriter, require_replaceable


def prepare(
    source: Path | str,
    out: Path | str,
    *,
    preset: str | None = None,
    spec: MelSpec | None = None,
    pitch: bool = False,
    level_dbfs: float = -23.0,
    valid_fraction: float = 0.05,
    test_fraction: float = 0.05,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> PreparationReport:
    """Make a corpus of a folder of recordings, in any layout of `layouts.find_recordings`.

    Each recording is read as one channel, resampled (soxr VHQ), cut to whole frames, raised to the
    wanted RMS or as far as a peak of -1 dBFS allows, and rounded once to the 16-bit grid under
    triangular dither; its features are those of the samples as stored. One that cannot be used is
    skipped. The report names every recording that was skipped or converted, with the reason.

    A split column is honoured, except that a prompt found in several splits goes to train;
    otherwise prompts (texts without case and punctuation; without texts, identical files) are
    divided by a hash. The same source, spec and seed give the same bytes.

    Arguments:
        source: Folder of recordings.
        out: Folder to make. If it holds a corpus of the same source and spec it is replaced, once
            the new one is whole; if it holds anything else, it is left alone and refused.
        preset: Name in `MEL_PRESETS`; `wavestill_16k` if neither this nor `spec` is given.
        spec: A mel spec of one's own, instead of a preset.
        pitch: Whether to add log F0 and voicing to the preset's mels.
        level_dbfs: Root mean square of each clip, dB below full scale.
        valid_fraction: Share of prompts held out for validation, where the source does not say.
        test_fraction: Share of prompts held out for testing, where the source does not say.
        seed: Of the dither and the splits.
        progress: Called with the number of recordings done and their total.

    Raises:
        ValueError: In one line, if the source holds nothing usable, `out` may not be replaced, or
            a value is out of range.
    """
    start_s = time.monotonic()
    source, out = Path(source), Path(out)
    spec = _choose_spec(preset, spec, pitch=pitch)
    if not SILENCE_DBFS < level_dbfs < 0:
        raise ValueError(f"'level_dbfs' is {level_dbfs}; it must lie between {SILENCE_DBFS} and 0")
    if min(valid_fraction, test_fraction) < 0 or valid_fraction + test_fraction >= 1:
        raise ValueError(
            f"'valid_fraction' is {valid_fraction} and 'test_fraction' {test_fraction}; "
            "neither may be negative, and they must sum below 1"
        )
    layout = find_recordings(source)
    require_replaceable(out, source, spec)
    with CorpusWriter(out, spec) as writer:
        used, skipped = _treat_all(
            layout, source, writer, Treatment(spec, level_dbfs, seed), progress
        )
        if not used:
            raise ValueError(
                f"{source}: none of its {len(layout.recordings)} recordings can be used; "
                f"the first: {skipped[0].source}: {skipped[0].reason}"
            )
        plan = _plan_splits(used, valid_fraction, test_fraction, seed)
        entries = writer.sort(plan.splits)
        report = PreparationReport.of(
            entries,
            source=str(source.resolve()),
            out=str(out),
            layout=layout.name,
            spec=spec,
            level_dbfs=level_dbfs,
            pitch_estimator=pitch_estimator() if spec.pitch else None,
            skipped=[*layout.skipped, *skipped],
            moved_to_train=[writer.entries[i].source for i in plan.moved],
        )
        header = {"source": report.source, "level_dbfs": level_dbfs, "seed": seed}
        writer.finish(entries, header, report.to_dict())
    return replace(report, elapsed_s=time.monotonic() - start_s)


def _choose_spec(preset: str | None, spec: MelSpec | None, *, pitch: bool) -> MelSpec:
    if spec is not None:
        if preset is not None or pitch:
            raise ValueError("give either 'spec' or 'preset' and 'pitch', not both")
        return spec
    name = preset or "wavestill_16k"
    if name not in MEL_PRESETS:
        raise ValueError(f"no mel preset {name!r}; there are {', '.join(MEL_PRESETS)}")
    return replace(MEL_PRESETS[name], pitch=pitch)


def _treat_all(
    layout: Layout,
    source: Path,
    writer: CorpusWriter,
    treatment: Treatment,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Recording], list[Skipped]]:
    """Hand every usable recording to the writer; returns these, and the others with the reason."""
    used: list[Recording] = []
    skipped: list[Skipped] = []
    total = len(layout.recordings)
    for done, recording in enumerate(layout.recordings):
        if progress is not None:
            progress(done, total)
        name = recording.path.relative_to(source).as_posix()
        try:
            audio, frames, gain_db, notes = treatment(recording)
        except SoundError as error:
            skipped.append(Skipped(name, error.reason))
            continue
        entry = ClipEntry(
            id=recording.id,
            split="",
            text=recording.text,
            speaker=recording.speaker,
            source=name,
            offset_samples=0,
            num_frames=len(frames),
            gain_db=round(gain_db, 3),
            notes=notes,
        )
        writer.add(entry, audio, frames)
        used.append(recording)
    if progress is not None:
        progress(total, total)
    return used, skipped


def _plan_splits(
    used: list[Recording], valid_fraction: float, test_fraction: float, seed: int
) -> SplitPlan:
    keys = [prompt_key(recording.text, recording.path) for recording in used]
    given = [canonical_split(recording.split) for recording in used if recording.split is not None]
    known = [split for split in given if split is not None]
    if len(known) == len(used):
        return keep_splits(keys, known)
    return make_splits(keys, valid_fraction=valid_fraction, test_fraction=test_fraction, seed=seed)

"""From recordings to a corpus that trains: checked, resampled, levelled, split and indexed."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from wavestill import __version__
from wavestill.audio.clip_table import ClipTable
from wavestill.audio.labelling import label_recordings, spec_of_labels
from wavestill.audio.layouts import find_recordings
from wavestill.audio.levels import SILENCE_DBFS
from wavestill.audio.mel import MEL_PRESETS, MelSpec
from wavestill.audio.pitch import pitch_estimator
from wavestill.audio.recordings import Layout, Recording, Skipped
from wavestill.audio.reports import PreparationReport
from wavestill.audio.splits import SplitPlan, canonical_split, keep_splits, make_splits
from wavestill.audio.treatment import Treatment
from wavestill.audio.unfinished import Unfinished
from wavestill.audio.workers import suitable_workers, treat_in_order
from wavestill.audio.writing import require_replaceable


def prepare(
    source: Path | str,
    out: Path | str,
    *,
    preset: str | None = None,
    spec: MelSpec | None = None,
    pitch: bool = False,
    labels: Path | str | None = None,
    level_dbfs: float = -23.0,
    valid_fraction: float = 0.05,
    test_fraction: float = 0.05,
    seed: int = 0,
    workers: int | None = 1,
    shard_mib: int = 1024,
    progress: Callable[[int, int], None] | None = None,
) -> PreparationReport:
    """Make a corpus of a folder of recordings, in any layout of `layouts.find_recordings`.

    Each recording is read as one channel, resampled (soxr VHQ), cut to whole frames, raised to the
    wanted RMS or as far as a peak of -1 dBFS allows, and rounded once to the 16-bit grid under
    triangular dither; its features are those of the samples as stored. One that cannot be used is
    skipped. The report names every recording that was skipped or converted, with the reason.

    A split column is honoured, except that a prompt found in several splits goes to train;
    otherwise prompts (texts without case and punctuation; without texts, identical files) are
    divided by a hash. The same source, spec and seed give the same bytes, however many workers.

    The corpus is made in `OUT.partial`. If that is interrupted, even killed, the next call with
    the same settings goes on where it ended (from the first recording that has changed since) and
    gives the bytes that one run would have given. A worker killed by the system is named in the
    report; its recording is tried once more, alone, and skipped if that fails too.

    Arguments:
        source: Folder of recordings.
        out: Folder to make. If it holds a corpus of the same source and spec it is replaced, once
            the new one is whole; if it holds anything else, it is left alone and refused.
        preset: Name in `MEL_PRESETS`; `wavestill_16k` if neither this nor `spec` is given.
        spec: A mel spec of one's own, instead of a preset.
        pitch: Whether to add log F0 and voicing to the preset's mels.
        labels: Folder of label files (`.lab`, `.TextGrid`; see `read_labels`), named as the
            recordings are, each by its id or file name; it may be the source itself. The features
            are then the labels' (`LinguisticSpec`, of the phones that occur), at the preset's rate
            and hop; a recording without labels is skipped.
        level_dbfs: Root mean square of each clip, dB below full scale.
        valid_fraction: Share of prompts held out for validation, where the source does not say.
        test_fraction: Share of prompts held out for testing, where the source does not say.
        seed: Of the dither and the splits.
        workers: Processes that treat recordings; 1 is this process, None as many as there are
            cores, fewer for few recordings. Scripts that ask for more than 1 must keep their work
            under `if __name__ == "__main__":`, as for any process started anew.
        shard_mib: Most MiB of a shard, samples and frames together.
        progress: Called with the number of recordings done and their total.

    Raises:
        ValueError: In one line, if the source holds nothing usable, `out` may not be replaced,
            `OUT.partial` holds a preparation of other settings, or a value is out of range.
    """
    start_s = time.monotonic()
    source, out = Path(source), Path(out)
    mel_spec = _choose_spec(preset, spec, pitch=pitch)
    _check_numbers(level_dbfs, valid_fraction, test_fraction, workers, shard_mib)
    layout = find_recordings(source)
    if labels is not None:
        layout = label_recordings(layout, Path(labels))
    used_spec = mel_spec if labels is None else spec_of_labels(layout.recordings, mel_spec)
    if workers is None:
        workers = suitable_workers(len(layout.recordings))
    require_replaceable(out, source, used_spec)
    header = {"source": str(source.resolve()), "level_dbfs": level_dbfs, "seed": seed}
    estimator = pitch_estimator() if used_spec.pitch else None
    settings = {
        "version": __version__,
        **header,
        "spec": used_spec.to_dict(),
        "shard_mib": shard_mib,
        "pitch_estimator": estimator,
    }
    unfinished = Unfinished(out, used_spec, shard_mib << 20, settings)
    try:
        unfinished.resume(layout.recordings)
        killed = _treat_all(
            unfinished, layout, source, Treatment(used_spec, level_dbfs, seed), workers, progress
        )
        used = [entry for entry in unfinished.done if entry.skipped is None]
        skipped = [
            Skipped(_name(recording, source), entry.skipped)
            for recording, entry in zip(layout.recordings, unfinished.done, strict=True)
            if entry.skipped is not None
        ]
        if not used:
            unfinished.discard()
            raise ValueError(
                f"{source}: none of its {len(layout.recordings)} recordings can be used; "
                f"the first: {skipped[0].source}: {skipped[0].reason}"
            )
        recordings = [
            recording
            for recording, entry in zip(layout.recordings, unfinished.done, strict=True)
            if entry.skipped is None
        ]
        plan = _plan_splits(
            recordings, [entry.prompt for entry in used], valid_fraction, test_fraction, seed
        )
        entries = unfinished.entries(
            [(recording, _name(recording, source)) for recording in recordings], plan.splits
        )
        report = PreparationReport.of(
            entries,
            source=str(source.resolve()),
            out=str(out),
            layout=layout.name,
            spec=used_spec,
            level_dbfs=level_dbfs,
            pitch_estimator=estimator,
            skipped=[*layout.skipped, *skipped],
            moved_to_train=[entries[i].source for i in plan.moved],
            notes=layout.notes,
        )
        unfinished.finish(
            ClipTable.of(entries),
            {**header, "spec": used_spec.to_dict(), "report": report.to_index()},
        )
    finally:
        unfinished.close()
    return replace(report, killed=killed, elapsed_s=time.monotonic() - start_s)


def _check_numbers(
    level_dbfs: float,
    valid_fraction: float,
    test_fraction: float,
    workers: int | None,
    shard_mib: int,
) -> None:
    if not SILENCE_DBFS < level_dbfs < 0:
        raise ValueError(f"'level_dbfs' is {level_dbfs}; it must lie between {SILENCE_DBFS} and 0")
    if min(valid_fraction, test_fraction) < 0 or valid_fraction + test_fraction >= 1:
        raise ValueError(
            f"'valid_fraction' is {valid_fraction} and 'test_fraction' {test_fraction}; "
            "neither may be negative, and they must sum below 1"
        )
    if (workers is not None and workers < 1) or shard_mib < 1:
        raise ValueError(
            f"'workers' is {workers} and 'shard_mib' {shard_mib}; both must be at least 1"
        )


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
    unfinished: Unfinished,
    layout: Layout,
    source: Path,
    treatment: Treatment,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> list[str]:
    """Treat what is left to do; returns over which recordings a worker was killed."""
    total = len(layout.recordings)
    left = layout.recordings[len(unfinished.done) :]
    killed = []
    if progress is not None:
        progress(len(unfinished.done), total)
    for recording, outcome in zip(left, treat_in_order(treatment, left, workers), strict=True):
        unfinished.add(recording, outcome)
        if outcome.killed:
            killed.append(_name(recording, source))
        if progress is not None:
            progress(len(unfinished.done), total)
    return killed


def _name(recording: Recording, source: Path) -> str:
    return recording.path.relative_to(source).as_posix()


def _plan_splits(
    used: list[Recording],
    prompts: list[str],
    valid_fraction: float,
    test_fraction: float,
    seed: int,
) -> SplitPlan:
    given = [canonical_split(recording.split) for recording in used if recording.split is not None]
    known = [split for split in given if split is not None]
    if len(known) == len(used):
        return keep_splits(prompts, known)
    return make_splits(
        prompts, valid_fraction=valid_fraction, test_fraction=test_fraction, seed=seed
    )

"""`wavestill synth`."""

import dataclasses
import os
from pathlib import Path

from wavestill import synthesis
from wavestill.commands.terminal import Outcome, complain, say, waiting
from wavestill.drawing import Sampler


def synth(
    model: Path,
    inputs: list[Path],
    out: Path,
    *,
    sampler: Sampler = "student",
    seed: int = 0,
    temperature: float = 1.0,
    speaker: str | None = None,
    overwrite: bool = False,
    max_batch_samples: int = synthesis.MAX_BATCH_SAMPLES,
) -> Outcome:
    """Write the sound of recordings (copy-synthesis), of saved frames or of labels.

    A recording is resampled to the voice's rate and brought to the level the voice was trained at;
    the copy gets the recording's own level back, and the voice's rate. Frames and labels sound as
    loud as the voice's training recordings. Inputs of similar length are drawn together; one that
    cannot be used is named and skipped, and the others are still made. Of several processes
    (torchrun, srun) each takes its share of the inputs; --json tells of its own share.

    Arguments:
        model: Folder of a voice (voice/ in the folder of a run).
        inputs: Recordings (.wav, .flac, .ogg, .mp3), frames (.npz with their spec, .npy bare; F0
            is estimated where mels alone are given), or labels (.lab, .TextGrid).
        out: A .wav or .flac file for one input; else a folder, where each input becomes a .wav of
            its name.
        sampler: student: one parallel pass. The teacher, exactly: native, cached: step by step, in
            C++ and in PyTorch; speculative: drafted by the student and verified; jacobi: all steps
            at once, iterated; naive: the textbook way.
        seed: Seed of the noise; the same seed gives the same sound.
        temperature: Factor on the noise; below 1 there is less hiss and less life.
        speaker: Name or number (from 0) of the speaker, for voices of several.
        overwrite: Replace outputs that exist; otherwise they are left and their inputs skipped.
        max_batch_samples: Samples drawn together at most; memory grows with them.
    """
    with waiting("drawing") as show:
        report = synthesis.synth(
            model,
            inputs,
            out,
            sampler=sampler,
            seed=seed,
            temperature=temperature,
            speaker=speaker,
            overwrite=overwrite,
            max_batch_samples=max_batch_samples,
            share=_share(),
            progress=lambda name, done, total: show(name, done / total),
        )
    for source, target in report.written.items():
        notes = "; ".join(report.notes.get(source, []))
        say(f"{source} -> {target}" + (f" ({notes})" if notes else ""))
    for source, reason in report.failed.items():
        complain(f"wavestill: skipped {source}: {reason}")
    return Outcome(dataclasses.asdict(report), failed=bool(report.failed))


def _share() -> tuple[int, int]:
    """Number of this process, and of all that were launched."""
    if not {"RANK", "SLURM_PROCID"} & os.environ.keys():
        return 0, 1
    from wavestill.training.hardware import launched  # slow to import, and seldom needed

    return launched()

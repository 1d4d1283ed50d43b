"""`wavestill synth`."""

import dataclasses
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
) -> Outcome:
    """Write the sound of recordings (copy-synthesis) or of saved mel frames.

    A recording is resampled to the voice's rate and brought to the level the voice was trained at;
    the copy gets the recording's own level back, and the voice's rate. Frames sound as loud as the
    voice's training recordings.

    Arguments:
        model: Folder of a voice (voice/ in the folder of a run).
        inputs: Recordings (.wav, .flac, .ogg, .mp3) or frames (.npz with their spec, .npy bare).
        out: A .wav or .flac file for one input; else a folder, where each input becomes a .wav of
            its name.
        sampler: student: one parallel pass. The teacher, exactly: native, cached: step by step, in
            C++ and in PyTorch; speculative: drafted by the student and verified; jacobi: all steps
            at once, iterated; naive: the textbook way.
        seed: Seed of the noise; the same seed gives the same sound.
        temperature: Factor on the noise; below 1 there is less hiss and less life.
        speaker: Name of the speaker, for voices of several.
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
            progress=lambda name, done, total: show(name, done / total),
        )
    for source, target in report.written.items():
        notes = "; ".join(report.notes.get(source, []))
        say(f"{source} -> {target}" + (f" ({notes})" if notes else ""))
    for source, reason in report.failed.items():
        complain(f"wavestill: skipped {source}: {reason}")
    return Outcome(dataclasses.asdict(report), failed=bool(report.failed))

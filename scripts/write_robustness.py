"""Write docs/robustness.md and its picture: foreign recordings and over-smoothed mels.

python scripts/write_robustness.py VOICE CORPUS [--recordings NAME=FOLDER ...]

The corpus is the voice's own, prepared; its test split is what is changed. Real recordings of
others, if there are any, are given by --recordings.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from wavestill import cli, publish
from wavestill.audio import Corpus, write_sound
from wavestill.audio.corpus import Clip
from wavestill.audio.files import SOUND_SUFFIXES, read_sound
from wavestill.audio.mel import MEL_PRESETS, MelSpec
from wavestill.evaluation.robustness import Copies, blur_curve, generalisation
from wavestill.evaluation.stand_ins import Recording, stand_ins
from wavestill.machine import describe_machine, wavestill_commit
from wavestill.publish import Voice
from wavestill.sampling.native import is_available

WIDTHS = ((0, 0), (0.5, 0.5), (1, 1), (2, 2), (4, 4))
TEACHER_WIDTHS = ((0, 0), (1, 1), (4, 4))
COLUMNS = {
    "mcd_db": ("MCD, dB ↓", 2),
    "pesq": ("PESQ ↑", 2),
    "stoi": ("STOI ↑", 3),
    "f0_rmse_cents": ("F0 error, cents ↓", 0),
    "harmonicity": ("harmonicity", 2),
    "std_over_data": ("std / data", 2),
}
NAMES = {"student": "student", "native": "teacher", "griffin_lim": "Griffin–Lim"}


def main() -> None:
    """Measure, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voice", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--recordings", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--clips", type=int, default=2, help="clips of each condition")
    parser.add_argument("--seconds", type=float, default=2.5, help="of each clip at most")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="folder for the recordings and copies")
    options = parser.parse_args()
    voice, corpus = publish.load(options.voice), Corpus(options.corpus)
    if not isinstance(voice.spec, MelSpec):
        parser.error("the voice takes labels, not mels: there is nothing to blur")
    voice.spec.require_same(corpus.spec)
    clips = spread(corpus, 2 * options.clips, options.seconds)
    foreign = stand_ins({clip.id: clip.wave for clip in clips[::2]}, voice.spec.sample_rate)
    for name, folder in (pair.split("=", 1) for pair in options.recordings):
        foreign[name] = real(Path(folder), options.clips, options.seconds)
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) if options.keep is None else options.keep
        conditions = through_the_commands(options.voice, voice, foreign, kept)
    rows = generalisation(voice, conditions, voice.spec)
    curve = blur_curve(voice, clips, WIDTHS, voice.spec)
    curve += blur_curve(voice, clips, TEACHER_WIDTHS, voice.spec, sampler=None)
    if voice.teacher is not None and is_available():
        few = clips[: options.clips]
        curve += blur_curve(voice, few, TEACHER_WIDTHS, voice.spec, sampler="native")
    figures = {
        "command": " ".join(["python", *sys.argv]),
        "machine": describe_machine(),
        "commit": wavestill_commit(),
        "seconds": time.process_time(),
        "hop_s": voice.spec.hop_samples / voice.spec.sample_rate,
        "conditions": [asdict(row) for row in rows],
        "blur": [asdict(row) for row in curve],
    }
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (options.docs / "images").mkdir(parents=True, exist_ok=True)
    draw(curve, options.docs / "images" / "blur.png")
    page = write_page(figures, rows, curve, options, clips)
    (options.docs / "robustness.md").write_text(page, encoding="utf-8")
    print(f"wrote {options.docs / 'robustness.md'} in {figures['seconds']:.0f} s")


def spread(corpus: Corpus, num: int, seconds: float) -> list[Clip]:
    """Clips from all over the test split, their first seconds."""
    split = corpus.split("test")
    hop = corpus.spec.hop_samples
    frames = int(seconds * corpus.spec.sample_rate / hop)
    places = np.unique(np.linspace(0, len(split) - 1, min(num, len(split))).round().astype(int))
    return [
        clip._replace(wave=clip.wave[: frames * hop], frames=clip.frames[:frames])
        for clip in (split[i] for i in places.tolist())
    ]


def real(folder: Path, num: int, seconds: float) -> dict[str, Recording]:
    """The first seconds of some recordings of a folder."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SOUND_SUFFIXES)
    if not paths:
        sys.exit(f"there are no recordings in '{folder}'")
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(num, len(paths))).astype(int)]
    sounds = {path.stem: read_sound(path)[:2] for path in chosen}
    return {name: (wave[: int(seconds * rate)], rate) for name, (wave, rate) in sounds.items()}


def through_the_commands(
    model: Path, voice: Voice, foreign: dict[str, dict[str, Recording]], folder: Path
) -> dict[str, list[tuple[Clip, np.ndarray]]]:
    """Every recording through `wavestill prepare` and `wavestill synth`, which must do them all.

    Returns:
        By condition: prepared clips, and their copies at the clips' level.
    """
    spec = voice.spec
    assert isinstance(spec, MelSpec)
    source, prepared, copies = (folder / name for name in ("recordings", "corpus", "copies"))
    source.mkdir(parents=True)
    conditions, paths = {}, []
    for number, (condition, recordings) in enumerate(foreign.items()):
        for clip, (wave, rate) in recordings.items():
            path = source / f"{number:02d}_{clip}.wav"
            write_sound(path, np.asarray(wave, np.float32), rate)
            conditions[path.stem] = condition
            paths.append(path)
    presets = {name: replace(known, pitch=spec.pitch) for name, known in MEL_PRESETS.items()}
    preset = next((name for name, known in presets.items() if known == spec), None)
    if preset is None:
        sys.exit("the voice's mel spec is none of the presets; prepare cannot make its frames")
    pitch = ["--pitch"] if spec.pitch else []
    run(["prepare", str(source), str(prepared), "--preset", preset, *pitch])
    # A voice of several lends its first: whoever speaks in the recordings, it knows none of them.
    speaker = ["--speaker", voice.speakers[0]] if voice.speakers else []
    run(["synth", str(model), *map(str, paths), "--out", str(copies), *speaker])
    corpus = Corpus(prepared)
    found: dict[str, list[tuple[Clip, np.ndarray]]] = {name: [] for name in foreign}
    for split in ("train", "valid", "test"):
        for clip in corpus.split(split):
            copy, rate, _ = read_sound(copies / f"{clip.id}.wav")
            assert rate == spec.sample_rate
            original, _, _ = read_sound(source / f"{clip.id}.wav")
            # synth gives back the recording's own level; metrics compare at the corpus's.
            level = float(np.std(clip.wave) / np.std(original))
            named = clip._replace(speaker=0) if voice.speakers else clip
            found[conditions[clip.id]].append((named, copy[: len(clip.wave)] * level))
    missing = len(conditions) - sum(map(len, found.values()))
    if missing:
        sys.exit(f"{missing} of {len(conditions)} recordings did not go through 'prepare'")
    return {name: pairs for name, pairs in found.items() if pairs}


def run(arguments: Sequence[str]) -> None:
    """A wavestill command that must succeed."""
    status = cli.run(arguments)
    if status:
        sys.exit(f"'wavestill {arguments[0]}' ended with {status}")


def table(rows: Sequence[Copies], *, with_nats: bool) -> list[str]:
    """Conditions below each other, systems side by side only where both were measured."""
    heads = [head for head, _ in COLUMNS.values()]
    first = ["recording", "by", *(["teacher's nats"] if with_nats else [])]
    lines = ["| " + " | ".join([*first, *heads]) + " |", "|---" * (len(first) + len(heads)) + "|"]
    last = ""
    for row in rows:
        cells = ["" if row.condition == last else row.condition, NAMES[row.system]]
        last = row.condition
        if with_nats:
            cells.append("" if row.nats is None else f"{row.nats:.2f}")
        for key, (_, digits) in COLUMNS.items():
            cells.append(f"{row.metrics[key]:.{digits}f}" if key in row.metrics else "–")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def count(num: int) -> str:
    """So many held-out clips."""
    return f"{num} held-out clip" + ("" if num == 1 else "s")


def draw(curve: Sequence[Copies], out: Path) -> None:
    """Each metric against the width of the blur."""
    panels = {
        "mcd_db": "MCD, dB (less is better)",
        "pesq": "PESQ",
        "stoi": "STOI",
        "harmonicity": "harmonicity",
    }
    colours = {"student": "#c2410c", "native": "#1d4ed8", "griffin_lim": "#6b7280"}
    figure, axes = plt.subplots(1, len(panels), figsize=(12, 3.2), layout="constrained")
    for axis, (key, title) in zip(axes, panels.items(), strict=True):
        for system, colour in colours.items():
            points = [row for row in curve if row.system == system and key in row.metrics]
            widths = [float(row.condition.split(" ")[0]) for row in points]
            values = [row.metrics[key] for row in points]
            axis.plot(widths, values, "o-", color=colour, label=NAMES[system], markersize=4)
        axis.set(title=title, xlabel="blur: σ, frames and bands")
        axis.grid(visible=True, alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    figure.savefig(out, dpi=110)


def write_page(
    figures: dict,
    rows: Sequence[Copies],
    curve: Sequence[Copies],
    options: argparse.Namespace,
    clips: Sequence[Clip],
) -> str:
    """The page as Markdown."""
    machine = figures["machine"]
    given = [pair.split("=", 1)[0] for pair in options.recordings]
    real_speech = (
        f"Real recordings of others: {', '.join(given)}. The rest are stand-ins"
        if given
        else "**No real recording of another speaker was at hand: all of these are stand-ins**"
    )
    total = sum(row.num_clips for row in rows if row.system == "student")
    return f"""# Robustness

<!-- written by scripts/write_robustness.py; do not edit -->

`{figures["command"]}`: {machine["processor"]}, {machine["torch_threads"]} thread,
{figures["seconds"]:.0f} s of its time, commit {figures["commit"]}.

## Recordings unlike those the voice learned from

{real_speech}, made by one change to
held-out recordings of the voice's own corpus, or by the synthetic voices of flite
(`wavestill/evaluation/stand_ins.py`): another level, rate or room; the same words through WORLD by
a longer throat and a lower pitch, or a shorter and a higher; the recording backwards, whose sounds
follow each other as in no language; Japanese, German and Spanish words in English phones.
All {total} went through `wavestill prepare` and `wavestill synth` with exit status 0. A copy is
compared with the recording as `prepare` left it, at the voice's rate and level; means over
{count(options.clips)} of at most {options.seconds:g} s (one of each flite voice). The teacher's
nats are per sample of the recording itself; quiet or dull sounds cost few of them wherever they
come from, so they compare a change with `as recorded`, not one speaker with another.

{chr(10).join(table(rows, with_nats=True))}

## Over-smoothed mels

What an acoustic model predicts is smoother than what a recording has. Here the mels of
{count(len(clips))} ({count(options.clips)} for the teacher) are blurred on purpose, along
time and frequency alike, by a Gaussian of growing width (a frame is
{1e3 * figures["hop_s"]:.1f} ms); log F0 and voicing stay as they are. Copies are compared with
the recordings.

![Metrics against the width of the blur](images/blur.png)

{chr(10).join(table(curve, with_nats=False))}
"""


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

"""Write docs/ablation.md: what each term of the objective does, in equal processor time.

python scripts/write_ablation.py VOICE CORPUS [--minutes 4] [--seeds 3] [--jobs 2]

VOICE is a folder whose teacher is distilled anew for every row, CORPUS the prepared corpus it was
trained on. Every run leaves a JSON file in the cache folder: stopped, the same command goes on
where it was, and the page is written anew after every run from what is there. `--page_only` writes
it without running anything.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch
from ablation_runs import (
    ADVERSARIAL,
    CHANNELS,
    FLOWS,
    PSEUDO_PHONES,
    ROWS,
    SOUND,
    figures_of,
    make_classifier,
    make_gaussian_teacher,
    measure_references,
    run,
)

from wavestill.audio import Corpus
from wavestill.machine import describe_machine, wavestill_commit

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ablation.md"

COLUMNS = {
    "kl_nats": ("KL", 3),
    "tv": ("TV", 3),
    "std_over_data": ("std / data", 2),
    "harmonicity": ("harmonicity", 2),
    "mcd_db": ("MCD, dB", 2),
    "mel_distance_db": ("mel distance, dB", 2),
    "pesq": ("PESQ", 2),
    "stoi": ("STOI", 3),
    "f0_rmse_cents": ("F0, cents", 0),
    "steps": ("steps", 0),
}


def main() -> None:
    """Make what is missing, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voice", type=Path, metavar="VOICE")
    parser.add_argument("corpus", type=Path, metavar="CORPUS")
    parser.add_argument("--minutes", type=float, default=4.0, help="processor time of a student")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--cache", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--classifier_minutes", type=float, default=5.0, help="processor time")
    parser.add_argument(
        "--gaussian_minutes", type=float, default=12.0, help="processor time of that teacher"
    )
    parser.add_argument("--clips", type=int, default=8, help="held-out clips that are measured")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each clip, at most")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--page_only", action="store_true")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if not options.page_only:
        run_all(options)
    write_page(options)
    print(f"wrote {options.page}")


def run_all(options: argparse.Namespace) -> None:
    """Every run that has no figures yet, seed by seed, so that a table stopped early is level."""
    with ProcessPoolExecutor(
        options.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        helpers = []
        if any({"style", "perceptual"} & ROWS[name].weights.keys() for name in options.rows):
            helpers.append(pool.submit(make_classifier, options))
        if any(ROWS[name].gaussian for name in options.rows):
            helpers.append(pool.submit(make_gaussian_teacher, options))
        helpers.append(pool.submit(measure_references, options))
        for helper in helpers:
            print(helper.result(), flush=True)
        todo = [
            pool.submit(run, options, name, seed)
            for seed in range(options.seeds)
            for name in options.rows
            if figures_of(options, name, seed) is None
        ]
        for number, done in enumerate(as_completed(todo), 1):
            print(f"{number} of {len(todo)}: {done.result()}", flush=True)
            write_page(options)


def table(options: argparse.Namespace) -> Iterator[str]:
    """The lines of the table."""
    yield "| | " + " | ".join(head for head, _ in COLUMNS.values()) + " | seeds |"
    yield "|---|" + "---|" * (len(COLUMNS) + 1)
    references = options.cache / "references.json"
    if references.exists():
        for system, values in json.loads(references.read_text())["figures"].items():
            cells = [
                cell([values[key]] if key in values else [], digits)
                for key, (_, digits) in COLUMNS.items()
            ]
            yield f"| *{system}* | " + " | ".join(cells) + " | |"
    for name, row in ROWS.items():
        runs = [figures_of(options, name, seed) for seed in range(options.seeds)]
        known = [figures for figures in runs if figures is not None]
        if known:
            cells = [
                cell([figures[key] for figures in known if key in figures], digits)
                for key, (_, digits) in COLUMNS.items()
            ]
            yield f"| {row.title} | " + " | ".join(cells) + f" | {len(known)} |"


def cell(values: list[float], digits: int) -> str:
    """Mean and spread over seeds."""
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return ""
    mean = f"{statistics.mean(values):,.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):,.{digits}f}"


def write_page(options: argparse.Namespace) -> None:
    """The page from the figures that are there."""
    machine, corpus = describe_machine(), Corpus(options.corpus)
    weights = ", ".join(
        f"{name} {weight:g}" for name, weight in (SOUND | ROWS["whole"].weights).items()
    )
    notes = {
        "classifier": "The classifier: {n:,.0f} steps; it names {v:.0%} of the frames of held-out "
        f"speech right, of {PSEUDO_PHONES} pseudo-phones.",
        "gaussian": "The Gaussian teacher: {n:,.0f} steps, {v:.3f} nats per sample on held-out "
        "speech.",
    }
    lines = [
        "# Ablation",
        "",
        "Written by `scripts/write_ablation.py`; do not edit.",
        "",
        f"`python {' '.join(sys.argv)}`: {machine['processor']}, one thread a run, commit "
        f"{wavestill_commit()}.",
        "",
        "What each term of the objective does to a student of speech. Every student has the same",
        f"shape ({len(FLOWS)} flows of {', '.join(map(str, FLOWS))} layers, {CHANNELS} channels), "
        "the same teacher, the same",
        f"{options.minutes:g} minutes of processor time on one thread, and the same seeds: a term "
        "that costs time",
        "makes fewer steps. Figures are of the averaged weights, on held-out clips copied from",
        f"their own frames ({options.clips} clips of up to {options.seconds:g} s, "
        f"{corpus.spec.sample_rate:,} Hz): mean ± standard deviation over seeds.",
        "",
        f"Weights: {weights}, perceptual 0.3, features 1; KL has 1. `power` follows the student's",
        f"level; `adversarial` acts after {ADVERSARIAL.after_steps} steps. One choice of weights "
        "each, untuned:",
        "a row tells what a term does at that weight, not what it could do at its best.",
        "",
        *table(options),
        "",
        "- KL (nats per sample) and TV (per step): student against teacher, without floors.",
        "- std / data, harmonicity: the recordings' own are 1 and the first row's; a whisper has",
        "  next to no harmonicity.",
        "- MCD, mel distance, F0: lower is better; PESQ"
        f"{' (narrow-band)' if corpus.spec.sample_rate == 8000 else ''}, STOI: higher.",
        "- Rows of Gaussian laws have a teacher of their own: compare their KL with each other",
        "  only.",
        "",
    ]
    for name, text in notes.items():
        path = options.cache / name / "config.json"
        if path.exists():
            measured = json.loads(path.read_text())["measured"]
            measured = measured.get("teacher", measured)
            value = next(v for key, v in measured.items() if key != "steps")
            lines += [text.format(n=measured["steps"], v=value), ""]
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Write docs/benchmarks.md and its figure from `wavestill bench --json` and benchmarks/peers.py.

python scripts/write_benchmarks.py reference.json --voices voice.json --peers peers.json
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavestill.commands.bench import share
from wavestill.evaluation.bench.figure import draw_growth
from wavestill.evaluation.figures import figure

Figures = dict[str, Any]

EXTRA = {
    "samples_per_pass": "{} samples per pass",
    "samples_per_round": "{} samples per round",
    "samples_per_round_bound": "(at least {} by the bound)",
    "tv_per_step": "TV {} per step under the teacher's prefixes",
}


def main() -> None:
    """Read the figures, write the page."""
    parser = argparse.ArgumentParser(description="Write docs/benchmarks.md from measured figures.")
    parser.add_argument("reference", type=Path, help="bench --json without a voice")
    parser.add_argument(
        "--voices", type=Path, nargs="*", default=[], help="bench --json of voices"
    )
    parser.add_argument("--peers", type=Path, help="benchmarks/peers.py --json")
    parser.add_argument("--eager", type=Path, help="benchmarks/eager_loop.py --json")
    parser.add_argument("--drafting", type=Path, help="benchmarks/speculative_speed.py --json")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where to write")
    parser.add_argument("--note", default="", help="what else must be said")
    options = parser.parse_args()
    (options.docs / "images").mkdir(parents=True, exist_ok=True)
    reference, *voices = (read(path) for path in (options.reference, *options.voices))
    draw_growth(reference, options.docs / "images" / "growth.png")
    peers = None if options.peers is None else read(options.peers)
    more = [] if options.eager is None else eager_section(read(options.eager))
    more += [] if options.drafting is None else drafting_section(read(options.drafting))
    page = write_page(reference, voices, peers, options.note, more)
    (options.docs / "benchmarks.md").write_text(page, encoding="utf-8")


def read(path: Path) -> Figures:
    """The figures of one run."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_page(
    reference: Figures,
    voices: Sequence[Figures],
    peers: Figures | None,
    note: str,
    more: Sequence[str] = (),
) -> str:
    """The page as Markdown."""
    about = describe(reference["subject"])
    parts = [
        "# Benchmarks",
        "<!-- written by scripts/write_benchmarks.py from measured figures; do not edit -->",
        "One sequence is drawn at a time unless a line says otherwise. Speeds are medians of runs "
        "that took turns, with their extremes; × real time is seconds of sound per second. *First "
        "20 ms* is the time from the call, frames at hand, until that much sound can be played: "
        "step by step, or in one chunk of the student's stream. Operations count the networks' "
        "matrix products; their share is of a matrix product measured in the same rounds, in the "
        "same precision. Bytes are the weights that each step or pass reads; their share is of "
        "re-reading a buffer of that size.",
        f"## Networks of the papers' shapes, random weights\n\n{about}",
        sampler_table(reference),
        peaks(reference),
        "## Growth with length",
        "![Time of a draw against its length](images/growth.png)",
        "Naive sampling passes over all that came before, at most over a receptive field, for "
        "every sample: quadratic in the length, then linear with the receptive field as its "
        "factor (dashed: passes of these lengths were timed, and added up). A cached step costs "
        "the same wherever it stands. The student's one pass is cheap to lengthen until it fills "
        "the processor; from there on it is linear as well.",
    ]
    for voice in voices:
        parts += [
            f"## {voice['subject']['about'][:1].upper()}{voice['subject']['about'][1:]}",
            describe(voice["subject"]),
            sampler_table(voice),
            *learned(voice),
            peaks(voice),
        ]
    parts += more
    if peers is not None:
        parts += peer_section(peers)
    runs = [reference, *voices, *([] if peers is None else [peers])]
    parts += ["## How it was made", *(made(run) for run in runs)]
    return "\n\n".join([*parts, *([note] if note else [])]) + "\n"


def describe(subject: Figures) -> str:
    """What was measured, in one sentence."""
    networks = [
        f"{part} of {subject[part]['parameters']:,} parameters (receptive field "
        f"{subject[part]['receptive_field_samples']:,} samples)"
        for part in ("teacher", "student")
        if part in subject
    ]
    return f"{' and '.join(networks).capitalize()} at {subject['sample_rate_hz']:,} Hz."


def sampler_table(figures: Figures) -> str:
    """Every sampler's figures; speeds also as multiples of the cached loop's."""
    cached = figures["samplers"].get("cached")
    rows = [
        "| sampler | samples/s | × real time | against cached | first 20 ms | GFLOP/s | of peak "
        "| GB/s | of peak |",
        "|---" * 9 + "|",
    ]
    for own in figures["samplers"].values():
        rate = own["samples_per_second"]
        low, high = own["samples_per_second_min"], own["samples_per_second_max"]
        against = "–" if cached is None else figure(rate / cached["samples_per_second"]) + " ×"
        cells = [
            own["label"],
            f"{figure(rate)} ({figure(low)} – {figure(high)})",
            figure(own["times_real_time"]),
            against,
            f"{figure(own['first_sound_ms'])} ms",
            figure(own["gflops"]),
            share(own["share_of_matrix_product"]),
            figure(own["gbytes_per_second"]),
            share(own["share_of_streaming_read"]),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    left_out = [f"Left out: {name} ({why})." for name, why in figures["skipped"].items()]
    return "\n".join([*rows, *(["", *left_out] if left_out else [])])


def learned(figures: Figures) -> list[str]:
    """What only networks that have learned something can tell."""
    lines = []
    for own in figures["samplers"].values():
        told = [text.format(figure(own[key])) for key, text in EXTRA.items() if key in own]
        if told:
            lines.append(f"- {own['label']}: {', '.join(told)}".replace(", (", " ("))
    return ["\n".join(lines)] if lines else []


def peaks(figures: Figures) -> str:
    """The machine's own limits in the same rounds."""
    product = figures["peaks"]["matrix_product_gflops"]
    reads = ", ".join(
        f"{figure(rate)} GB/s for {int(size) / 1e6:.1f} MB"
        for size, rate in figures["peaks"]["streaming_read_gbytes_per_second"].items()
    )
    threads = figures["settings"]["threads"]
    return (
        f"Measured peaks on {threads} thread{'s' if threads > 1 else ''}: matrix product "
        f"{figure(product['float32'])} GFLOP/s in float32, {figure(product['bfloat16'])} in "
        f"bfloat16; streaming read {reads}."
    )


def eager_section(run: Figures) -> list[str]:
    """The native sampler beside a loop of PyTorch's operations."""
    rate = run["samples_per_second"]
    return [
        "## The native sampler against an eager loop",
        "The same network (30 layers, 64 channels, 256 skip, unconditional) by a loop of "
        f"PyTorch's own operations and by the kernel ({run['instruction_set']}), one thread, in "
        "turns.",
        f"- float32: {figure(rate['native'])} samples/s, "
        f"{figure(run['native_over_eager_loop'])} × the eager loop's {figure(rate['eager_loop'])} "
        f"and {figure(run['native_over_cached'])} × our own cached sampler's; "
        f"{share(run['native_share_of_read_bandwidth'])} of merely re-reading the weights' bytes\n"
        f"- bfloat16 weights: {figure(run['bfloat16_over_float32'])} × float32, "
        f"{figure(run['times_real_time_24k']['native_bfloat16'])} × real time at 24 kHz\n"
        f"- 8 streams together: {figure(run['8_streams_over_one'])} × one stream",
        f"    OMP_NUM_THREADS=1 python benchmarks/eager_loop.py\n\ncommit {run['commit']}",
    ]


def drafting_section(run: Figures) -> list[str]:
    """Draft-and-verify on speech."""
    drafting, wide = run["drafting"], run["wide"]
    return [
        "## Draft and verify on speech",
        f"`{run['voice']}`: {drafting['num_clips']} held-out clips of "
        f"{drafting['samples_per_clip']:,} samples, windows of {drafting['window']}. "
        f"{drafting['samples_per_round']:.2f} ± "
        f"{drafting['samples_per_round_standard_error']:.2f} samples per round (the bound "
        f"promises {drafting['samples_per_round_bound']:.2f}): drafts are moved by what the "
        "teacher said of them a round before (`sampling/refinement.py`). The student's own, "
        f"unmoved: {drafting['own_samples_per_round']:.2f} ± "
        f"{drafting['own_samples_per_round_standard_error']:.2f} samples per round, TV "
        f"{drafting['own_tv_per_step_under_teacher']:.3f} per step under the teacher's own "
        f"prefixes, against {drafting['tv_per_step_under_teacher']:.3f}. "
        "Distillation alone does not make a draft: this student was then trained on as "
        "`scripts/train_draft.py` does, which says why.",
        f"The same teacher widened to {wide['channels']} channels without changing its function "
        f"({wide['parameters']:,} parameters), {wide['threads']} thread(s), windows of "
        f"{wide['window']}, {wide['num_samples']} samples a run, medians in turns:",
        "| sampler | samples/s | speculative against it |\n|---|---|---|\n"
        + "\n".join(
            f"| {name.replace('_', ', ')} | {figure(wide[f'{name}_samples_per_second'])} | "
            + ("" if name == "speculative" else f"{figure(wide[f'speculative_over_{name}'])} ×")
            + " |"
            for name in ("cached", "native", "native_bfloat16", "speculative")
        ),
        f"    OMP_NUM_THREADS=1 python benchmarks/speculative_speed.py {run['voice']} "
        f"corpora/kathleen_16k\n\ncommit {run['commit']}",
    ]


def peer_section(peers: Figures) -> list[str]:
    """Other vocoders beside ours."""
    ours = list(peers["ratios"])
    rows = [
        "| | precision | parameters | × real time | "
        + " | ".join(f"{n} / it" for n in ours)
        + " |",
        "|---" * (4 + len(ours)) + "|",
    ]
    for name, own in peers["entrants"].items():
        rate = figure(own["times_real_time"])
        low, high = figure(own["times_real_time_min"]), figure(own["times_real_time_max"])
        cells = [
            own["title"],
            own["precision"],
            f"{own['parameters']:,}",
            f"{rate} ({low} – {high})",
            *("" if own["ours"] else figure(peers["ratios"][each][name]) for each in ours),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    settings = peers["settings"]
    versions: dict[str, str] = {}
    for own in peers["entrants"].values():
        versions |= own["versions"]
    left_out = [f"Left out: {name} ({reason})." for name, reason in peers["skipped"].items()]
    return [
        "## Other vocoders",
        f"{settings['seconds']:g} s of sound from each, {settings['threads']} "
        f"thread{'s' if settings['threads'] > 1 else ''}, median of {settings['rounds']} rounds "
        "in turns (extremes). All with random weights, one sequence, each in an environment of "
        "its own; bfloat16 is torch's autocast for the others. Speed is compared, not quality: "
        "ours comes with a likelihood, theirs with adversarial training. The last columns say how "
        "many times as fast ours is.",
        "\n".join(rows),
        *left_out,
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]


def made(run: Figures) -> str:
    """Command, machine, version and date of a run."""
    machine = ", ".join(
        f"{key.replace('_', ' ')} {value}" for key, value in run["machine"].items()
    )
    return (
        f"    {run['command']}\n\n{machine}; wavestill {run['version']}, commit {run['commit']}; "
        f"{run['date']}."
    )


if __name__ == "__main__":
    main()

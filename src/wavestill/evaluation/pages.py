"""What the report says: figures of `results.json` as sentences, tiles and tables."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wavestill.evaluation.pictures import Chart, Curve, line_chart

SYSTEM_NAMES = {
    "recording": "Recording",
    "teacher": "Teacher",
    "student": "Student",
    "griffin_lim": "Griffin–Lim",
}

Results = Mapping[str, Any]


class Column(NamedTuple):
    """A metric as a column: its sign says what is better, `aim` that 1 (or the recordings' value) is."""

    key: str
    name: str
    unit: str
    better: str
    help: str


COLUMNS = (
    Column(
        "mel_distance_db",
        "mel distance ↓",
        "dB",
        "less",
        "Log-spectral distance over mel bands, mean over frames. Griffin–Lim is made from these very bands and little "
        "else, so it does well here however it sounds.",
    ),
    Column(
        "mcd_db",
        "MCD ↓",
        "dB",
        "less",
        "Mel-cepstral distortion, 13 coefficients without the level, no alignment.",
    ),
    Column(
        "pesq",
        "PESQ ↑",
        "MOS",
        "more",
        "Perceptual evaluation of speech quality, ITU-T P.862 (narrow-band at 8 kHz, else wide-band at 16 kHz), 1 to 4.6. "
        "Made for telephone lines; it punishes phases that no ear minds.",
    ),
    Column("stoi", "STOI ↑", "0–1", "more", "Short-time objective intelligibility."),
    Column(
        "f0_rmse_cents", "F0 error ↓", "cents", "less", "Root mean square error of F0 over frames voiced in both sounds."
    ),
    Column(
        "voicing_error",
        "voicing error ↓",
        "share",
        "less",
        "Frames that are voiced in one of the sounds and not in the other.",
    ),
    Column(
        "harmonicity",
        "harmonicity →",
        "0–1",
        "aim",
        "Autocorrelation at the recording’s pitch lag over its voiced frames: low for a whisper. The recordings’ own value "
        "is the aim.",
    ),
    Column(
        "std_over_data",
        "loudness →",
        "std / std",
        "aim",
        "Standard deviation over the recording’s. Reverse KL alone prefers a whisper; 1 is the aim.",
    ),
)

_SAMPLERS = {
    "naive": ("Teacher, naive", "the receptive field anew for every sample", "teacher"),
    "cached": ("Teacher, cached", "the state carried along", "teacher"),
    "native": ("Teacher, native", "the same loop in C++", "teacher"),
    "jacobi": ("Teacher, Jacobi", "all steps at once, to their fixed point", "teacher"),
    "speculative": ("Teacher, speculative", "drafted by the student, exact", "teacher"),
    "student": ("Student", "one parallel pass", "student"),
}

_MACHINE_NAMES = {
    "processor": "Processor",
    "cores": "Cores",
    "torch_threads": "Threads of torch",
    "memory_gib": "Memory, GiB",
    "accelerator": "Accelerator",
    "system": "System",
    "python": "Python",
    "torch": "PyTorch",
}


def figure(value: float, standard_error: float | None = None, *, digits: int = 3) -> str:
    """A number as it is printed: as far as its standard error bears, else to three significant digits.

    The error has one digit, or two where the first is a 1.

    Example:
        >>> figure(6.4921, 0.0312), figure(0.11834, 0.00122), figure(17400.2), figure(1.0)
        ('6.49 ± 0.03', '0.1183 ± 0.0012', '17,400', '1')
    """
    if standard_error:
        exponent = math.floor(math.log10(standard_error))
        one_more = standard_error < 1.95 * 10.0**exponent
        decimals = min(4, max(0, one_more - exponent))
        return f"{value:,.{decimals}f} ± {standard_error:.{decimals}f}"
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    if decimals <= 0:
        return f"{round(value, decimals):,.0f}"
    return f"{value:,.{min(decimals, 5)}f}".rstrip("0").rstrip(".")


def front(results: Results, title: str) -> dict[str, Any]:
    """Headline, lede, tiles, machine: what stands before and after the body."""
    machine = [
        (name, results["machine"][key]) for key, name in _MACHINE_NAMES.items() if key in results.get("machine", {})
    ]
    version, commit = results.get("version", "unknown"), results.get("commit", "unknown")
    return {
        "title": title,
        "version": version,
        "headline": _headline(results),
        "lede": _lede(results),
        "tiles": _tiles(results),
        "listening": _listening(results),
        "notes": results.get("notes", []),
        "machine": [*machine, ("wavestill", version), ("Commit", commit)],
    }


def _headline(results: Results) -> Any:  # noqa: ANN401 - Markup: jinja2 is imported late
    from markupsafe import Markup

    speed, student, teacher = (results.get(part, {}) for part in ("speed", "student", "teacher"))
    nats = _with_error(student, "kl_nats_per_sample")
    if nats and "student" in speed and "cached" in speed:
        ratio = speed["student"]["samples_per_second"] / speed["cached"]["samples_per_second"]
        return Markup("One parallel pass speaks <b>{} times</b> faster than the teacher step by step, and costs "
                      "<b>{}</b> nats per sample.").format(figure(ratio, digits=2), nats)  # fmt: skip
    if nats:
        return Markup("The student is <b>{}</b> nats per sample away from its teacher.").format(nats)
    if nll := _with_error(teacher, "nll_nats_per_sample"):
        return Markup("A teacher that predicts held-out speech at <b>{}</b> nats per sample.").format(nll)
    return Markup("What was measured.")


def _lede(results: Results) -> str:
    parts = []
    data, machine = results.get("data", {}), results.get("machine", {})
    if data:
        rate, seconds = data["sample_rate_hz"] / 1000, data["seconds"]
        clips = "one clip" if data["num_clips"] == 1 else f"{data['num_clips']} clips"
        parts.append(f"Measured on {clips} of the {data['split']} split, {seconds:.0f} s at {rate:g} kHz")
    if "torch_threads" in machine:
        threads = "one thread" if machine["torch_threads"] == 1 else f"{machine['torch_threads']} threads"
        where = machine.get("accelerator") or f"{threads} of {machine['processor']}"
        parts.append(f"on {where}" if parts else f"Measured on {where}")
    sentence = ", ".join(parts) + "." if parts else ""
    return f"{sentence} A figure after ± is the standard error over clips." if data.get("num_clips", 0) > 1 else sentence


def _tiles(results: Results) -> list[dict[str, str]]:
    teacher, student, speed = (results.get(part, {}) for part in ("teacher", "student", "speed"))
    tiles = []

    def tile(name: str, value: str, unit: str, aside: str) -> None:
        tiles.append({"name": name, "value": value, "unit": unit, "aside": aside})

    if "nll_nats_per_sample" in teacher:
        bits = figure(teacher["nll_nats_per_sample"] / math.log(2))
        tile("Teacher’s NLL", _with_error(teacher, "nll_nats_per_sample"), "nats / sample",
             f"{bits} bits of 16, on held-out speech")  # fmt: skip
    if "kl_nats_per_sample" in student:
        floor = student.get("kl_floor_nats_per_sample")
        aside = f"no one-scale step gets under {figure(floor)}" if floor is not None else "KL, on its own samples"
        tile("Student’s KL to the teacher", _with_error(student, "kl_nats_per_sample"), "nats / sample", aside)
    if "tv_per_step" in student:
        tv = student["tv_per_step"]
        tile("Steps a verifier rejects", _with_error(student, "tv_per_step", 100), "%", f"total variation {figure(tv)}")
    if student.get("std_over_data", 0) > 0:
        decibels = 20 * math.log10(student["std_over_data"])
        against = "louder than" if decibels > 0 else "quieter than"
        tile("Student’s loudness", _with_error(student, "std_over_data"), "of the recordings’ std",
             f"{abs(decibels):.1f} dB {against} them")  # fmt: skip
    if "student" in speed:
        rate = figure(speed["student"]["samples_per_second"])
        tile("Student’s speed", figure(speed["student"]["times_real_time"]), "× real time", f"{rate} samples / s")
    return tiles


def tables(results: Results) -> dict[str, Any]:
    """The tables of metrics and of speed."""
    return {"quality": _quality(results), **_speed(results.get("speed", {}))}


def _quality(results: Results) -> dict[str, Any]:
    quality, data = results.get("quality", {}), results.get("data", {})
    columns = [column for column in COLUMNS if any(column.key in row for row in quality.values())]
    aims = {"harmonicity": data.get("harmonicity"), "std_over_data": 1.0}
    best = {}
    for column in columns:
        means = {system: row[column.key] for system, row in quality.items() if column.key in row}
        distance = {
            "less": lambda value: value,
            "more": lambda value: -value,
            "aim": lambda value, aim=aims.get(column.key): abs(value - aim) if aim is not None else 0.0,
        }[column.better]
        best[column.key] = min(means, key=lambda system: distance(means[system]))
    rows = [
        {
            "system": system,
            "name": name,
            "cells": [
                _cell(quality[system], column.key, best=len(quality) > 1 and best[column.key] == system)
                for column in columns
            ],
        }
        for system, name in SYSTEM_NAMES.items()
        if system in quality
    ]
    if rows and data.get("harmonicity") is not None:
        own = {**data, "std_over_data": 1.0}
        cells = [_cell(own, column.key, best=False, absent="") for column in columns]
        rows.insert(0, {"system": "recording", "name": "Recording", "cells": cells})
    return {"columns": columns, "rows": rows}


def _cell(figures: Mapping[str, float], key: str, *, best: bool, absent: str = "–") -> dict[str, Any]:
    mean, _, error = _with_error(figures, key).partition(" ± ")
    return {"mean": mean or absent, "error": error, "best": best}


def _speed(speed: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Rows with bars on a logarithmic axis from the slowest sampler's power of ten to the fastest's."""
    known = [(key, *_SAMPLERS[key]) for key in _SAMPLERS if key in speed]
    if not known:
        return {"speed": [], "speed_lines": [], "speed_baseline": ""}
    baseline = known[0][0]
    rates = {key: speed[key]["samples_per_second"] for key, *_ in known}
    real_time = np.median([rates[key] / speed[key]["times_real_time"] for key, *_ in known])
    low = math.floor(math.log10(min(rates.values())) - 0.3)
    high = math.log10(max(*rates.values(), real_time)) + 0.3

    def place(rate: float) -> float:
        return round(100 * (math.log10(rate) - low) / (high - low), 2)

    lines = [{"place": place(10.0**k), "real_time": False} for k in range(low, math.floor(high) + 1)]
    rows = [
        {
            "name": name,
            "help": help_text,
            "role": role,
            "rate": figure(rates[key]),
            "real_time": figure(speed[key]["times_real_time"]),
            "ratio": figure(rates[key] / rates[baseline]),
            "width": place(rates[key]),
        }
        for key, name, help_text, role in known
    ]
    return {
        "speed": rows,
        "speed_lines": [*lines, {"place": place(float(real_time)), "real_time": True}],
        "speed_baseline": f"× {baseline}",
    }


def known_truth(truth: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Exact figures beside measured ones."""
    if not truth:
        return None
    rows = []

    def row(name: str, exact: float | None, measured: float | None, tolerance: float | None) -> None:
        if measured is None:
            return
        difference = None if exact is None else measured - exact
        within = difference is not None and tolerance is not None and abs(difference) <= tolerance
        rows.append({
            "name": name,
            "exact": "" if exact is None else f"{exact:.5f}".replace("-", "−"),
            "measured": f"{measured:.5f}".replace("-", "−"),
            "difference": "" if difference is None else f"{difference:+.5f}".replace("-", "−"),
            "tolerance": "" if tolerance is None else f"± {tolerance:g}",
            "verdict": "" if tolerance is None or difference is None else ("✓ within" if within else "✗ beyond"),
            "within": within,
        })  # fmt: skip

    true_nll = truth.get("true_nll_nats_per_sample")
    row("Entropy rate; the true process’s NLL on a finite sample",
        truth.get("entropy_rate_nats"), true_nll, None)  # fmt: skip
    row("The true process’s NLL; the teacher’s on the same sample",
        true_nll, truth.get("teacher_nll_nats_per_sample"), truth.get("teacher_tolerance_nats"))  # fmt: skip
    row("KL of a perfect student; the student’s to its teacher",
        0.0, truth.get("student_kl_nats_per_sample"), truth.get("student_tolerance_nats"))  # fmt: skip
    text = truth.get("description") or (
        "The same code first learns a process whose every figure is known exactly, a Gaussian one with two poles: "
        "what it measures must be what is true."
    )
    return {"text": text, "rows": rows}


def charts(metrics: Mapping[str, Path], results: Results) -> list[Chart]:
    """Training curves from the runs' metrics.csv; files or columns that are not there are left out."""
    del results
    wanted = (
        ("teacher", "nats", "Teacher: NLL", "nats / sample", None),
        ("student", "kl_nats", "Student: KL to the teacher", "nats / sample", None),
        ("student", "tv", "Student: total variation", "per step", None),
        ("student", "std_over_data", "Student: loudness", "std / std of the data", 1.0),
    )
    found = {run: read_curves(path) for run, path in metrics.items() if path.is_file()}
    drawn = []
    for run, column, title, unit, target in wanted:
        curves = found.get(run, {})
        lines = {
            (name, role): curves[key]
            for name, role, key in (
                ("training", "train", column),
                ("held out", "valid" if run == "teacher" else "valid_student", f"valid_{column}"),
            )
            if key in curves and len(curves[key][0]) > 1
        }
        if lines:
            drawn.append(line_chart(title, unit, lines, target=target))
    return drawn


def read_curves(path: Path) -> dict[str, Curve]:
    """Columns of a metrics.csv as (steps, values); empty cells and values that are not finite are left out."""
    points: dict[str, list[tuple[float, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            step = _number(line.get("step"))
            for name, cell in line.items():
                value = _number(cell)
                if step is not None and value is not None and name != "step":
                    points.setdefault(name, []).append((step, value))
    columns = {name: np.array(pairs).T for name, pairs in points.items()}
    return {name: (pairs[0], pairs[1]) for name, pairs in columns.items()}


def about(results: Results) -> list[str]:
    """An honest note on how to read the page."""
    note = [
        "Every copy was made from the mel frames of the very recording it stands beside (copy-synthesis), which no "
        "model saw in training. It shows what a vocoder does with perfect frames; it is no text-to-speech.",
        "The teacher is sampled exactly as trained, one sample after another. The student draws the whole clip at once "
        "from noise of its own: its copies differ from the teacher’s by chance as well as by what distillation lost. KL "
        "and total variation are integrals over the two known laws of each step, not listening tests; PESQ, STOI and "
        "the rest are algorithms’ opinions of a few clips. Trust your ears first.",
    ]
    loudness = results.get("student", {}).get("std_over_data", 1.0)
    if not 0.7 <= loudness <= 1.4:
        word = "quieter" if loudness < 1 else "louder"
        note.append(
            f"This student is clearly {word} than the recordings ({figure(loudness)} of their standard deviation): "
            "read its KL together with that."
        )
    return note


def _listening(results: Results) -> str:
    systems = [name for key, name in SYSTEM_NAMES.items() if key in results.get("quality", {})]
    copies = ", ".join(systems[:-1]) + f" and {systems[-1]}" if len(systems) > 1 else "".join(systems)
    return f"Held-out recordings, and copies by {copies.replace('Teacher', 'teacher').replace('Student', 'student')}."


def _with_error(figures: Mapping[str, float], key: str, scale: float = 1.0) -> str:
    if key not in figures:
        return ""
    error = figures.get(f"{key}_standard_error")
    return figure(scale * figures[key], None if error is None else scale * error)


def _number(cell: str | Sequence[str] | None) -> float | None:
    try:
        value = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None

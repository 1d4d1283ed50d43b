"""The report's tables: quality, speed, and the figures whose truth is known."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from wavestill.evaluation.figures import SYSTEM_NAMES, figure, figure_of


class Column(NamedTuple):
    """A metric as a column; `best` says which value is: the least, the most, the recordings'."""

    key: str
    name: str
    unit: str
    best: Literal["least", "most", "recordings"]
    help: str


COLUMNS = (
    Column(
        *("mel_distance_db", "mel distance ↓", "dB", "least"),
        "Log-spectral distance over mel bands, mean over frames. Griffin–Lim is made from these "
        "very bands and little else, so it does well here however it sounds.",
    ),
    Column(
        *("mcd_db", "MCD ↓", "dB", "least"),
        "Mel-cepstral distortion, 13 coefficients without the level, no alignment.",
    ),
    Column(
        *("pesq", "PESQ ↑", "MOS", "most"),
        "Perceptual evaluation of speech quality, ITU-T P.862, 1 to 4.6: narrow-band at 8 kHz, "
        "else wide-band at 16 kHz. Made for telephone lines; it minds phases that no ear minds.",
    ),
    Column(
        *("stoi", "STOI ↑", "0–1", "most"),
        "Short-time objective intelligibility.",
    ),
    Column(
        *("f0_rmse_cents", "F0 error ↓", "cents", "least"),
        "Root mean square error of F0 over frames voiced in both sounds.",
    ),
    Column(
        *("voicing_error", "voicing error ↓", "share", "least"),
        "Frames that are voiced in one of the sounds and not in the other.",
    ),
    Column(
        *("harmonicity", "harmonicity →", "0–1", "recordings"),
        "Autocorrelation at the recording’s pitch lag over its voiced frames: low for a whisper. "
        "The recordings’ own value is the aim.",
    ),
    Column(
        *("std_over_data", "loudness →", "std / std", "recordings"),
        "Standard deviation over the recording’s. Reverse KL alone prefers a whisper.",
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


def quality_table(results: Mapping[str, Any]) -> dict[str, Any]:
    """Columns that any system has, and a row per system; the recordings' own come first."""
    quality, data = results.get("quality", {}), results.get("data", {})
    columns = [c for c in COLUMNS if any(c.key in row for row in quality.values())]
    own = {**data, "std_over_data": 1.0}
    best = {column: _best(column, quality, own) for column in columns}
    rows = []
    if quality and "harmonicity" in data:
        cells = [_cell(own, column.key) for column in columns]
        rows.append({"system": "recording", "name": SYSTEM_NAMES["recording"], "cells": cells})
    for system, name in SYSTEM_NAMES.items():
        if system in quality:
            cells = [
                _cell(quality[system], column.key, absent="–", best=best[column] == system)
                for column in columns
            ]
            rows.append({"system": system, "name": name, "cells": cells})
    return {"columns": columns, "rows": rows if columns else []}


def _best(
    column: Column, quality: Mapping[str, Mapping[str, Any]], own: Mapping[str, Any]
) -> str | None:
    """The system whose mean is best, where there is somebody to be better than."""
    means = {system: row[column.key] for system, row in quality.items() if column.key in row}
    if len(means) < 2 or (column.best == "recordings" and column.key not in own):
        return None
    if column.best == "least":
        return min(means, key=lambda system: means[system])
    if column.best == "most":
        return max(means, key=lambda system: means[system])
    return min(means, key=lambda system: abs(means[system] - own[column.key]))


def _cell(
    figures: Mapping[str, Any], key: str, *, absent: str = "", best: bool = False
) -> dict[str, Any]:
    mean, _, error = figure_of(figures, key).partition(" ± ")
    return {"mean": mean or absent, "error": error, "best": best}


def speed_table(speed: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A row per sampler, with bars on a logarithmic axis and ratios to the first."""
    rates = {key: speed[key]["samples_per_second"] for key in _SAMPLERS if key in speed}
    if not rates:
        return {"rows": [], "lines": [], "baseline": ""}
    baseline = next(iter(rates))
    real_time = float(
        np.median([rate / speed[key]["times_real_time"] for key, rate in rates.items()])
    )
    low = math.floor(math.log10(min(rates.values())) - 0.3)
    high = math.log10(max(*rates.values(), real_time)) + 0.3

    def place(rate: float) -> float:
        return round(100 * (math.log10(rate) - low) / (high - low), 2)

    lines = [{"place": place(10.0**k), "real_time": False} for k in range(low, math.ceil(high))]
    rows = []
    for key, rate in rates.items():
        name, explanation, role = _SAMPLERS[key]
        rows.append({
            "name": name,
            "help": explanation,
            "role": role,
            "rate": figure(rate),
            "real_time": figure(speed[key]["times_real_time"]),
            "ratio": figure(rate / rates[baseline]),
            "width": place(rate),
        })  # fmt: skip
    lines.append({"place": place(real_time), "real_time": True})
    return {"rows": rows, "lines": lines, "baseline": f"× {baseline}"}


def known_truth_table(truth: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Exact figures beside measured ones; None where there are none."""
    if not truth:
        return None
    true_nll = truth.get("true_nll_nats_per_sample")
    rows = [
        _truth_row(
            "Entropy rate; the true law’s NLL on held-out data",
            truth.get("entropy_rate_nats"),
            true_nll,
            None,
        ),
        _truth_row(
            "The true law’s NLL; the teacher’s on the same data",
            true_nll,
            truth.get("teacher_nll_nats_per_sample"),
            truth.get("teacher_tolerance_nats"),
        ),
        _truth_row(
            "KL of a perfect student; the student’s to its teacher",
            0.0,
            truth.get("student_kl_nats_per_sample"),
            truth.get("student_tolerance_nats"),
        ),
    ]
    text = (
        "The same code first learns a process of which everything is known. What it measures "
        "there must be what is true."
    )
    return {
        "text": text,
        "process": truth.get("description", ""),
        "rows": [row for row in rows if row is not None],
    }


def _truth_row(
    name: str, exact: float | None, measured: float | None, tolerance: float | None
) -> dict[str, Any] | None:
    if exact is None or measured is None:
        return None
    difference = measured - exact
    within = tolerance is not None and abs(difference) <= tolerance
    return {
        "name": name,
        "exact": f"{exact:.5f}".replace("-", "−"),
        "measured": f"{measured:.5f}".replace("-", "−"),
        "difference": f"{difference:+.5f}".replace("-", "−"),
        "tolerance": "" if tolerance is None else f"± {tolerance:g}",
        "verdict": "" if tolerance is None else ("✓ within" if within else "✗ beyond"),
        "within": within,
    }

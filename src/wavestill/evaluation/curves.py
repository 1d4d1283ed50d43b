"""Training curves: from metrics.csv to line charts that the page draws in its own colours."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Steps and values, of one length."""

_CHARTS = (
    ("teacher", "nats", "Teacher: NLL", "nats / sample", None),
    ("student", "kl_nats", "Student: KL to the teacher", "nats / sample", None),
    ("student", "tv", "Student: total variation", "per step", None),
    ("student", "std_over_data", "Student: loudness", "std / std of the data", 1.0),
)


@dataclass(frozen=True)
class Line:
    """One curve of a chart: its name, its part (a CSS class), its path and its last value."""

    name: str
    role: str
    path: str
    last: float


@dataclass(frozen=True)
class Chart:
    """A line chart in a box of 1000 x 1000; ticks are (per cent of the axis, label)."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    target: float | None = None
    summary: str = ""


def line_chart(
    title: str, unit: str, curves: Mapping[tuple[str, str], Curve], *, target: float | None = None
) -> Chart:
    """Lay out curves of a value over training steps.

    The vertical range leaves out the first tenth of the steps where they would flatten the rest:
    what they leave is cut at the upper edge.

    Arguments:
        title: What is drawn.
        unit: Its unit, for the axis.
        curves: `(name, role)` to `(steps, values)`.
        target: A value to mark by a line across the chart.
    """
    from matplotlib.ticker import MaxNLocator

    first = min(steps.min() for steps, _ in curves.values())
    last = max(steps.max() for steps, _ in curves.values())
    settled = np.concatenate(
        [values[steps >= first + 0.1 * (last - first)] for steps, values in curves.values()]
        + ([np.array([target])] if target is not None else [])
    )
    low, high = float(settled.min()), float(settled.max())
    margin = 0.08 * max(high - low, 1e-3)
    low, high = low - margin, high + margin

    def ticks(start: float, stop: float, count: int) -> tuple[tuple[float, str], ...]:
        places = [p for p in MaxNLocator(count).tick_values(start, stop) if start <= p <= stop]
        return tuple((100 * (p - start) / max(stop - start, 1e-9), f"{p:,.6g}") for p in places)

    lines = []
    for (name, role), (steps, values) in curves.items():
        x = 1000 * (steps - first) / max(last - first, 1e-9)
        y = 1000 * (1 - np.clip((values - low) / (high - low), 0, 1.2))
        path = "M" + " ".join(f"{a:.0f},{b:.0f}" for a, b in zip(x, y, strict=True))
        lines.append(Line(name, role, path, float(values[-1])))
    return Chart(
        title=title,
        unit=unit,
        lines=tuple(lines),
        x_ticks=ticks(float(first), float(last), 4),
        y_ticks=ticks(low, high, 4),
        target=None if target is None else 100 * (target - low) / (high - low),
        summary=f"{title} over {last:,.0f} steps; at the end "
        + ", ".join(f"{line.name} {line.last:.4g}" for line in lines)
        + f" {unit}",
    )


def charts(metrics: Mapping[str, Path]) -> list[Chart]:
    """Charts of the runs' metrics.csv by `teacher` and `student`; what is missing is left out."""
    found = {run: read_curves(path) for run, path in metrics.items() if path.is_file()}
    drawn = []
    for run, column, title, unit, target in _CHARTS:
        curves = found.get(run, {})
        lines = {
            (name, role): curves[key]
            for name, role, key in (
                ("training", "train", column),
                ("held out", run, f"valid_{column}"),
            )
            if key in curves and len(curves[key][0]) > 1
        }
        if lines:
            drawn.append(line_chart(title, unit, lines, target=target))
    return drawn


def read_curves(path: Path) -> dict[str, Curve]:
    """Columns of a metrics.csv; empty cells and values that are not finite are left out."""
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


def _number(cell: str | None) -> float | None:
    try:
        value = float(cell or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None

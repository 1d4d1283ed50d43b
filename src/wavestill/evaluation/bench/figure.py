"""The figure of growth: time of a draw against its length, both on logarithmic axes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which the colour-blind can tell apart; the same in every figure.
_COLOURS = {
    "naive": "#d55e00",
    "cached": "#0072b2",
    "native": "#009e73",
    "jacobi_with_student": "#cc79a7",
    "speculative": "#e69f00",
    "student": "#56b4e9",
}
_GUIDE: dict[str, Any] = {"color": "0.65", "lw": 1.0, "zorder": 0}
# Of the axes' width and height: what a letter takes, and what a line does.
_LETTER, _LINE = 0.012, 0.045


def draw_growth(figures: Mapping[str, Any], out: Path) -> None:
    """Draw the growth that `bench` measured.

    Draws that were timed as a whole are solid, with their points; sums of timed passes are dashed.
    Grey lines show slopes: real time, which is linear, and the square of the length.

    Arguments:
        figures: What `bench` returned.
        out: The PNG.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sample_rate = figures["subject"]["sample_rate_hz"]
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.set(xscale="log", yscale="log")
    ends: list[tuple[str, float, float, str]] = []
    for name, grown in figures["growth"].items():
        colour = _COLOURS.get(name, "black")
        style: dict[str, Any] = {"ls": "--"} if grown["summed"] else {"marker": "o", "ms": 4}
        axis.plot(grown["num_samples"], grown["seconds"], color=colour, lw=1.8, **style)
        label = figures["samplers"][name]["label"]
        ends.append((label, grown["num_samples"][-1], grown["seconds"][-1], colour))
    _draw_slopes(axis, figures["growth"], sample_rate)
    axis.set_xlim(right=3.5 * max(x for _, x, _, _ in ends))  # room for the labels
    axis.set(xlabel="length T of the sound, samples", ylabel="time of a draw, seconds")
    axis.grid(visible=True, which="major", color="0.92", lw=0.8)
    axis.spines[["right"]].set_visible(False)
    axis.secondary_xaxis(
        "top", functions=(lambda n: n / sample_rate, lambda s: s * sample_rate)
    ).set_xlabel("seconds of sound")
    _label(axis, ends)
    figure.savefig(out, dpi=120)


def _draw_slopes(axis: "Axes", grown: Mapping[str, Any], sample_rate: int) -> None:
    lengths = [length for own in grown.values() for length in own["num_samples"]]
    ends = np.array([min(lengths), max(lengths)], dtype=float)
    axis.plot(ends, ends / sample_rate, **_GUIDE)
    axis.annotate(
        "real time, ∝ T",
        (ends[0], ends[0] / sample_rate),
        xytext=(12, -10),
        textcoords="offset points",
        color="0.4",
    )
    axis.set_ylim(bottom=0.25 * axis.dataLim.y0)
    for own in grown.values():
        length, seconds = np.array(own["num_samples"], dtype=float), np.array(own["seconds"])
        if not own["summed"] or len(length) < 2:
            continue
        # beside the naive curve, a little above where it is steepest
        steepest = int(np.argmax(np.diff(np.log(seconds)) / np.diff(np.log(length))))
        span = length[steepest : steepest + 2]
        square = 4 * seconds[steepest] * (span / span[0]) ** 2
        axis.plot(span, square, **_GUIDE)
        axis.annotate(
            "∝ T²",
            (span[-1], square[-1]),
            xytext=(-4, 4),
            textcoords="offset points",
            color="0.4",
            ha="right",
        )


def _label(axis: "Axes", ends: list[tuple[str, float, float, str]]) -> None:
    """Name the curves at their ends; a label too close above another is raised."""
    to_axes = axis.transScale + axis.transLimits
    placed: list[tuple[float, float, float]] = []  # left, right, height
    for label, x, y, colour in sorted(ends, key=lambda end: end[2]):
        across, up = to_axes.transform((x, y))
        right = across + _LETTER * (2 + len(label))
        for other_left, other_right, other_up in placed:
            if across < other_right and other_left < right:
                up = max(up, other_up + _LINE)
        placed.append((across, right, up))
        axis.annotate(
            label,
            (across, up),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            color=colour,
            va="center",
        )

"""`wavestill bench`."""

import importlib
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavestill import publish
from wavestill.commands.terminal import Outcome, say, waiting
from wavestill.evaluation.bench import bench as measure
from wavestill.evaluation.bench.figure import draw_growth
from wavestill.evaluation.bench.subject import reference_subject, voice_subject
from wavestill.evaluation.figures import figure

_HEADER = (
    "sampler",
    "samples/s",
    "(min – max)",
    "× real time",
    "first 20 ms",
    "GFLOP/s",
    "of peak",
    "GB/s",
    "of peak",
)


def bench(
    model: Path | None = None,
    *,
    samplers: str | None = None,
    threads: int | None = None,
    repeats: int = 5,
    seconds: float = 1.0,
    recording: Path | None = None,
    plot: Path | None = None,
) -> Outcome:
    """Measure how fast every sampler is, beside this machine's own limits.

    Prints samples per second (median of repeats in turns), times real time, milliseconds until the
    first 20 ms of sound are ready, and two shares: operations of the network against a matrix
    product, weights read against re-reading a buffer of their size.

    Arguments:
        model: Folder of a voice; without one, networks of the papers' shapes with random weights.
        samplers: Which, with commas between: naive, cached, native, jacobi, speculative, student;
            all that can be measured if it is not given.
        threads: Threads of every sampler and of the machine's limits; torch's own default (see
            OMP_NUM_THREADS) if it is not given.
        repeats: Measured runs of each sampler.
        seconds: About how long each run takes, in seconds; longer ones spread less.
        recording: Recording whose frames the voice copies; a sentence of the speech that comes
            with wavestill if it is not given.
        plot: PNG to draw, time against length of every sampler (needs matplotlib).
    """
    _check_plot(plot)
    if recording is not None and model is None:
        raise ValueError("'recording' gives frames to a voice; name one (wavestill bench MODEL)")
    if model is None:
        subject = reference_subject()
    else:
        voice = publish.load(model)
        subject = voice_subject(voice, model.resolve().parent.name, recording)
    with waiting("measuring") as show:
        figures = measure(
            subject,
            groups=None if samplers is None else _names(samplers),
            num_threads=threads,
            repeats=repeats,
            seconds=seconds,
            progress=show,
        )
    figures["command"] = shlex.join(["wavestill", *sys.argv[1:]])
    for line in table(figures):
        say(line)
    if plot is not None:
        draw_growth(figures, plot)
        say(f"growth with length: {plot}")
    return Outcome(figures)


def table(figures: Mapping[str, Any]) -> list[str]:
    """What was measured, as lines for people."""
    rows = [_HEADER]
    for own in figures["samplers"].values():
        extremes = (own["samples_per_second_min"], own["samples_per_second_max"])
        rows.append(
            (
                own["label"],
                figure(own["samples_per_second"]),
                "({} – {})".format(*(figure(value) for value in extremes)),
                figure(own["times_real_time"]),
                f"{figure(own['first_sound_ms'])} ms",
                figure(own["gflops"]),
                share(own["share_of_matrix_product"]),
                figure(own["gbytes_per_second"]),
                share(own["share_of_streaming_read"]),
            )
        )
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    product = figures["peaks"]["matrix_product_gflops"]
    reads = figures["peaks"]["streaming_read_gbytes_per_second"].values()
    settings, subject = figures["settings"], figures["subject"]
    threads = f"{settings['threads']} thread" + ("s" if settings["threads"] > 1 else "")
    return [
        f"{subject['about']}, {subject['sample_rate_hz']:,} Hz; {threads}, medians of "
        f"{settings['repeats']} runs in turns",
        *lines,
        f"peaks of this machine: matrix product {figure(product['float32'])} GFLOP/s in float32, "
        f"{figure(product['bfloat16'])} in bfloat16; re-reading the weights' bytes "
        f"{figure(min(reads))} – {figure(max(reads))} GB/s",
        *(f"left out: {name}: {reason}" for name, reason in figures["skipped"].items()),
    ]


def share(value: float) -> str:
    """A share in per cent.

    Example:
        >>> share(0.571), share(0.0003)
        ('57 %', '< 1 %')
    """
    return "< 1 %" if value < 0.01 else f"{100 * value:.0f} %"


def _names(samplers: str) -> list[str]:
    return [name.strip() for name in samplers.split(",") if name.strip()]


def _check_plot(plot: Path | None) -> None:
    """Complain of a picture that cannot be drawn before anything is measured.

    Raises:
        ValueError: If it is no PNG or its folder cannot hold it.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    if plot is None:
        return
    if plot.suffix.lower() != ".png":
        raise ValueError(f"'{plot}' is not a .png file; give --plot one")
    folder = plot.resolve().parent
    if not folder.is_dir() or not os.access(plot if plot.exists() else folder, os.W_OK):
        raise ValueError(f"'{plot}' cannot be written; give --plot another file")
    importlib.import_module("matplotlib")

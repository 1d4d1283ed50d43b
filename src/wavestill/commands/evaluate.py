"""`wavestill evaluate`."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from wavestill import evaluation, publish
from wavestill.audio import Corpus, write_sound
from wavestill.commands.terminal import Outcome, make_folder, say, waiting
from wavestill.evaluation import write_report
from wavestill.evaluation.report import Lead
from wavestill.publish import Voice


def evaluate(
    model: Path,
    corpus: Path,
    *,
    out: Path | None = None,
    split: str = "test",
    num_clips: int = 8,
    max_seconds: float = 4.0,
    speed: bool = True,
    seed: int = 0,
) -> Outcome:
    """Measure a voice on held-out recordings (nats, KL, metrics, speed) and write a report.

    Arguments:
        model: Folder of a voice; its card gets the figures.
        corpus: A corpus that 'wavestill prepare' made with the voice's mel spec.
        out: Folder for results.json, sounds/ and report.html; evaluation/ beside the voice if it
            is not given.
        split: Which clips: train, valid or test.
        num_clips: How many clips, spread evenly over the split.
        max_seconds: Seconds of each clip that are used; the teacher draws them step by step.
        speed: Measure samples per second, too.
        seed: Seed of all noise.
    """
    voice = publish.load(model)
    out = model.resolve().parent / "evaluation" if out is None else out
    command = " ".join(["wavestill", *sys.argv[1:]])
    results = measure_and_report(
        voice,
        Corpus(corpus),
        out,
        split=split,
        num_clips=num_clips,
        max_seconds=max_seconds,
        speed=speed,
        seed=seed,
        metrics={
            part: model.resolve().parent / part / "metrics.csv" for part in ("teacher", "student")
        },
        commands=[command],
        title=model.resolve().parent.name,
    )
    if os.access(model, os.W_OK):
        shown = ("teacher", "student", "speed", "quality")
        measured = {key: value for key, value in results.items() if key in shown}
        publish.save(dataclasses.replace(voice, measured=measured), model)
    return Outcome(results)


def measure_and_report(
    voice: Voice,
    corpus: Corpus,
    out: Path,
    *,
    split: str,
    num_clips: int,
    max_seconds: float,
    speed: bool,
    seed: int,
    metrics: dict[str, Path],
    commands: list[str],
    title: str,
    about: str | None = None,
    more: dict[str, Any] | None = None,
    lead: Lead | None = None,
) -> dict[str, Any]:
    """Measure a voice, write results.json, sounds/ and report.html, and say the headlines.

    Arguments:
        voice: The voice.
        corpus: The corpus it is measured on.
        out: Folder of the results.
        split: As for `evaluate`.
        num_clips: As for `evaluate`.
        max_seconds: As for `evaluate`.
        speed: As for `evaluate`.
        seed: As for `evaluate`.
        metrics: The metrics.csv of its runs, by `teacher` and `student`.
        commands: Shell commands that made the figures.
        title: Title of the report.
        about: What the report says first.
        more: Further results to add.
        lead: Another voice that the report opens with.
    """
    make_folder(out)
    with waiting("measuring") as show:
        measured = evaluation.evaluate(
            voice,
            corpus,
            split=split,
            num_clips=num_clips,
            max_seconds=max_seconds,
            with_speed=speed,
            seed=seed,
            progress=show,
        )
    results = {**measured.results, **(more or {})}
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    for clip in measured.clips:
        for system, sound in clip.sounds.items():
            folder = out / "sounds" / clip.id.replace("/", "-")
            folder.mkdir(parents=True, exist_ok=True)
            write_sound(folder / f"{system}.wav", sound, measured.sample_rate_hz)
    write_report(
        out / "report.html",
        results,
        measured.clips,
        measured.sample_rate_hz,
        metrics=metrics,
        commands=commands,
        title=title,
        about=about,
        lead=lead,
    )
    for line in headlines(results):
        say(line)
    say(f"report: {out / 'report.html'}")
    return results


def headlines(results: dict[str, Any]) -> list[str]:
    """The figures one wants to see first, with their standard errors over clips."""
    lines = []
    if "teacher" in results:
        lines.append(
            f"teacher: {_with_error(results['teacher'], 'nll_nats_per_sample')} nats per sample"
        )
    student = results.get("student", {})
    if "kl_nats_per_sample" in student:
        lines.append(
            f"student: KL to the teacher {_with_error(student, 'kl_nats_per_sample')} nats per "
            "sample, "
            f"TV {_with_error(student, 'tv_per_step')} per step"
        )
    for system, quality in results.get("quality", {}).items():
        known = [
            ("mel_distance_db", "mel distance {} dB"),
            ("pesq", "PESQ {}"),
            ("stoi", "STOI {}"),
        ]
        parts = [text.format(_with_error(quality, key)) for key, text in known if key in quality]
        if parts:
            lines.append(f"{system.replace('_', '-')}: {', '.join(parts)}")
    for sampler, speed in results.get("speed", {}).items():
        lines.append(
            f"speed of {sampler}: {speed['samples_per_second']:,.0f} samples/s, "
            f"{speed['times_real_time']:.3g} × real time"
        )
    return lines


def _with_error(figures: dict[str, Any], name: str) -> str:
    error = figures.get(f"{name}_standard_error")
    return f"{figures[name]:.3f}" + ("" if error is None else f" ± {error:.3f}")

"""`wavestill demo`."""

import dataclasses
import importlib.resources
import itertools
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from wavestill import audio, publish
from wavestill.audio import Corpus
from wavestill.audio.layouts import find_recordings
from wavestill.commands.distill import distill_student
from wavestill.commands.evaluate import measure_and_report
from wavestill.commands.fit import fit_teacher
from wavestill.commands.reference import copy_by_packaged_voice
from wavestill.commands.terminal import Outcome, make_folder, say, waiting
from wavestill.density import Conditioning
from wavestill.known_truth import learn_known_truth
from wavestill.nn.threads import torch_threads
from wavestill.publish import Voice
from wavestill.sampling import cached, standard_noise
from wavestill.training.recipe import Recipe, load_recipe

_MEASURING_S = 75.0
"""Set aside for evaluation and report: the teacher draws its copies step by step."""

_TEACHER_SHARE = 0.55
"""Of the time for training; the student is worth nothing without a good teacher."""

_LEAST_TRAINING_S = 20.0

_NUM_CLIPS = 4

_NUM_REFERENCE_CLIPS = 2

_ABOUT = (
    "This is how far {minutes:.0f} minutes on this machine get, with a small voice at {rate:,} "
    "Hz: a check that everything "
    "works, not what the method can do. More minutes (--minutes) and one's own recordings "
    "(--corpus) go further."
)


def demo(*, corpus: Path | None = None, out: Path | None = None, minutes: float = 9.0) -> Outcome:
    """The whole story here: the voice at hand, a known truth, a voice of one's own, a report.

    Arguments:
        corpus: Folder of recordings; the speech that comes with wavestill if it is not given.
        out: Folder for everything: corpus, runs, voice, results.json and report.html; if it is not
            given, the first of demo, demo-2, demo-3, ... that is free.
        minutes: Time for all of it, in minutes.
    """
    begin_s = time.monotonic()
    if out is None:
        out = next(path for path in _demo_folders() if _is_free(path))
    if not _is_free(out):
        raise ValueError(f"'{out}' exists already; choose another folder (--out), or remove it")
    packaged = Path(str(importlib.resources.files("wavestill") / "data"))
    source = packaged / "demo_speech" if corpus is None else corpus
    if minutes <= 0:
        raise ValueError(f"'minutes' is {minutes:g}; it must be positive")
    recordings = find_recordings(source).recordings  # complains now rather than after a part
    make_folder(out)
    say(f"wavestill demo: everything in {minutes:g} min, into {out}/")
    say("")
    say("1. The voice that comes with wavestill")
    lead, paces = copy_by_packaged_voice(recordings[:_NUM_REFERENCE_CLIPS], out / "kathleen")

    say("")
    say("2. A process whose truth is known")
    with torch_threads(1):  # networks this small only wait for a second thread
        truth = learn_known_truth()
    for line in _truth_lines(truth):
        say(f"   {line}")

    say("")
    say("3. Speech, from recordings to a voice")
    _prepare(source, out / "corpus")
    left_s = 60 * minutes - (time.monotonic() - begin_s) - _MEASURING_S
    prepared = Corpus(out / "corpus")
    recipe = _recipe(packaged / "demo.yaml", out, prepared, max(_LEAST_TRAINING_S, left_s))
    fit_teacher(recipe)
    distill_student(recipe)

    say("")
    say("4. What it amounts to")
    voice = publish.load(out / "voice")
    results = measure_and_report(
        voice,
        prepared,
        out,
        split="test" if len(prepared.split("test")) else "train",
        num_clips=_NUM_CLIPS,
        max_seconds=_affordable_seconds(voice),
        speed=True,
        seed=0,
        metrics={part: out / part / "metrics.csv" for part in ("teacher", "student")},
        commands=[shlex.join(["wavestill", *sys.argv[1:]])],
        title="wavestill demo",
        about=_ABOUT.format(minutes=minutes, rate=prepared.spec.sample_rate),
        more={"known_truth": truth, "packaged_voice": paces},
        lead=lead,
    )
    publish.save(dataclasses.replace(voice, measured=_for_card(results)), out / "voice")
    elapsed_minutes = (time.monotonic() - begin_s) / 60
    say(f"all of it took {elapsed_minutes:.1f} min; listen: open {out / 'report.html'}")
    return Outcome(results)


def _demo_folders() -> Iterator[Path]:
    yield Path("demo")
    for number in itertools.count(2):
        yield Path(f"demo-{number}")


def _is_free(out: Path) -> bool:
    return not out.exists() or (out.is_dir() and not any(out.iterdir()))


def _truth_lines(truth: dict[str, Any]) -> list[str]:
    excess = truth["teacher_nll_nats_per_sample"] - truth["true_nll_nats_per_sample"]
    return [
        f"{truth['description']}; nats per sample:",
        f"entropy rate            {truth['entropy_rate_nats']:9.5f}   exact",
        f"true law, held out      {truth['true_nll_nats_per_sample']:9.5f}   exact on these data",
        f"teacher, held out       {truth['teacher_nll_nats_per_sample']:9.5f}   {excess:+.5f} "
        "above the true law",
        f"KL(student || teacher)  {truth['student_kl_nats_per_sample']:9.5f}   0 for a perfect "
        "student",
    ]


def _prepare(source: Path, out: Path) -> None:
    with waiting("preparing") as show:
        report = audio.prepare(
            source,
            out,
            preset="wavestill_8k",
            pitch=True,
            valid_fraction=0.1,
            test_fraction=0.1,
            progress=lambda done, total: show("", done / max(1, total)),
        )
    for line in str(report).splitlines():
        say(f"   {line}")


def _recipe(path: Path, out: Path, corpus: Corpus, training_s: float) -> Recipe:
    """The demo's recipe, with the budget of this run and crops no longer than the recordings."""
    recipe = load_recipe(path)
    longest = int(corpus.split("train").num_frames.max()) * corpus.spec.hop_samples
    clip_samples = min(recipe.fit.clip_samples, longest)
    skip_samples = min(recipe.objective.skip_samples, clip_samples // 4)
    shares = {"fit": _TEACHER_SHARE, "distill": 1 - _TEACHER_SHARE}
    training = {
        part: dataclasses.replace(
            getattr(recipe, part), minutes=share * training_s / 60, clip_samples=clip_samples
        )
        for part, share in shares.items()
    }
    return dataclasses.replace(
        recipe,
        corpus=out / "corpus",
        out=out,
        objective=dataclasses.replace(recipe.objective, skip_samples=skip_samples),
        **training,
    )


def _affordable_seconds(voice: Voice) -> float:
    """Seconds of each clip that the teacher can draw in half the time set aside for measuring."""
    teacher, spec = voice.require_teacher(), voice.spec
    trial_frames = 2
    num_steps = trial_frames * spec.hop_samples
    noise = standard_noise(teacher.base, (_NUM_CLIPS, num_steps))
    frames = torch.zeros(_NUM_CLIPS, trial_frames, spec.num_features)
    begin_s = time.perf_counter()
    cached(teacher, noise, Conditioning(frames))
    seconds_per_step = (time.perf_counter() - begin_s) / num_steps
    return min(2.5, max(0.5, 0.5 * _MEASURING_S / seconds_per_step / spec.sample_rate))


def _for_card(results: dict[str, Any]) -> dict[str, Any]:
    shown = ("teacher", "student", "speed", "quality")
    return {key: value for key, value in results.items() if key in shown}

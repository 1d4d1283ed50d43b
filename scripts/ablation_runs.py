"""The runs behind docs/ablation.md: one student per row and seed, its figures kept as JSON."""

import argparse
import dataclasses
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch

from wavestill import publish, training
from wavestill.audio import Corpus
from wavestill.audio.corpus import Clip
from wavestill.audio.mel import MelSpec
from wavestill.audio.pseudo_phones import find_pseudo_phones
from wavestill.distillation import AdversarialConfig, ObjectiveConfig
from wavestill.evaluation.griffin_lim import griffin_lim
from wavestill.evaluation.inputs import context_for, noise_for
from wavestill.evaluation.likelihood import closeness
from wavestill.evaluation.metrics import compare
from wavestill.models import IAFWaveNet, IAFWaveNetConfig, WaveNet
from wavestill.models.phone_classifier import PhoneClassifier, PhoneClassifierConfig
from wavestill.publish import Voice
from wavestill.sampling import cached
from wavestill.settings import plain_settings
from wavestill.training.callbacks import budget
from wavestill.training.classification import fit_classifier
from wavestill.training.classifier_recipe import load_classifier, save_classifier
from wavestill.training.config import TrainingConfig
from wavestill.training.history import History

FLOWS, CHANNELS, PREDICTOR_ORDER = (6, 6, 6, 10), 32, 16
DISTIL = TrainingConfig(
    minutes=1.0,
    batch_size=3,
    clip_samples=5000,
    precision="auto",
    averaging=0.998,
    validate_every_steps=10**9,  # at the end alone: the time is for training
    validation_clips=3,
)
FIT = dataclasses.replace(DISTIL, skip_samples=1000)
CLASSIFY = dataclasses.replace(DISTIL, batch_size=2, clip_samples=8000, averaging=0.995)
PSEUDO_PHONES = 64

SOUND = {"magnitude": 2.0, "power": 0.5}
ADVERSARIAL = AdversarialConfig(after_steps=200)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Arguments:
        title: What it is called there.
        weights: The terms beside the divergence.
        scale_penalty: ClariNet's regulariser.
        gaussian: Distil the Gaussian teacher, with a Gaussian student.
    """

    title: str
    weights: dict[str, float] = field(default_factory=dict)
    scale_penalty: float = 0.0
    gaussian: bool = False

    @property
    def objective(self) -> ObjectiveConfig:
        """As a recipe has it."""
        return ObjectiveConfig(
            weights=self.weights,
            scale_penalty=self.scale_penalty,
            skip_samples=1000,
            loudness_rate=0.01,
            adversarial=ADVERSARIAL,
        )


MAGNITUDE, POWER = ({name: SOUND[name]} for name in ("magnitude", "power"))
ROWS = {
    "kl": Row("KL alone"),
    "magnitude": Row("KL + magnitudes", MAGNITUDE),
    "power": Row("KL + power", POWER),
    "sound": Row("KL + magnitudes + power: the base", SOUND),
    "features": Row("base + teacher's features", SOUND | {"features": 1.0}),
    "perceptual": Row("base + classifier's features", SOUND | {"perceptual": 0.3}),
    "style": Row("base + classifier's style", SOUND | {"style": 1.0}),
    "contrastive": Row("base + contrastive", SOUND | {"contrastive": 0.3}),
    "adversarial": Row("base + adversarial", SOUND | {"adversarial": 0.5}),
    "whole": Row(
        "base + style + contrastive + adversarial",
        SOUND | {"style": 1.0, "contrastive": 0.3, "adversarial": 0.5},
    ),
    "gaussian": Row("Gaussian laws: base", SOUND, gaussian=True),
    "regularised": Row(
        "Gaussian laws: base + regulariser on scales", SOUND, scale_penalty=4.0, gaussian=True
    ),
}


def key_of(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """What a run's figures depend on beside its seed; figures of another key are made anew."""
    return {
        "objective": plain_settings(ROWS[name].objective),
        "gaussian": ROWS[name].gaussian,
        "student": [list(FLOWS), CHANNELS, PREDICTOR_ORDER],
        "distil": plain_settings(dataclasses.replace(DISTIL, minutes=options.minutes)),
        "voice": str(options.voice.resolve()),
        "measured": [options.clips, options.seconds],
        "helpers": [options.classifier_minutes, options.gaussian_minutes],
    }


def figures_of(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any] | None:
    """The figures of a run, if it has been made."""
    path = options.cache / f"{name}-{seed}.json"
    if not path.exists():
        return None
    saved = json.loads(path.read_text())
    return saved["figures"] if saved["key"] == key_of(options, name) else None


def keep(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file whole."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values, indent=1))
    partial.replace(path)


def run(options: argparse.Namespace, name: str, seed: int) -> str:
    """One student: train, measure, keep the figures."""
    torch.set_num_threads(1)
    row, corpus = ROWS[name], Corpus(options.corpus)
    voice = publish.load(options.cache / "gaussian" if row.gaussian else options.voice)
    teacher = voice.require_teacher()
    needs = {"style", "perceptual"} & row.weights.keys()
    classifier = load_classifier(options.cache / "classifier") if needs else None
    torch.manual_seed(seed)
    config = IAFWaveNetConfig(
        FLOWS,
        channels=CHANNELS,
        predictor_order=PREDICTOR_ORDER,
        base="normal" if row.gaussian else "logistic",
        conditioning=teacher.config.conditioning,
    )
    student = IAFWaveNet(config, teacher.encoder)
    objective = row.objective.build(
        teacher, student, corpus.spec.sample_rate, classifier=classifier
    )
    spent = time.process_time()
    with by_processor_time():
        _, history = training.distill(
            teacher,
            student,
            corpus,
            objective=objective,
            seed=seed,
            config=dataclasses.replace(DISTIL, minutes=options.minutes),
            progress=False,
        )
    figures = {"steps": history.last("step"), "processor_s": time.process_time() - spent}
    figures |= measure(teacher, student, held_out(options, corpus), corpus)
    keep(
        options.cache / f"{name}-{seed}.json",
        {"key": key_of(options, name), "seed": seed, "figures": figures},
    )
    shown = ", ".join(f"{key} {value:.3g}" for key, value in sorted(figures.items()))
    return f"{name}, seed {seed}: {shown}"


def by_processor_time() -> Any:  # noqa: ANN401  (a patch, used by `with` alone)
    """Within it `minutes` are of the processor's time, so that a busy machine is fair."""
    return mock.patch.object(budget, "time", SimpleNamespace(monotonic=time.process_time))


def held_out(options: argparse.Namespace, corpus: Corpus) -> list[Clip]:
    """Test clips, spread over the split, cut to whole frames."""
    clips = corpus.split("test")
    longest = int(options.seconds * corpus.spec.sample_rate / corpus.spec.hop_samples)
    chosen = np.unique(np.linspace(0, len(clips) - 1, options.clips).round().astype(int))
    return [
        clip._replace(
            wave=clip.wave[: longest * corpus.spec.hop_samples], frames=clip.frames[:longest]
        )
        for clip in (clips[int(i)] for i in chosen)
    ]


def measure(
    teacher: WaveNet, student: IAFWaveNet, clips: list[Clip], corpus: Corpus
) -> dict[str, float]:
    """Means over the clips; the noise is the same for every student."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list[float]] = {}
    for clip in clips:
        noise = noise_for(student, 1, len(clip.wave), generator)
        contexts = (context_for(teacher, [clip]), context_for(student, [clip]))
        close = closeness(teacher, student, noise, *contexts, generator, num_points=32)
        assert close.kl_nats is not None, "there is a teacher"
        assert close.tv is not None
        values, _ = compare(clip.wave, close.x.float().numpy(), mel_spec(corpus))
        for name, value in (values | {"kl_nats": close.kl_nats, "tv": close.tv}).items():
            found.setdefault(name, []).append(value)
    return {name: statistics.mean(values) for name, values in found.items()}


def mel_spec(corpus: Corpus) -> MelSpec:
    """How its frames are made, for metrics over mels."""
    if not isinstance(corpus.spec, MelSpec):
        raise ValueError(f"'{corpus.path}' holds no mels; prepare it with a mel preset")
    return corpus.spec


def measure_references(options: argparse.Namespace) -> str:
    """What the students stand beside: recordings, the teachers' own copies, Griffin-Lim's."""
    path = options.cache / "references.json"
    key = [str(options.voice.resolve()), options.clips, options.seconds]
    if path.exists() and json.loads(path.read_text())["key"] == key:
        return "references: known"
    torch.set_num_threads(1)
    corpus = Corpus(options.corpus)
    clips = held_out(options, corpus)
    teacher = publish.load(options.voice).require_teacher()
    longest = max(len(clip.wave) for clip in clips)
    noise = noise_for(teacher, len(clips), longest, torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = cached(teacher, noise, context_for(teacher, clips)).float().numpy()
    sounds = {
        "recording": [clip.wave for clip in clips],
        "teacher": [wave[: len(clip.wave)] for wave, clip in zip(drawn, clips, strict=True)],
        "Griffin-Lim": [griffin_lim(clip.frames, mel_spec(corpus), seed=0) for clip in clips],
    }
    figures: dict[str, dict[str, float]] = {}
    for system, waves in sounds.items():
        values = [
            compare(clip.wave, np.asarray(wave, np.float32), mel_spec(corpus))[0]
            for clip, wave in zip(clips, waves, strict=True)
        ]
        names = {name for value in values for name in value}
        figures[system] = {
            name: statistics.mean(value[name] for value in values if name in value)
            for name in names
        }
    keep(path, {"key": key, "figures": figures})
    return "references: measured"


def make_classifier(options: argparse.Namespace) -> str:
    """The classifier that `perceptual` and `style` listen with."""
    path = options.cache / "classifier"
    if not (path / "config.json").exists():
        torch.set_num_threads(1)
        corpus = Corpus(options.corpus)
        phones = find_pseudo_phones(corpus.split("train"), PSEUDO_PHONES)
        torch.manual_seed(0)
        spec = corpus.spec
        shape = PhoneClassifierConfig(PSEUDO_PHONES, spec.hop_samples, spec.sample_rate)
        config = dataclasses.replace(CLASSIFY, minutes=options.classifier_minutes)
        with by_processor_time():
            classifier, history = fit_classifier(
                PhoneClassifier(shape), corpus, phones, config=config, progress=False
            )
        save_classifier(classifier, path, phones.names, last_figures(history, "valid_accuracy"))
    measured = json.loads((path / "config.json").read_text())["measured"]
    return f"classifier: {measured}"


def make_gaussian_teacher(options: argparse.Namespace) -> str:
    """A teacher of the voice's shape with Gaussian laws, for ClariNet's rows."""
    path = options.cache / "gaussian"
    if not (path / "config.json").exists():
        torch.set_num_threads(1)
        corpus = Corpus(options.corpus)
        config = publish.load(options.voice).require_teacher().config
        torch.manual_seed(0)
        teacher = WaveNet(dataclasses.replace(config, head="gaussian"))
        settings = dataclasses.replace(FIT, minutes=options.gaussian_minutes)
        with by_processor_time():
            teacher, history = training.fit(teacher, corpus, config=settings, progress=False)
        measured = {"teacher": last_figures(history, "valid_nats")}
        voice = Voice(
            spec=corpus.spec, teacher=teacher, speakers=corpus.speakers, measured=measured
        )
        publish.save(voice, path)
    return f"Gaussian teacher: {publish.load(path).measured['teacher']}"


def last_figures(history: History, name: str) -> dict[str, float]:
    """A figure of a run's end, and its steps."""
    return {name: history.last(name), "steps": history.last("step")}

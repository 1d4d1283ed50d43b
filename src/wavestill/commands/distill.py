"""`wavestill distill`."""

import dataclasses
import math
from pathlib import Path

import torch

from wavestill import publish, training
from wavestill.audio import Corpus
from wavestill.commands.fit import (
    ONE_OR_LAUNCHED,
    end_beside_the_first,
    figures_of_run,
    say_once,
)
from wavestill.commands.terminal import Outcome
from wavestill.models import IAFWaveNet, WaveNet
from wavestill.training.classifier_recipe import load_classifier
from wavestill.training.folder import provenance
from wavestill.training.hardware import Hardware
from wavestill.training.recipe import Recipe, load_recipe


def distill(
    recipe: Path,
    *,
    resume: bool = False,
    allow_changes: bool = False,
    trainer: Hardware = ONE_OR_LAUNCHED,
) -> Outcome:
    """Train a recipe's student on its teacher, and write the voice with both.

    A run that is killed, told to terminate or interrupted goes on with --resume as if nothing had
    happened. Under torchrun or srun, or with --trainer.devices, several processes train together,
    each on its share of the recipe's batches.

    Arguments:
        recipe: The recipe, a YAML file; its 'out' folder holds the teacher that 'wavestill fit'
            made (unless 'teacher_path' names another) and gets student/ and voice/.
        resume: Go on with the run in 'out' from its last good checkpoint.
        allow_changes: Go on even if the recipe has been changed since the run began; otherwise
            the differences are named, and refused.
        trainer: Processes, machines and device.
    """
    return distill_student(
        load_recipe(recipe), resume=resume, allow_changes=allow_changes, trainer=trainer
    )


def distill_student(
    recipe: Recipe,
    *,
    resume: bool = False,
    allow_changes: bool = False,
    trainer: Hardware = ONE_OR_LAUNCHED,
) -> Outcome:
    """Train the student of a recipe that has been read."""
    corpus = Corpus(recipe.corpus)
    teacher_path = recipe.teacher_path or recipe.out / "voice"
    if not (teacher_path / "config.json").exists():
        raise ValueError(
            f"there is no teacher at '{teacher_path}'; run 'wavestill fit' first, or set "
            "'teacher_path'"
        )
    publish.require_replaceable(recipe.out / "voice")
    voice = publish.load(teacher_path)
    teacher = voice.require_teacher()
    voice.spec.require_same(corpus.spec)
    others = [_further_teacher(path, voice) for path in recipe.more_teachers]
    listener = recipe.objective.classifier
    classifier = None if listener is None else load_classifier(listener)
    config = recipe.student_config(teacher.config, corpus.spec, len(corpus.speakers))
    torch.manual_seed(recipe.seed)
    begins_from = None if recipe.student_begins == "fresh" else teacher.encoder
    student = IAFWaveNet(config, begins_from, share=recipe.student_begins == "share")
    num_parameters = sum(parameter.numel() for parameter in student.parameters())
    say_once(
        f"student: {num_parameters:,} parameters in {len(config.flows)} flows; teacher from "
        f"{teacher_path}" + "".join(f" and {path}" for path in recipe.more_teachers)
    )
    student, history = training.distill(
        teacher,
        student,
        corpus,
        objective=recipe.objective.build(
            teacher, student, corpus.spec.sample_rate, others=others, classifier=classifier
        ),
        out=recipe.out / "student",
        resume=resume,
        allow_changes=allow_changes,
        trainer=trainer,
        seed=recipe.seed,
        config=recipe.distill,
        recipe=recipe.to_dict(),
    )
    end_beside_the_first()
    names = ("step", "valid_kl_nats", "valid_tv", "valid_std_over_data")
    figures = {name: history.last(name) for name in names if not math.isnan(history.last(name))}
    figures |= {name: value for name, value in figures_of_run(history).items() if name != "steps"}
    voice_path = recipe.out / "voice"
    measured = {**voice.measured, "student": figures}
    publish.save(
        dataclasses.replace(voice, student=student, measured=measured, made=provenance()),
        voice_path,
    )
    held_out = ""
    if "valid_kl_nats" in figures:
        held_out = (
            f"KL {figures['valid_kl_nats']:.3f} nats per sample, TV {figures['valid_tv']:.3f} "
            "per step, "
            f"{figures['valid_std_over_data']:.2f} times as loud as held-out speech, "
        )
    say_once(
        f"student: {held_out}after {figures['step']:,.0f} steps in "
        f"{figures['elapsed_s'] / 60:.1f} min ({figures['waiting_share']:.1%} of it waiting for "
        f"input); {voice_path}"
    )
    return Outcome({"student": figures, "voice": str(voice_path)})


def _further_teacher(path: Path, voice: publish.Voice) -> WaveNet:
    """The teacher of another voice of the same features."""
    other = publish.load(path)
    voice.spec.require_same(other.spec)
    return other.require_teacher()

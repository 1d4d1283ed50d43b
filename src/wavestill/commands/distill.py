"""`wavestill distill`."""

import dataclasses
import math
from pathlib import Path

import torch

from wavestill import publish, training
from wavestill.audio import Corpus
from wavestill.commands.terminal import Outcome, say
from wavestill.models import IAFWaveNet, WaveNet
from wavestill.training.folder import provenance
from wavestill.training.recipe import Recipe, load_recipe


def distill(recipe: Path, *, resume: bool = False) -> Outcome:
    """Train a recipe's student on its teacher, and write the voice with both.

    Arguments:
        recipe: The recipe, a YAML file; its 'out' folder holds the teacher that 'wavestill fit'
            made (unless 'teacher_path' names another) and gets student/ and voice/.
        resume: Go on with the run in 'out' from its last checkpoint.
    """
    return distill_student(load_recipe(recipe), resume=resume)


def distill_student(recipe: Recipe, *, resume: bool = False) -> Outcome:
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
    config = recipe.student_config(teacher.config, corpus.spec, len(corpus.speakers))
    torch.manual_seed(recipe.seed)
    begins_from = None if recipe.student_begins == "fresh" else teacher.encoder
    student = IAFWaveNet(config, begins_from, share=recipe.student_begins == "share")
    num_parameters = sum(parameter.numel() for parameter in student.parameters())
    say(
        f"student: {num_parameters:,} parameters in {len(config.flows)} flows; teacher from "
        f"{teacher_path}" + "".join(f" and {path}" for path in recipe.more_teachers)
    )
    student, history = training.distill(
        teacher,
        student,
        corpus,
        objective=recipe.objective.build(teacher, student, corpus.spec.sample_rate, others=others),
        out=recipe.out / "student",
        resume=resume,
        seed=recipe.seed,
        config=recipe.distill,
        recipe=recipe.to_dict(),
    )
    names = ("step", "elapsed_s", "valid_kl_nats", "valid_tv", "valid_std_over_data")
    figures = {name: history.last(name) for name in names if not math.isnan(history.last(name))}
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
    say(
        f"student: {held_out}after {figures['step']:,.0f} steps in "
        f"{figures['elapsed_s'] / 60:.1f} min; {voice_path}"
    )
    return Outcome({"student": figures, "voice": str(voice_path)})


def _further_teacher(path: Path, voice: publish.Voice) -> WaveNet:
    """The teacher of another voice of the same features."""
    other = publish.load(path)
    voice.spec.require_same(other.spec)
    return other.require_teacher()

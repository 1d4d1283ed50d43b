"""`wavestill fit`."""

import math
from pathlib import Path

import torch

from wavestill import publish, training
from wavestill.audio import Corpus
from wavestill.commands.terminal import Outcome, say
from wavestill.models import WaveNet
from wavestill.publish import Voice
from wavestill.training.folder import provenance
from wavestill.training.recipe import Recipe, load_recipe


def fit(recipe: Path, *, resume: bool = False) -> Outcome:
    """Train a recipe's teacher by maximum likelihood, and write it as a voice.

    Arguments:
        recipe: The recipe, a YAML file; its 'out' folder gets teacher/ (figures, checkpoints,
            sounds) and voice/.
        resume: Go on with the run in 'out' from its last checkpoint.
    """
    return fit_teacher(load_recipe(recipe), resume=resume)


def fit_teacher(recipe: Recipe, *, resume: bool = False) -> Outcome:
    """Train the teacher of a recipe that has been read."""
    corpus = Corpus(recipe.corpus)
    voice_path = recipe.out / "voice"
    if resume or not (recipe.out / "teacher").exists():
        _require_free(voice_path)
    torch.manual_seed(recipe.seed)
    teacher = WaveNet(recipe.teacher_config(corpus.spec, len(corpus.speakers)))
    rate = corpus.spec.sample_rate
    num_parameters = sum(parameter.numel() for parameter in teacher.parameters())
    say(
        f"teacher: {num_parameters:,} parameters, receptive field {teacher.receptive_field:,} "
        "samples "
        f"({teacher.receptive_field / rate:.2f} s); {corpus.seconds('train') / 60:.1f} min of "
        f"speech at {rate:,} Hz"
    )
    teacher, history = training.fit(
        teacher,
        corpus,
        out=recipe.out / "teacher",
        resume=resume,
        seed=recipe.seed,
        config=recipe.fit,
        recipe=recipe.to_dict(),
    )
    figures = {"steps": history.last("step"), "elapsed_s": history.last("elapsed_s")}
    figures["nats_per_sample"] = history.last("nats")
    held_out = history.last("valid_nats")
    if not math.isnan(held_out):
        figures["valid_nats_per_sample"] = held_out
    voice = Voice(
        spec=corpus.spec,
        teacher=teacher,
        level_dbfs=float(corpus.index["level_dbfs"]),
        speakers=corpus.speakers,
        measured={"teacher": figures},
        made=provenance(),
    )
    publish.save(voice, voice_path)
    nats = figures.get("valid_nats_per_sample", figures["nats_per_sample"])
    where = "on held-out speech" if "valid_nats_per_sample" in figures else "on training speech"
    say(
        f"teacher: {nats:.3f} nats per sample ({nats / math.log(2):.3f} bits) {where}, after "
        f"{figures['steps']:,.0f} "
        f"steps in {figures['elapsed_s'] / 60:.1f} min; {voice_path}"
    )
    return Outcome({"teacher": figures, "voice": str(voice_path)})


def _require_free(voice_path: Path) -> None:
    """Complain before the training of what would stop its voice from being written.

    Raises:
        ValueError: If the folder holds something else, or a student, which would be lost.
    """
    publish.require_replaceable(voice_path)
    if (voice_path / "config.json").exists() and publish.load(voice_path).student is not None:
        raise ValueError(
            f"'{voice_path}' holds a student of an earlier teacher; move it away, or choose "
            "another 'out'"
        )

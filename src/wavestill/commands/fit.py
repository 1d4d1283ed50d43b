"""`wavestill fit`."""

import math
from pathlib import Path

import torch
from torch import Tensor

from wavestill import publish, training
from wavestill.audio import Corpus
from wavestill.commands.terminal import Outcome, say
from wavestill.models import WaveNet
from wavestill.publish import Voice
from wavestill.training.classifier_recipe import is_classifier_recipe, load_classifier_recipe
from wavestill.training.density_folder import save_density
from wavestill.training.density_recipe import (
    DensityRecipe,
    is_density_recipe,
    load_density_recipe,
)
from wavestill.training.folder import provenance
from wavestill.training.hardware import Hardware, writes
from wavestill.training.history import History
from wavestill.training.recipe import Recipe, load_recipe, read_yaml
from wavestill.training.tables import Table

ONE_OR_LAUNCHED = Hardware()
"""The processes that torchrun or srun started; otherwise one."""

ROWS_AT_ONCE = 500
"""Rows that are measured together: bounds memory, nothing else."""


def fit(
    recipe: Path,
    *,
    data: Path | None = None,
    out: Path | None = None,
    resume: bool = False,
    allow_changes: bool = False,
    trainer: Hardware = ONE_OR_LAUNCHED,
) -> Outcome:
    """Train a recipe's teacher, density of vectors or phone classifier, by maximum likelihood.

    A run that is killed, told to terminate or interrupted goes on with --resume as if nothing had
    happened. Under torchrun or srun, or with --trainer.devices, several processes train together,
    each on its share of the recipe's batches.

    Arguments:
        recipe: The recipe, a YAML file. Of a voice: its 'out' folder gets teacher/ (figures,
            checkpoints, sounds) and voice/. Of a density: training/ and density/. Of a
            classifier of phones: training/ and classifier/.
        data: For a density, in place of the recipe's: an .npz file with the arrays train, valid
            and test. Its name is added to that of the 'out' folder.
        out: For a density, in place of the recipe's: the run's folder.
        resume: Go on with the run in 'out' from its last good checkpoint.
        allow_changes: Go on even if the recipe has been changed since the run began; otherwise
            the differences are named, and refused.
        trainer: Processes, machines and device.
    """
    values = read_yaml(recipe)
    if is_density_recipe(values):
        read, table = load_density_recipe(recipe, data=data, out=out)
        return fit_density(
            read, table, resume=resume, allow_changes=allow_changes, trainer=trainer
        )
    if data is not None or out is not None:
        raise ValueError(
            f"'{recipe}' is of a voice, and --data and --out are of densities; "
            "set 'corpus' and 'out' in it"
        )
    if is_classifier_recipe(values):
        # imported here, since it stands on what is below
        from wavestill.commands.fit_classifier import fit_phone_classifier

        return fit_phone_classifier(
            load_classifier_recipe(recipe),
            resume=resume,
            allow_changes=allow_changes,
            trainer=trainer,
        )
    return fit_teacher(
        load_recipe(recipe), resume=resume, allow_changes=allow_changes, trainer=trainer
    )


def fit_density(
    recipe: DensityRecipe,
    table: Table,
    *,
    resume: bool = False,
    allow_changes: bool = False,
    trainer: Hardware = ONE_OR_LAUNCHED,
) -> Outcome:
    """Train the density of a recipe that has been read, and measure it on the test rows."""
    torch.manual_seed(recipe.seed)
    model = recipe.build(table.num_dims)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    say_once(
        f"{recipe.model_name}: {num_parameters:,} parameters; {len(table.train):,} rows of "
        f"{table.num_dims:,} values to learn from, {len(table.valid):,} to stop by, "
        f"{len(table.test):,} to test on"
    )
    model, history = training.fit(
        model,
        table.train,
        validation=table.valid,
        out=recipe.out / "training",
        resume=resume,
        allow_changes=allow_changes,
        trainer=trainer,
        seed=recipe.seed,
        config=recipe.fit,
        recipe=recipe.to_dict(),
    )
    end_beside_the_first()
    figures = figures_of_run(history)
    figures |= {
        f"{name}_nats": nats_per_row(model, getattr(table, name)) for name in ("valid", "test")
    }
    path = recipe.out / "density"
    save_density(model, path, figures)
    say_once(
        f"{recipe.model_name}: test {figures['test_nats']:.3f} nats per row (valid "
        f"{figures['valid_nats']:.3f}), after "
        f"{figures['steps']:,.0f} steps in {figures['elapsed_s'] / 60:.1f} min; {path}"
    )
    return Outcome({"model": recipe.model_name, **figures, "density": str(path)})


@torch.no_grad()
def nats_per_row(model: torch.nn.Module, rows: Tensor) -> float:
    """Mean negative log-likelihood, in nats."""
    log_probs = [
        model.log_prob(part).double()  # type: ignore[operator]
        for part in torch.split(rows, ROWS_AT_ONCE)
    ]
    return -float(torch.cat(log_probs).mean())


def fit_teacher(
    recipe: Recipe,
    *,
    resume: bool = False,
    allow_changes: bool = False,
    trainer: Hardware = ONE_OR_LAUNCHED,
) -> Outcome:
    """Train the teacher of a recipe that has been read."""
    corpus = Corpus(recipe.corpus)
    voice_path = recipe.out / "voice"
    if writes() and (resume or not (recipe.out / "teacher").exists()):
        _require_free(voice_path)
    torch.manual_seed(recipe.seed)
    teacher = WaveNet(recipe.teacher_config(corpus.spec, len(corpus.speakers)))
    rate = corpus.spec.sample_rate
    num_parameters = sum(parameter.numel() for parameter in teacher.parameters())
    say_once(
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
        allow_changes=allow_changes,
        trainer=trainer,
        seed=recipe.seed,
        config=recipe.fit,
        recipe=recipe.to_dict(),
    )
    end_beside_the_first()
    figures = figures_of_run(history)
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
    say_once(
        f"teacher: {nats:.3f} nats per sample ({nats / math.log(2):.3f} bits) {where}, after "
        f"{figures['steps']:,.0f} "
        f"steps in {figures['elapsed_s'] / 60:.1f} min ({figures['waiting_share']:.1%} of it "
        f"waiting for input); {voice_path}"
    )
    return Outcome({"teacher": figures, "voice": str(voice_path)})


def say_once(line: str) -> None:
    """A line for people, said by the first of the processes that train together."""
    if writes():
        say(line)


def end_beside_the_first() -> None:
    """End a process that has trained beside the first, which alone measures and writes."""
    if not writes():
        raise SystemExit(0)


def figures_of_run(history: History) -> dict[str, float]:
    """What every run has to tell: steps, seconds, and what hindered it."""
    shares = history.column("waiting_share")
    figures = {"steps": history.last("step"), "elapsed_s": history.last("elapsed_s")}
    figures["waiting_share"] = sum(shares) / max(1, len(shares))
    for name in ("skipped_steps", "damaged_clips"):
        if history.column(name):
            figures[name] = history.last(name)
    return figures


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

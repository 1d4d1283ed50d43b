"""`fit` and `distill`: the library calls behind the commands."""

import math
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from wavestill.audio.corpus import Corpus
from wavestill.density import Density, as_density
from wavestill.distillation import Objective, StepDivergence, Term
from wavestill.distillation.teacher_samples import (
    JointForwardKL,
    Mirrored,
    TeacherSamples,
    is_mirrored,
)
from wavestill.divergences import KL
from wavestill.models.adoption import taken_in
from wavestill.settings import plain_settings
from wavestill.training.config import TrainingConfig, training_config, vector_defaults
from wavestill.training.data import (
    Batch,
    Data,
    NoiseSource,
    Rows,
    Source,
    rows_of,
    rows_with_x,
)
from wavestill.training.distillation import Distillation
from wavestill.training.folder import RunFolder, open_run
from wavestill.training.hardware import Hardware
from wavestill.training.history import History
from wavestill.training.likelihood import InPieces, Likelihood
from wavestill.training.material import (
    defaults_for,
    fresh_batches,
    held_out_batches,
    hold_out,
    in_precision,
    skipped_samples,
    source_of,
)
from wavestill.training.trainer import train

Model = TypeVar("Model", bound=nn.Module)

_REFERENCE_SAMPLES = 500_000
"""Samples that scales and a linear predictor are set by: plenty, and soon done."""

FORWARD_PASSES_MAX = 8
"""Passes up to which a student's density of foreign vectors is cheap enough to train by."""

_AFTER_THE_TEACHER = (
    *("student", "student_begins", "objective", "distill"),
    *("teacher_path", "more_teachers"),
)
"""Keys of a recipe that may change while its teacher trains."""

_BEFORE_THE_STUDENT = ("fit",)
"""Those that may change while its student does."""


@runtime_checkable
class Calibrated(Protocol):
    """A model that takes starting values from data."""

    def calibrate(self, x: Tensor, frames: Tensor | None = None) -> None:
        """Set them."""
        ...


def fit(
    model: Model,
    data: Data,
    *,
    validation: Data | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    allow_changes: bool = False,
    trainer: Hardware | None = None,
    seed: int = 0,
    config: TrainingConfig | None = None,
    calibrate: bool = True,
    progress: bool | None = None,
    recipe: dict[str, Any] | None = None,
    **settings: Any,
) -> tuple[Model, History]:
    r"""Train a density by maximum likelihood.

    .. math:: \min_\theta \; -\mathbb{E}_{(x, c) \sim \text{data}} \log p_\theta(x \mid c)

    The model is trained in place and ends with its averaged weights, in eval mode.

    Arguments:
        model: A module with `conditionals` (`Autoregressive`) or `log_prob` (`Density`), or one
            that returns a distribution when called with the context, as zuko's flows do.
        data: A prepared `Corpus`; one long sequence `(N,)`, of which random crops are taken;
            sequences `(N, T)` or `(N, T, C)`; vectors `(N, D)`; or a pair of either kind of rows
            and the context of each, `(x (N, D), context (N, ...))`. Where there are more rows than
            columns they are taken for vectors: then `config` and `settings` may be left out
            altogether (5000 steps of up to 256 rows, `patience` 10).
        validation: Held-out material of the same kind. Where nothing is given: a corpus's own
            `valid` split; of rows, if there is a `patience`, a tenth, chosen by the seed and left
            out of training.
        out: Folder of the run (figures, checkpoints, sounds); None: nothing is written.
        resume: Go on with the run in `out` from its last checkpoint.
        allow_changes: Go on with it even if it began with another recipe or other settings.
        trainer: How many processes and machines train together, and on what; None: what torchrun
            or srun started, otherwise one process, on a GPU where there is one. The script runs
            in every process; files are written by the first.
        seed: Seed of batches, noise and dropout.
        config: The settings as one object; `settings` are changed in it.
        calibrate: Let the model take scales and predictor from the data first; not for one that
            was trained before.
        progress: Show a bar on standard error; None: if it is a terminal.
        recipe: What to keep as recipe.yaml; None: the settings.
        **settings: Fields of `TrainingConfig`, e.g. `max_steps=1000`, `minutes=5`,
            `learning_rate=1e-3`.

    Returns:
        The model, and the figures of the run by step (`nats`, `valid_nats`, in nats per sample).

    Raises:
        ValueError: If a setting is unknown or out of range, the data have the wrong shape or
            values, `out` holds a run that was not to be resumed, or the loss stops being finite.

    Example:
        >>> from wavestill.models import WaveNet, WaveNetConfig
        >>> model = WaveNet(WaveNetConfig(layers=3, residual_channels=4, head="gaussian"))
        >>> model, history = fit(model, torch.randn(2000), max_steps=2, clip_samples=100)
        >>> history.column("step")
        [2.0]
    """
    data, validation = in_precision(data, model), in_precision(validation, model)
    rows = None if isinstance(data, Corpus) else rows_with_x(data)
    if rows is not None and rows.of_vectors and hasattr(model, "conditionals"):
        assert rows.x is not None
        raise ValueError(
            f"the data has shape {tuple(rows.x.shape)} but a {type(model).__name__} takes one "
            "number a step; give sequences (N, T)"
        )
    config = training_config(config, settings, defaults_for(rows))
    held_out_rows: Data | Rows | None = validation
    if rows is not None and validation is None and config.patience is not None:
        rows, held_out_rows = hold_out(rows, seed)
    source = source_of(data, rows, config, seed)
    skip = skipped_samples(config, model, source)
    held_out = held_out_batches(data, held_out_rows, config, seed, skip)
    learner = model if hasattr(model, "log_prob") else as_density(model)  # a flow of zuko's
    assert isinstance(learner, nn.Module)
    if config.chunk_samples is not None and not isinstance(learner, InPieces):
        raise ValueError(
            f"'chunk_samples' is {config.chunk_samples} but a {type(learner).__name__} gives its "
            "laws for whole clips only; leave it out"
        )
    task = Likelihood(learner, config, seed, skip_samples=skip, grid_nats=source.grid_nats)
    if calibrate and not _has_begun(out, resume=resume):
        _calibrate(model, source)
    run = _open(
        out,
        recipe,
        config,
        seed,
        resume=resume,
        allow_changes=allow_changes,
        beside=_AFTER_THE_TEACHER,
    )
    history = train(
        *(task, source, held_out, run, data),
        title="teacher",
        criterion="valid_nats",
        progress=progress,
        hardware=trainer or Hardware(),
    )
    model.eval()
    return model, history


def distill(
    teacher: object,
    student: Model,
    data: Data | None = None,
    *,
    length: int | None = None,
    objective: Objective | None = None,
    forward_weight: float | None = None,
    validation: Data | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    allow_changes: bool = False,
    trainer: Hardware | None = None,
    seed: int = 0,
    config: TrainingConfig | None = None,
    calibrate: bool = True,
    progress: bool | None = None,
    recipe: dict[str, Any] | None = None,
    **settings: Any,
) -> tuple[Model, History]:
    r"""Train a student on its teacher.

    .. math:: \min_\theta \; \mathrm{KL}(q_\theta \,\|\, p) + \sum_i w_i L_i

    The student is trained in place and ends with its averaged weights, in eval mode; the teacher
    is not touched.

    Arguments:
        teacher: A density, or anything `as_density` takes.
        student: An inverse autoregressive density (`rsample`) that is a module.
        data: As for `fit`: what the samples are conditioned on and, for spectral terms, compared
            with. None for unconditional teachers: the student's own noise is all that is needed;
            `(None, context (N, ...))` where there are contexts and nothing else.
        length: Samples per sequence where there are no data. Where it is not given: a student of
            vectors knows its own (`num_dims`), and then `config` and `settings` may be left out
            too; otherwise `clip_samples`.
        objective: Terms and weights; None: the KL divergence per step, and for vectors forward KL.
        forward_weight: Weight of forward KL on the teacher's samples beside the reverse one of
            weight 1, which forgives a dropped mode. None: 1 for flows that give the density of
            foreign vectors in up to 8 passes, otherwise 0.
        validation: Held-out material; where nothing is given, a corpus's own `valid` split.
            Without data, and for a `patience`, the divergence of fresh noise is the held-out
            figure.
        out: As for `fit`.
        resume: As for `fit`.
        allow_changes: As for `fit`.
        trainer: As for `fit`.
        seed: As for `fit`.
        config: As for `fit`.
        calibrate: Let the student take its scale from the data (from draws of the teacher where
            there are none).
        progress: As for `fit`.
        recipe: As for `fit`.
        **settings: Fields of `TrainingConfig`.

    Returns:
        The student, and the figures of the run by step (each term; `valid_kl_nats`, `valid_tv` per
        sample).

    Raises:
        ValueError: As for `fit`; and if a term of the objective needs recordings but there are
            none, or it is an objective of another student.
    """
    if not hasattr(student, "rsample"):
        raise ValueError(
            f"a {type(student).__name__} draws in many passes or has no 'rsample': it is no "
            "student; give an IAF, PermutedIAF or IAFWaveNet"
        )
    learner: object = student
    if objective is not None and objective.student is not learner:
        raise ValueError(
            "'objective' holds another student than the one to train; build it with this one"
        )
    data, validation = in_precision(data, student), in_precision(validation, student)
    density = taken_in(teacher)
    if (config.chunk_samples if config else settings.get("chunk_samples")) is not None:
        raise ValueError(
            "'chunk_samples' is of likelihoods; a student's clips are drawn whole: leave it out, "
            "and use 'accumulate' to save memory"
        )
    rows = None if data is None or isinstance(data, Corpus) else rows_of(data)
    size: int | None = getattr(student, "num_dims", None)
    defaults = defaults_for(rows) if size is None else vector_defaults(num_dims=size)
    config = training_config(config, settings, defaults)
    skip = 0
    source: Source
    held_out: list[Batch] | None
    if data is None or (rows is not None and rows.x is None):
        context = None if rows is None else rows.context
        length = length or size or config.clip_samples
        source = NoiseSource(density, config.batch_size, length, context, seed)
        held_out = fresh_batches(source, config)
    else:
        source = source_of(data, rows, config, seed)
        skip = skipped_samples(config, student, source)
        held_out = held_out_batches(data, validation, config, seed, skip)
        if held_out is None and config.patience is not None:
            held_out = fresh_batches(source, config)
    if calibrate and not _has_begun(out, resume=resume):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            _calibrate(student, source)
    if objective is None:
        objective = _divergences(density, student, forward_weight, skip)
    spec = data.spec if isinstance(data, Corpus) else None
    task = Distillation(student, objective, config, seed, skip_samples=skip, spec=spec)
    run = _open(
        out,
        recipe,
        config,
        seed,
        resume=resume,
        allow_changes=allow_changes,
        beside=_BEFORE_THE_STUDENT,
    )
    history = train(
        *(task, source, held_out, run, data),
        title="student",
        criterion="valid_kl_nats",
        progress=progress,
        hardware=trainer or Hardware(),
    )
    return student, history


def _divergences(
    teacher: Density, student: nn.Module, forward_weight: float | None, skip_samples: int
) -> Objective:
    """The objective where none is given."""
    terms: dict[str, Term] = {"kl": StepDivergence(KL(), skip_samples=skip_samples)}
    weights = {"kl": 1.0}
    samples = TeacherSamples()
    mirrored = is_mirrored(teacher, student)
    if mirrored:
        terms["mirrored"], weights["mirrored"] = Mirrored(samples), 1.0
    if forward_weight is None:
        num_passes = getattr(student, "num_passes", math.inf)
        forward_weight = float(num_passes <= FORWARD_PASSES_MAX and not mirrored)
    if forward_weight:
        if not isinstance(student, Density):
            raise ValueError(
                f"'forward_weight' is {forward_weight} but {type(student).__name__} gives no "
                "density of its teacher's samples; set it to 0"
            )
        terms["forward_kl"] = JointForwardKL(samples)
        weights["forward_kl"] = forward_weight
    return Objective(teacher, student, terms, weights)  # type: ignore[arg-type]


def _open(
    out: Path | str | None,
    recipe: dict[str, Any] | None,
    config: TrainingConfig,
    seed: int,
    *,
    resume: bool,
    allow_changes: bool,
    beside: tuple[str, ...],
) -> RunFolder | None:
    if out is None:
        if resume:
            raise ValueError("there is nothing to resume without a folder; give 'out'")
        return None
    settings = recipe if recipe is not None else plain_settings(config)
    return open_run(
        *(Path(out), settings, seed), resume=resume, allow_changes=allow_changes, beside=beside
    )


def _has_begun(out: Path | str | None, *, resume: bool) -> bool:
    """Whether there is a checkpoint to go on from, which holds the scales already."""
    return resume and out is not None and RunFolder(Path(out)).has_begun


def _calibrate(model: nn.Module, source: Source) -> None:
    if isinstance(model, Calibrated):
        reference = source.reference(_REFERENCE_SAMPLES)
        model.calibrate(reference.x, reference.frames)

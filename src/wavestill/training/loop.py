"""`fit` and `distill`: the library calls behind the commands."""

from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from wavestill.audio.corpus import Corpus
from wavestill.density import as_density
from wavestill.distillation import Objective, StepDivergence
from wavestill.divergences import KL
from wavestill.settings import plain_settings
from wavestill.training.config import TrainingConfig, training_config
from wavestill.training.data import Data, NoiseSource, Source, source_of
from wavestill.training.distillation import Distillation
from wavestill.training.folder import RunFolder, open_run
from wavestill.training.history import History
from wavestill.training.likelihood import Likelihood
from wavestill.training.trainer import train

Model = TypeVar("Model", bound=nn.Module)

_REFERENCE_SAMPLES = 500_000
"""Samples that scales and a linear predictor are set by: plenty, and soon done."""


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
        model: Anything with `conditionals` (`Autoregressive`) or `log_prob` (`Density`) that is a
            module.
        data: A prepared `Corpus`; one long sequence `(N,)`, of which random crops are taken;
            sequences `(N, T)`; or vectors `(N, D)`.
        validation: Held-out material of the same kind; a corpus's own `valid` split where nothing
            is given.
        out: Folder of the run (figures, checkpoints, sounds); None: nothing is written.
        resume: Go on with the run in `out` from its last checkpoint.
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
    config = training_config(config, settings)
    data, validation = _in_precision(data, model), _in_precision(validation, model)
    source = source_of(
        data, batch_size=config.batch_size, clip_samples=config.clip_samples, seed=seed
    )
    skip = _skip_samples(config, model, source)
    held_out = _held_out(data, validation, config, seed, skip)
    task = Likelihood(
        model,
        config,
        seed,
        skip_samples=skip,
        grid_nats=source.grid_nats,
    )
    if calibrate and not _has_begun(out, resume=resume):
        _calibrate(model, source)
    run = _open(out, recipe, config, seed, resume=resume)
    return model, train(task, source, held_out, run, data, title="teacher", progress=progress)


def distill(
    teacher: object,
    student: Model,
    data: Data | None = None,
    *,
    length: int | None = None,
    objective: Objective | None = None,
    validation: Data | None = None,
    out: Path | str | None = None,
    resume: bool = False,
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
            with. None for unconditional teachers: the student's own noise is all that is needed.
        length: Samples per sequence where there are no data; `clip_samples` where it is not given.
        objective: Terms and weights; None: the KL divergence per step alone.
        validation: Held-out material; a corpus's own `valid` split where nothing is given.
        out: As for `fit`.
        resume: As for `fit`.
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
    config = training_config(config, settings)
    learner: object = student
    if objective is not None and objective.student is not learner:
        raise ValueError(
            "'objective' holds another student than the one to train; build it with this one"
        )
    data, validation = _in_precision(data, student), _in_precision(validation, student)
    density = as_density(teacher)
    skip = 0
    source: Source
    held_out: Source | None
    if data is None:
        source = NoiseSource(density, config.batch_size, length or config.clip_samples)
        held_out = source
    else:
        source = source_of(
            data, batch_size=config.batch_size, clip_samples=config.clip_samples, seed=seed
        )
        skip = _skip_samples(config, student, source)
        held_out = _held_out(data, validation, config, seed, skip)
    if calibrate and not _has_begun(out, resume=resume):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            _calibrate(student, source)
    if objective is None:
        objective = Objective(density, student, {"kl": StepDivergence(KL(), skip_samples=skip)})  # type: ignore[arg-type]
    spec = data.spec if isinstance(data, Corpus) else None
    task = Distillation(student, objective, config, seed, skip_samples=skip, spec=spec)
    run = _open(out, recipe, config, seed, resume=resume)
    return student, train(task, source, held_out, run, data, title="student", progress=progress)


def _open(
    out: Path | str | None,
    recipe: dict[str, Any] | None,
    config: TrainingConfig,
    seed: int,
    *,
    resume: bool,
) -> RunFolder | None:
    if out is None:
        if resume:
            raise ValueError("there is nothing to resume without a folder; give 'out'")
        return None
    settings = recipe if recipe is not None else plain_settings(config)
    return open_run(Path(out), settings, seed, resume=resume)


DataOrNone = TypeVar("DataOrNone", bound=Data | None)


def _in_precision(data: DataOrNone, model: nn.Module) -> DataOrNone:
    """Tensors in the model's own precision."""
    if isinstance(data, Tensor):
        return data.to(next(model.parameters()).dtype)  # type: ignore[return-value]
    return data


def _held_out(
    data: Data, validation: Data | None, config: TrainingConfig, seed: int, skip_samples: int
) -> Source | None:
    """Held-out batches; None where there are none longer than what is left out of the figures."""
    batch_size = min(config.batch_size, config.validation_clips)
    if validation is None:
        if not isinstance(data, Corpus) or len(data.split("valid")) == 0:
            return None
        validation = data
    split = "valid" if isinstance(validation, Corpus) else "train"
    held_out = source_of(
        validation,
        batch_size=batch_size,
        clip_samples=config.clip_samples,
        seed=seed + 1,
        split=split,
    )
    return held_out if held_out.clip_samples > skip_samples else None


def _skip_samples(config: TrainingConfig, model: nn.Module, source: Source) -> int:
    """Samples of a crop whose past was cut off; see `TrainingConfig.skip_samples`."""
    if source.whole:
        return 0
    if config.skip_samples is not None:
        return config.skip_samples
    reach = int(getattr(model, "receptive_field", 0))
    return min(reach, source.clip_samples // 4)


def _has_begun(out: Path | str | None, *, resume: bool) -> bool:
    """Whether there is a checkpoint to go on from, which holds the scales already."""
    return resume and out is not None and RunFolder(Path(out)).last_checkpoint is not None


def _calibrate(model: nn.Module, source: Source) -> None:
    if isinstance(model, Calibrated):
        reference = source.reference(_REFERENCE_SAMPLES)
        model.calibrate(reference.x, reference.frames)

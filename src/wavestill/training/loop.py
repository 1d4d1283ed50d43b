"""`fit` and `distill`: the library calls behind the commands."""

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from wavestill.audio.corpus import Corpus
from wavestill.density import Density, InverseAutoregressive, as_density
from wavestill.distillation import Objective, StepDivergence
from wavestill.divergences import KL
from wavestill.settings import plain_settings
from wavestill.training.callbacks.averaging import Averaging
from wavestill.training.callbacks.budget import Budget
from wavestill.training.callbacks.checkpoints import Checkpoints
from wavestill.training.callbacks.figures import Figures
from wavestill.training.callbacks.progress import ProgressLine
from wavestill.training.callbacks.sounds import Sounds, sounds_of
from wavestill.training.callbacks.validation import Validation
from wavestill.training.config import TrainingConfig, in_bfloat16, training_config
from wavestill.training.data import Data, NoiseSource, Source, Steps, source_of
from wavestill.training.distillation import Distillation
from wavestill.training.folder import RunFolder, open_run
from wavestill.training.history import History
from wavestill.training.likelihood import Likelihood
from wavestill.training.module import Task

Model = TypeVar("Model", bound=nn.Module)

_REFERENCE_SAMPLES = 500_000
"""Samples that scales and a linear predictor are set by: plenty, and soon done."""


_SOUND_SECONDS = {True: 5.0, False: 1.0}
"""Length of the sounds drawn while training: one parallel pass affords more than sequential sampling."""


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
    r"""Train a density by maximum likelihood, :math:`\min_\theta -\mathbb{E} \log p_\theta(x \mid c)`.

    The model is trained in place and ends with its averaged weights, in eval mode.

    Arguments:
        model: Anything with `conditionals` (`Autoregressive`) or `log_prob` (`Density`) that is a module.
        data: A prepared `Corpus`; one long sequence `(N,)`, of which random crops are taken; sequences `(N, T)`; or
            vectors `(N, D)`.
        validation: Held-out material of the same kind; a corpus's own `valid` split where nothing is given.
        out: Folder of the run (figures, checkpoints, sounds); None: nothing is written.
        resume: Go on with the run in `out` from its last checkpoint.
        seed: Seed of batches, noise and dropout.
        config: The settings as one object; `settings` are changed in it.
        calibrate: Let the model take scales and predictor from the data first; not for one that was trained before.
        progress: Show a bar on standard error; None: if it is a terminal.
        recipe: What to keep as recipe.yaml; None: the settings.
        **settings: Fields of `TrainingConfig`, e.g. `max_steps=1000`, `minutes=5`, `learning_rate=1e-3`.

    Returns:
        The model, and the figures of the run by step (`nats`, `valid_nats`, in nats per sample).

    Raises:
        ValueError: If a setting is unknown or out of range, the data have the wrong shape or values, `out` holds a
            run that was not to be resumed, or the loss stops being finite.

    Example:
        >>> from wavestill.models import WaveNet, WaveNetConfig
        >>> teacher = WaveNet(WaveNetConfig(layers=3, residual_channels=4, gate_channels=4, head="gaussian"))
        >>> teacher, history = fit(teacher, torch.randn(2000), max_steps=2, clip_samples=100)
        >>> history.column("step")
        [2.0]
    """
    config = training_config(config, settings)
    source = source_of(data, batch_size=config.batch_size, clip_samples=config.clip_samples, seed=seed)
    held_out = _held_out(data, validation, config, seed)
    task = Likelihood(
        model, config, seed, skip_samples=_skip_samples(config, model, source), grid_nats=source.grid_nats
    )
    if calibrate and not resume:
        _calibrate(model, source)
    run = _open(out, recipe, config, seed, resume=resume)
    return model, _train(task, source, held_out, run, data, title="teacher", progress=progress)


def distill(
    teacher: Any,
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
    r"""Train a student on its teacher, :math:`\min_\theta \mathrm{KL}(q_\theta \| p) + \sum_i w_i L_i`.

    The student is trained in place and ends with its averaged weights, in eval mode; the teacher is not touched.

    Arguments:
        teacher: A density, or anything `as_density` takes.
        student: An inverse autoregressive density (`rsample`) that is a module.
        data: As for `fit`: what the samples are conditioned on and, for spectral terms, compared with. None for
            unconditional teachers: the student's own noise is all that is needed.
        length: Samples per sequence where there are no data; `clip_samples` where it is not given.
        objective: Terms and weights; None: the KL divergence per step alone.
        validation: Held-out material; a corpus's own `valid` split where nothing is given.
        out: As for `fit`.
        resume: As for `fit`.
        seed: As for `fit`.
        config: As for `fit`.
        calibrate: Let the student take its scale from the data (from draws of the teacher where there are none).
        progress: As for `fit`.
        recipe: As for `fit`.
        **settings: Fields of `TrainingConfig`.

    Returns:
        The student, and the figures of the run by step (each term; `valid_kl_nats`, `valid_tv` per sample).

    Raises:
        ValueError: As for `fit`; and if a term of the objective needs recordings but there are none.
    """
    config = training_config(config, settings)
    density = as_density(teacher)
    skip = 0
    source: Source
    held_out: Source | None
    if data is None:
        source = NoiseSource(density, config.batch_size, length or config.clip_samples)
        held_out = source
    else:
        source = source_of(data, batch_size=config.batch_size, clip_samples=config.clip_samples, seed=seed)
        held_out = _held_out(data, validation, config, seed)
        skip = _skip_samples(config, student, source)
    if calibrate and not resume:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            _calibrate(student, source)
    if objective is None:
        objective = Objective(density, student, {"kl": StepDivergence(KL(), skip_samples=skip)})  # type: ignore[arg-type]
    spec = data.spec if isinstance(data, Corpus) else None
    task = Distillation(student, objective, config, seed, skip_samples=skip, spec=spec)
    run = _open(out, recipe, config, seed, resume=resume)
    return student, _train(task, source, held_out, run, data, title="student", progress=progress)


def _open(
    out: Path | str | None, recipe: dict[str, Any] | None, config: TrainingConfig, seed: int, *, resume: bool
) -> RunFolder | None:
    if out is None:
        if resume:
            raise ValueError("there is nothing to resume without a folder; give 'out'")
        return None
    settings = recipe if recipe is not None else plain_settings(config)
    return open_run(Path(out), settings, seed, resume=resume)


def _held_out(data: Data, validation: Data | None, config: TrainingConfig, seed: int) -> Source | None:
    batch_size = min(config.batch_size, config.validation_clips)
    if validation is None:
        if not isinstance(data, Corpus) or len(data.split("valid")) == 0:
            return None
        validation = data
    split = "valid" if isinstance(validation, Corpus) else "train"
    return source_of(
        validation, batch_size=batch_size, clip_samples=config.clip_samples, seed=seed + 1, split=split
    )


def _skip_samples(config: TrainingConfig, model: nn.Module, source: Source) -> int:
    """Samples of a crop whose past was cut off; see `TrainingConfig.skip_samples`."""
    if source.whole:
        return 0
    if config.skip_samples is not None:
        return config.skip_samples
    reach = int(getattr(model, "receptive_field", 0))
    return min(reach, source.clip_samples // 4)


def _calibrate(model: nn.Module, source: Source) -> None:
    if isinstance(model, Calibrated):
        reference = source.reference(_REFERENCE_SAMPLES)
        model.calibrate(reference.x, reference.frames)


def _train(
    task: Task,
    source: Source,
    held_out: Source | None,
    run: RunFolder | None,
    data: Data | None,
    *,
    title: str,
    progress: bool | None,
) -> History:
    """Run the Trainer over a task; its model ends with averaged weights."""
    config = task.config
    checkpoint = None if run is None else run.last_checkpoint
    history = History(None if run is None else run.metrics)
    budget = Budget(config)
    averaging = Averaging(config.averaging)
    validation = None
    if held_out is not None:
        num_batches = -(-config.validation_clips // min(config.batch_size, config.validation_clips))
        validation = Validation(held_out, num_batches, averaging)
    writer = None if run is None else SummaryWriter(str(run.tensorboard))
    figures = Figures(history, budget, validation, config, writer)
    callbacks: list[pl.Callback] = [budget, averaging, figures]
    if run is not None and writer is not None:
        if config.sound_minutes is not None and isinstance(data, Corpus):
            seconds = _SOUND_SECONDS[isinstance(task.model, InverseAutoregressive)]
            callbacks.append(
                sounds_of(
                    data, run.sounds, writer, averaging, every_minutes=config.sound_minutes, seconds=seconds
                )
            )
        callbacks.append(Checkpoints(run.checkpoints, config.checkpoint_minutes))
    if sys.stderr.isatty() if progress is None else progress:
        callbacks.append(ProgressLine(title, budget, history))

    with _quiet(), torch.random.fork_rng():
        trainer = pl.Trainer(
            accelerator="auto",
            devices=1,
            max_steps=config.max_steps or -1,
            max_epochs=-1,
            precision="bf16-mixed" if in_bfloat16(config.precision) else "32-true",
            gradient_clip_val=config.clip_norm,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        first_step = 0
        if checkpoint is not None:
            first_step = int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])
        task.train()
        in_main_thread = threading.current_thread() is threading.main_thread()
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(
                task,
                DataLoader(Steps(source, first_step), batch_size=None),
                ckpt_path=None if checkpoint is None else str(checkpoint),
                weights_only=True,
            )
        except SystemExit as interruption:  # what Lightning makes of a KeyboardInterrupt
            raise KeyboardInterrupt from interruption
        finally:
            if in_main_thread:
                signal.signal(signal.SIGINT, on_interrupt)
            if writer is not None:
                writer.close()
    averaging.keep(task)
    task.model.eval()
    return history


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice is not for our users: what they need to know, we tell them."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*(num_workers|LeafSpec|eval mode|bf16|TensorBoard).*")
            yield
    finally:
        logger.setLevel(level)

"""Lightning's Trainer over a task, with everything that happens around its steps."""

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch.utils.tensorboard import SummaryWriter

from wavestill.audio.corpus import Corpus
from wavestill.density import InverseAutoregressive
from wavestill.training.callbacks.averaging import Averaging
from wavestill.training.callbacks.budget import Budget
from wavestill.training.callbacks.checkpoints import Checkpoints
from wavestill.training.callbacks.figures import Figures
from wavestill.training.callbacks.patience import Patience
from wavestill.training.callbacks.progress import ProgressLine
from wavestill.training.callbacks.sounds import sounds_of
from wavestill.training.callbacks.validation import Validation
from wavestill.training.config import TrainingConfig, in_bfloat16
from wavestill.training.data import Batch, Data, Source, Steps
from wavestill.training.folder import RunFolder
from wavestill.training.history import History
from wavestill.training.module import Task

_SOUND_SECONDS = {True: 5.0, False: 1.0}
"""Length of sounds drawn while training: a parallel pass affords more than sequential steps."""


def train(
    task: Task,
    source: Source,
    held_out: list[Batch] | None,
    run: RunFolder | None,
    data: Data | None,
    *,
    title: str,
    criterion: str,
    progress: bool | None,
) -> History:
    """Train a task; its model ends with averaged weights, in eval mode.

    Arguments:
        task: What is trained.
        source: Its batches.
        held_out: Batches to validate on; None: no validation.
        run: Its folder, whose last checkpoint is gone on from; None: nothing is written.
        data: Where the sounds to listen to come from, if it is a corpus.
        title: What the progress bar says.
        criterion: The held-out figure that `patience` waits for.
        progress: Show the bar; None: if standard error is a terminal.

    Raises:
        KeyboardInterrupt: If interrupted; the run's checkpoint is then up to date.
        ValueError: If the run's checkpoint is damaged or of another model.
    """
    config = task.config
    checkpoint = None if run is None else run.last_checkpoint
    history = History(None if run is None else run.metrics)
    budget = Budget(config)
    averaging = Averaging(config.averaging)
    validation = None
    if held_out is not None:
        validation = Validation(held_out, averaging)
    writer = None if run is None else SummaryWriter(str(run.tensorboard))
    callbacks: list[pl.Callback] = [
        budget,
        averaging,
        Figures(history, budget, validation, config, writer),
    ]
    patience = None
    if config.patience is not None:
        assert validation is not None, "early stopping has held-out material"
        patience = Patience(config.patience, criterion, history, averaging)
        callbacks.append(patience)
    if run is not None and writer is not None:
        if config.sound_minutes is not None and isinstance(data, Corpus):
            seconds = _SOUND_SECONDS[isinstance(task.model, InverseAutoregressive)]
            callbacks.append(
                sounds_of(
                    data,
                    run.sounds,
                    writer,
                    averaging,
                    every_minutes=config.sound_minutes,
                    seconds=seconds,
                )
            )
        callbacks.append(Checkpoints(run.checkpoints, config.checkpoint_minutes))
    if sys.stderr.isatty() if progress is None else progress:
        callbacks.append(ProgressLine(title, budget, history))

    first_step = 0
    if checkpoint is not None:
        first_step = _step_of(checkpoint)
    task.train()
    try:
        with _quiet(), _own_interrupts(), torch.random.fork_rng():
            _trainer(config, callbacks).fit(
                task,
                Steps(source, first_step),
                ckpt_path=None if checkpoint is None else str(checkpoint),
                weights_only=True,
            )
    finally:
        if writer is not None:
            writer.close()
    if patience is not None:
        patience.restore()
    averaging.keep(task)
    task.model.eval()
    return history


def _step_of(checkpoint: Path) -> int:
    """Steps that a checkpoint has behind it."""
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        for part in ("pytorch-lightning_version", "state_dict", "optimizer_states", "callbacks"):
            state[part]
        return int(state["global_step"])
    except Exception as error:  # torch's own unpickler fails on rubbish in any way there is
        raise ValueError(
            f"'{checkpoint}' is damaged ({' '.join(str(error).split())[:100] or 'empty'}); "
            "begin the run anew in another folder"
        ) from error


def _trainer(config: TrainingConfig, callbacks: list[pl.Callback]) -> pl.Trainer:
    return pl.Trainer(
        # Apple's and other accelerators lack float64, which some of our sums need.
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
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


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """An interrupt stays one: Lightning turns it into an exit, and Ctrl-C off for good."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as interruption:
        raise KeyboardInterrupt from interruption
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice is not for our users: what they need to know, we tell them."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings(
                "ignore", message=".*(num_workers|LeafSpec|eval mode|bf16|TensorBoard).*"
            )
            yield
    finally:
        logger.setLevel(level)

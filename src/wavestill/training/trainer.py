"""Lightning's Trainer over a task, with everything that happens around its steps."""

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.tensorboard import SummaryWriter

from wavestill.audio.corpus import Corpus
from wavestill.density import InverseAutoregressive
from wavestill.training.callbacks.averaging import Averaging
from wavestill.training.callbacks.budget import Budget
from wavestill.training.callbacks.checkpoints import Checkpoints
from wavestill.training.callbacks.figures import Figures
from wavestill.training.callbacks.guard import Guard
from wavestill.training.callbacks.patience import Patience
from wavestill.training.callbacks.progress import ProgressLine
from wavestill.training.callbacks.signals import Signals
from wavestill.training.callbacks.sounds import sounds_of
from wavestill.training.callbacks.validation import Validation
from wavestill.training.checkpoint import WholeFiles, read_checkpoint
from wavestill.training.compiling import compiled
from wavestill.training.config import TrainingConfig, in_bfloat16
from wavestill.training.data import Batch, Data, Source
from wavestill.training.feeding import Steps
from wavestill.training.folder import RunFolder
from wavestill.training.hardware import Hardware, num_processes, writes
from wavestill.training.history import History
from wavestill.training.journal import Journal
from wavestill.training.module import Task

_SOUND_SECONDS = {True: 5.0, False: 1.0}
"""Length of sounds drawn while training: a parallel pass affords more than sequential steps."""

_OF_THE_NETWORK = ("gloo", "NCCL", "closed by peer", "reset by peer", "Broken pipe")


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
    hardware: Hardware,
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
        hardware: What it is trained on.

    Raises:
        KeyboardInterrupt: If interrupted; the run's checkpoint is then up to date.
        SystemExit: With status 0, if told to terminate (SIGTERM); as well.
        ValueError: If the run's checkpoints are damaged or of another model, batches cannot be
            shared out equally, or training diverges.
    """
    config, first = task.config, writes()
    _require_shares(config, hardware)
    journal = Journal(run, speaks=first)
    checkpoint = None if run is None else _good_checkpoint(run, task, journal)
    state = {} if checkpoint is None else read_checkpoint(checkpoint)
    task.step = int(state.get("global_step", 0))
    steps = Steps(source, task.step, journal.note)
    history = History(run.metrics if run is not None and first else None)
    budget = Budget(config)
    averaging = Averaging(config.averaging)
    guard = Guard(config, averaging, budget, journal.note)
    validation = None if held_out is None else Validation(held_out, averaging)
    writer = SummaryWriter(str(run.tensorboard)) if run is not None and first else None
    callbacks: list[pl.Callback] = [
        budget,
        averaging,
        guard,
        Figures(history, budget, guard, steps, validation, config, writer),
    ]
    patience = None
    if config.patience is not None:
        assert validation is not None, "early stopping has held-out material"
        patience = Patience(config.patience, criterion, history, averaging)
        callbacks.append(patience)
    signals = Signals()
    if run is not None:
        if config.sound_minutes is not None and isinstance(data, Corpus) and writer is not None:
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
        files = run.checkpoints
        callbacks += [signals, Checkpoints(files, config.checkpoint_minutes, guard)]
    if first and (sys.stderr.isatty() if progress is None else progress):
        callbacks.append(ProgressLine(title, budget, history))
    budget.load_state_dict(state.get("callbacks", {}).get("Budget", budget.state_dict()))
    is_over = budget.share(task.step) >= 1

    task.train()
    try:
        with ExitStack() as around:
            if config.compile:
                around.enter_context(compiled(task, None if run is None else run.compiled))
            around.enter_context(_quiet())
            around.enter_context(_own_signals(signals))
            around.enter_context(_other_processes())
            around.enter_context(torch.random.fork_rng())
            _trainer(config, hardware, callbacks, is_over=is_over).fit(
                task,
                steps,
                ckpt_path=None if checkpoint is None else str(checkpoint),
                weights_only=True,
            )
    finally:
        if writer is not None:
            writer.close()
    _end_if_told_to(signals, task, journal)
    if patience is not None:
        patience.restore()
    averaging.keep(task)
    task.model.eval()
    return history


def _require_shares(config: TrainingConfig, hardware: Hardware) -> None:
    """Check that a batch can be cut into equal parts."""
    num_parts = hardware.num_processes * config.accumulate
    if config.batch_size % num_parts:
        raise ValueError(
            f"'batch_size' is {config.batch_size} clips a step, which {hardware.num_processes} "
            f"processes with 'accumulate' {config.accumulate} cannot share equally; make it a "
            f"multiple of {num_parts}"
        )


def _good_checkpoint(run: RunFolder, task: Task, journal: Journal) -> Path | None:
    """The newest checkpoint that is whole and of this task; those passed over are named.

    Raises:
        ValueError: If there are checkpoints, but none that can be gone on from.
    """
    reasons = []
    for path in run.checkpoints.existing:
        try:
            task.require_own(read_checkpoint(path)["state_dict"])
        except ValueError as error:
            reasons.append(str(error) if str(path) in str(error) else f"'{path}': {error}")
            continue
        for reason in reasons:
            journal.note(f"{reason}; the run goes on from '{path}', the one before it")
        return path
    if reasons:
        raise ValueError(f"{'; '.join(reasons)}; begin the run anew in another folder")
    return None


def _trainer(
    config: TrainingConfig, hardware: Hardware, callbacks: list[pl.Callback], *, is_over: bool
) -> pl.Trainer:
    of_hardware: dict[str, Any] = hardware.for_trainer()
    plugins = [WholeFiles(), *(of_hardware.pop("plugins") or [])]
    return pl.Trainer(
        **of_hardware,
        plugins=plugins,
        max_steps=0 if is_over else -1,  # `Budget` ends the run: it knows of skipped steps
        max_epochs=-1,
        precision="bf16-mixed" if in_bfloat16(config.precision) else "32-true",
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _end_if_told_to(signals: Signals, task: Task, journal: Journal) -> None:
    """End as the signal asks for; the last checkpoint is written."""
    if signals.received is signal.SIGINT:
        raise KeyboardInterrupt
    if signals.received is not None:
        journal.note(
            f"told to terminate ({signals.received.name}): the run is kept up to step "
            f"{task.step}; go on with --resume"
        )
        raise SystemExit(0)


@contextmanager
def _own_signals(signals: Signals) -> Iterator[None]:
    """Signals stay what they are: Lightning turns one into an exit, and Ctrl-C off for good."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SIGTERMException:  # it came before `signals` had begun to listen
        signals.received = signal.SIGTERM
    except SystemExit as interruption:
        raise KeyboardInterrupt from interruption
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def _other_processes() -> Iterator[None]:
    """Where another process is gone, waiting for it ends in an error of the network: say so."""
    try:
        yield
    except RuntimeError as error:
        if num_processes() == 1 or not any(word in str(error) for word in _OF_THE_NETWORK):
            raise
        raise ValueError(
            "another process of this run has ended, or cannot be reached; the last checkpoint is "
            f"as it was: see what ended it, then go on with --resume ({str(error)[:80]})"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice is not for our users: what they need to know, we tell them."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings(
                "ignore", message=".*(num_workers|LeafSpec|eval mode|bf16|TensorBoard).*"
            )
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

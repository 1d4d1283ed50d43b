"""Runs in processes of their own, to be killed; forked, so that they start at once."""

import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import wavestill
from wavestill import IAFWaveNet, IAFWaveNetConfig, WaveNet, WaveNetConfig
from wavestill.distillation import ObjectiveConfig
from wavestill.distillation.adversarial import AdversarialConfig
from wavestill.known_truth import GaussianAR2
from wavestill.training.history import History

TEACHER = WaveNetConfig(
    layers=3,
    dilation_cycle=3,
    residual_channels=8,
    gate_channels=8,
    skip_channels=8,
    head="gaussian",
    dropout=0.1,
)
STUDENT = IAFWaveNetConfig(flows=(2, 2), dilation_cycle=2, channels=8, base="normal")

SETTINGS: dict[str, Any] = {
    "max_steps": 40,
    "batch_size": 4,
    "clip_samples": 300,
    "warmup_steps": 5,
    "averaging": 0.9,
    "log_every_steps": 1,
    "validate_every_steps": 10,
    "checkpoint_minutes": 1e-9,  # after every step
    "seed": 3,
}


def process_data(num: int = 8, length: int = 1000) -> Tensor:
    return GaussianAR2(0.9, 0.5, 0.1).sample(num, length, torch.Generator().manual_seed(0))


def teacher(**changes: Any) -> WaveNet:
    torch.manual_seed(0)
    return WaveNet(replace(TEACHER, **changes))


def student() -> IAFWaveNet:
    torch.manual_seed(1)
    return IAFWaveNet(STUDENT)


class Runs:
    """Small runs of either kind, here or in a process that can be killed."""

    teacher = staticmethod(teacher)
    student = staticmethod(student)
    data = staticmethod(process_data)

    def fit(self, out: Path | None, **settings: Any) -> tuple[nn.Module, History]:
        model = settings.pop("model", None) or teacher()
        data = settings.pop("data", None)
        data = process_data() if data is None else data
        chosen = {**SETTINGS, "validation": process_data(2), **settings}
        return wavestill.fit(model, data, out=out, **chosen)

    def distil(self, out: Path | None, **settings: Any) -> tuple[nn.Module, History]:
        learner, taught = student(), teacher(dropout=0.0)
        taught.calibrate(process_data())
        objective = ObjectiveConfig(
            weights={"magnitude": 1.0, "adversarial": 0.1},
            adversarial=AdversarialConfig(after_steps=0, channels=2),
        )
        built = objective.build(taught, learner, sample_rate=2000)  # windows of 100 and less
        chosen = {**SETTINGS, "validation": process_data(2), **settings}
        return wavestill.distill(
            taught, learner, process_data(), objective=built, out=out, **chosen
        )

    def apart(self, run: Callable[[], object], log: Path) -> ForkProcess:
        """Start it in a process of its own; what it says goes to `log`."""
        process = get_context("fork").Process(target=_logged, args=(run, log), daemon=True)
        process.start()
        return process


def _logged(run: Callable[[], object], log: Path) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), 2)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        logging.getLogger().handlers.clear()  # pytest's
        torch.set_num_threads(1)
        try:
            run()
        except (ValueError, RuntimeError, KeyboardInterrupt) as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        except SystemExit as end:
            os._exit(int(end.code or 0))
        os._exit(0)


@pytest.fixture
def runs(one_thread: None) -> Runs:
    return Runs()


def wait_for(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something has happened, but not for ever."""
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def wait() -> Callable[..., None]:
    return wait_for


@pytest.fixture
def same() -> Callable[[nn.Module, nn.Module], None]:
    """That two models hold the same weights, to the bit."""

    def check(ours: nn.Module, theirs: nn.Module) -> None:
        for (name, one), other in zip(
            ours.state_dict().items(), theirs.state_dict().values(), strict=True
        ):
            assert torch.equal(one, other), name

    return check


@pytest.fixture
def together() -> Callable[..., list[ForkProcess]]:
    """Start a run in several processes as torchrun would."""

    def start(run: Callable[[], object], num: int, logs: Path) -> list[ForkProcess]:
        with contextlib.closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        logs.mkdir(exist_ok=True)

        def as_process(rank: int) -> Callable[[], object]:
            def launched() -> object:
                os.environ |= {
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "WORLD_SIZE": str(num),
                    "LOCAL_WORLD_SIZE": str(num),
                    "TORCHELASTIC_RUN_ID": "test",
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port),
                }
                return run()

            return launched

        return [Runs().apart(as_process(rank), logs / f"{rank}.log") for rank in range(num)]

    return start

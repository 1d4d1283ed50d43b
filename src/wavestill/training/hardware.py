"""On how many processes a run trains, and which of them this one is."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Hardware:
    """Where a run trains. Every process trains on one device and has its share of every batch.

    Arguments:
        devices: Devices per machine, each with a process of its own. Left out: as many as torchrun
            or srun started, otherwise one.
        num_nodes: Machines. Left out: as many as torchrun or srun started on, otherwise one.
        accelerator: cpu, cuda, or auto: a GPU where there is one.
        strategy: How processes train together. ddp: each holds the model and the gradients are
            averaged; auto: that, where there are several.
    """

    devices: int | None = None
    num_nodes: int | None = None
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    strategy: Literal["auto", "ddp"] = "auto"

    def __post_init__(self) -> None:
        for name in ("devices", "num_nodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"'trainer.{name}' is {value}; it must be 1 or more")
        if self.accelerator == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                "'trainer.accelerator' is 'cuda' but there is no CUDA device; leave it out"
            )
        started, asked = _started(), (self.devices, self.num_nodes)
        for name, number, wanted in zip(("devices", "num_nodes"), started, asked, strict=True):
            if number is not None and wanted is not None and number != wanted:
                raise ValueError(
                    f"'trainer.{name}' is {wanted} but the launcher started {number}; "
                    "leave it out, or give the launcher the same"
                )

    @property
    def num_devices(self) -> int:
        """Processes on each machine."""
        return self.devices or _started()[0] or 1

    @property
    def num_machines(self) -> int:
        """Machines."""
        return self.num_nodes or _started()[1] or 1

    @property
    def num_processes(self) -> int:
        """Processes in all."""
        return self.num_devices * self.num_machines

    def for_trainer(self) -> dict[str, Any]:
        """What Lightning's Trainer is told of it."""
        # Apple's and other accelerators lack float64, which some of our sums need.
        on_gpu = torch.cuda.is_available() and self.accelerator != "cpu"
        together = self.num_processes > 1 or self.strategy == "ddp"
        return {
            "accelerator": "cuda" if on_gpu else "cpu",
            "devices": self.num_devices,
            "num_nodes": self.num_machines,
            "strategy": Replicas() if together else "auto",
            "plugins": _environment(),
        }


class Replicas(DDPStrategy):
    """The same model in every process; `average_gradients` makes their steps the same.

    Lightning's launchers and process groups without torch's gradient buckets, which demand that
    every parameter takes part in every backward pass, and just once: steps here are accumulated,
    cut into pieces, skipped, and shared with terms that train networks of their own. What is given
    up is the overlap of communication with the backward pass: one exchange of the gradients'
    bytes per step.
    """

    def configure_ddp(self) -> None:
        """Begin with the first process's weights in all of them."""
        assert self.lightning_module is not None
        for value in self.lightning_module.state_dict().values():
            if isinstance(value, Tensor):
                distributed.broadcast(value, src=0)


def average_gradients(
    parameters: list[nn.Parameter], loss: Tensor, statistics: Sequence[Tensor] = ()
) -> Tensor:
    """Replace gradients, and running statistics, by their means over all processes; the mean loss.

    One exchange of everything in one vector; nothing happens where there is one process.
    """
    if num_processes() == 1:
        return loss
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    shared = [*(p.grad for p in parameters if p.grad is not None), *statistics]
    dtype = loss.dtype if not parameters else parameters[0].dtype
    flat = torch.cat([*(value.flatten().to(dtype) for value in shared), loss.reshape(1).to(dtype)])
    distributed.all_reduce(flat)
    flat /= num_processes()
    parts = torch.split(flat[:-1], [value.numel() for value in shared])
    for value, part in zip(shared, parts, strict=True):
        value.copy_(part.view_as(value))
    return flat[-1]


def mean_over_processes(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Means of figures that all processes have, under the same names."""
    if num_processes() == 1 or not values:
        return values
    names = sorted(values)
    stacked = torch.stack([values[name].detach().float().reshape(()) for name in names])
    distributed.all_reduce(stacked)
    return dict(zip(names, (stacked / num_processes()).unbind(), strict=True))


def of_first(value: float, device: torch.device) -> float:
    """The first process's value, in all of them."""
    if num_processes() == 1:
        return value
    told = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.broadcast(told, src=0)
    return float(told)


def num_processes() -> int:
    """Processes that train together; 1 before they have found each other."""
    return distributed.get_world_size() if _together() else 1


def process_number() -> int:
    """Which of them this is; the launcher's word for it before they have found each other."""
    if _together():
        return distributed.get_rank()
    for name in ("RANK", "LOCAL_RANK", *(("SLURM_PROCID",) if _under_srun() else ())):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def writes() -> bool:
    """Whether this process is the one that writes files and speaks to the user."""
    return process_number() == 0


def launched() -> tuple[int, int]:
    """Number of this process, and of those that torchrun or srun started; (0, 1) alone."""
    if _under_torchrun():
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if _under_srun():
        return int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
    return 0, 1


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ and "LOCAL_WORLD_SIZE" in os.environ


def _under_srun() -> bool:
    # a batch script, or a shell in an allocation, has SLURM's other variables too
    return "SLURM_STEP_ID" in os.environ and "SLURM_NTASKS" in os.environ and not _under_torchrun()


def _environment() -> list[Any] | None:
    """Where processes come from; torchrun Lightning finds by itself."""
    if _under_srun():
        # Our runs go on by --resume; Lightning's own requeueing would lose their place.
        return [SLURMEnvironment(auto_requeue=False)]
    return None if _under_torchrun() else [LightningEnvironment()]


def _started() -> tuple[int | None, int | None]:
    """Processes per machine, and machines, that a launcher has started; None where none has."""
    if _under_torchrun():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    if _under_srun():
        machines = int(os.environ.get("SLURM_NNODES", "1"))
        return int(os.environ["SLURM_NTASKS"]) // machines, machines
    return None, None

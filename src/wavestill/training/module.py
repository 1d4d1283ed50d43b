"""What the Trainer is given: a loss, its descent, an optimiser; of models only the protocols."""

from abc import abstractmethod
from typing import Any, Protocol

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from wavestill.training.config import TrainingConfig
from wavestill.training.data import Batch, step_seed
from wavestill.training.hardware import average_gradients, process_number

_APART = 0x9E3779B97F4A7C15
"""Keeps the random numbers of a step's parts apart: 2^64 over the golden ratio."""


class Judge(Protocol):
    """Says whether a step may be made."""

    def allows(self, step: int, loss: float, gradient_norm: float) -> bool:
        """Whether the optimiser may follow these gradients."""
        ...


class Task(pl.LightningModule):
    r"""A density in training.

    One optimiser step descends the mean loss of a batch. With `N` processes and `accumulate` parts
    in each, the batch is cut into :math:`N \cdot A` parts of equal size:

    .. math:: g = \frac{1}{N A} \sum_{i=1}^{NA} \nabla L(\text{part}_i)

    Every part has random numbers of its own, by (seed, step, part): however many processes compute
    the parts, the step is the same but for the rounding of the sum.

    Arguments:
        model: The density whose parameters are trained.
        config: The run's settings.
        seed: Seed of the run; step `k` of a run always sees the same batch, noise and dropout.

    Attributes:
        step: Steps behind the run, those skipped included.
        accepted: Whether the newest of them moved the weights.
        values: Its figures.
        judge: Says whether a step may be made; None: all may.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig, seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.config = config
        self.seed = seed
        self.step = 0
        self.accepted = False
        self.values: dict[str, Tensor] = {}
        self.judge: Judge | None = None

    @property
    @abstractmethod
    def headline(self) -> str:
        """The figure to show in passing: one of the names that `losses` gives."""

    @property
    def changing(self) -> tuple[str, ...]:
        """How the names of all begin that changes in training, and is saved."""
        return ("model.",)

    @abstractmethod
    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to descend, a scalar, and figures to log."""

    @abstractmethod
    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """Figures of held-out material as they are reported: without floors and caps."""

    def descend(self, batch: Batch, share: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Add `share` of the loss's gradient to the parameters'; the loss and its figures."""
        loss, values = self.losses(batch)
        self.backward_of(loss * share)
        return loss.detach(), values

    def after_step(self, batch: Batch) -> dict[str, Tensor]:
        """After a step that was made: what trains beside the model. Its figures join the row.

        A second optimiser is what `configure_optimizers` returns beside the first; here it is
        `self.trainer.optimizers[1]`, and its gradients are averaged by `average_gradients`.
        """
        return {}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Lightning's hook: one optimiser step, its figures kept for the callbacks."""
        optimizer, parameters = self.trainer.optimizers[0], self.trained()
        optimizer.zero_grad(set_to_none=True)
        num_parts = self.config.accumulate
        sums: dict[str, Tensor] = {}
        total = torch.zeros((), device=self.device)
        for number, part in enumerate(batch.parts(num_parts)):
            seed_all(self._seed_of(process_number() * num_parts + number))
            loss, values = self.descend(part, 1 / num_parts)
            total = total + loss / num_parts
            for name, value in values.items():
                share = value.detach() / num_parts
                sums[name] = sums[name] + share if name in sums else share
        total = average_gradients(parameters, total, self.statistics())
        norm = nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        told = torch.stack([total.float(), norm.float()]).tolist()  # one wait for the device
        self.accepted = self.judge is None or self.judge.allows(self.step, *told)
        if self.accepted:
            optimizer.step()
            torch.clear_autocast_cache()  # casts of the weights as they were
            seed_all(self._seed_of(-1 - process_number()))
            sums |= {name: value.detach() for name, value in self.after_step(batch).items()}
            torch.clear_autocast_cache()
        self.values = {**sums, "gradient_norm": norm.detach()}
        self.step += 1

    def backward_of(self, loss: Tensor) -> None:
        """Gradients of one part or piece: backward passes choose no precision of their own."""
        with torch.autocast(self.device.type, enabled=False):
            loss.backward()  # type: ignore[no-untyped-call]
        torch.clear_autocast_cache()  # the casts belong to the graph that is gone

    def average_gradients(self, parameters: list[nn.Parameter], loss: Tensor) -> Tensor:
        """Gradients become their means over all processes; the mean loss."""
        return average_gradients(parameters, loss)

    def statistics(self) -> list[Tensor]:
        """Running statistics of batches, which processes share."""
        return []

    def trained(self) -> list[nn.Parameter]:
        """The parameters in training."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def configure_optimizers(self) -> Any:  # noqa: ANN401  (one optimiser, or several in a list)
        """Lightning's hook: Adam; `Budget` sets its rate before every step."""
        rate = self.config.learning_rate
        return torch.optim.Adam(self.trained(), lr=rate, betas=self.config.betas, foreach=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook: only what changes is saved; a frozen teacher has its own file."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {
            name: value for name, value in state.items() if name.startswith(self.changing)
        }
        checkpoint["global_step"] = self.step

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook: the rest of the state is what this task was built with.

        Raises:
            ValueError: If the checkpoint is of another model.
        """
        self.require_own(checkpoint["state_dict"])
        checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}
        self.step = int(checkpoint["global_step"])

    def require_own(self, saved: dict[str, Tensor]) -> None:
        """Check that a saved state is of this task.

        Raises:
            ValueError: If it is of another model.
        """
        own = {k: v for k, v in self.state_dict().items() if k.startswith(self.changing)}
        for name in sorted(own.keys() | saved.keys()):
            if name not in own or name not in saved or own[name].shape != saved[name].shape:
                raise ValueError(
                    f"the checkpoint is of another model ('{name}' differs); "
                    "resume with the recipe the run began with, or choose another folder"
                )

    def _seed_of(self, part: int) -> int:
        # Seeded by the step, not carried along: a resumed run needs no generator's state.
        # The complement keeps the noise apart from the crops, which are drawn by the same number.
        return int((2**63 - 1 - step_seed(self.seed, self.step) + part * _APART) % 2**63)


def seed_all(seed: int) -> None:
    """`torch.manual_seed` for every step: where there is no GPU that one files a stack trace each.

    On two-dimensional problems the traces were a seventh of a step, and they were never let go.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)

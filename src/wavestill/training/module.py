"""What the Trainer is given: a loss and an optimiser; of models only the protocols are known."""

from abc import abstractmethod
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from wavestill.training.config import TrainingConfig
from wavestill.training.data import Batch, step_seed


class Task(pl.LightningModule):
    """A density in training.

    Arguments:
        model: The density whose parameters are trained.
        config: The run's settings.
        seed: Seed of the run; step `k` of a run always sees the same batch, noise and dropout.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig, seed: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.seed = seed
        self.values: dict[str, Tensor] = {}

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

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Lightning's hook: one loss, its figures kept for the callbacks."""
        # Seeded by the step, not carried along: a resumed run needs no generator's state.
        # The complement keeps the noise apart from the crops, which are drawn by the same number.
        seed_all(2**63 - 1 - step_seed(self.seed, self.global_step))
        loss, values = self.losses(batch)
        self.values = {name: value.detach() for name, value in values.items()}
        return loss

    def trained(self) -> list[nn.Parameter]:
        """The parameters in training."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Lightning's hook: Adam; `Budget` sets its rate before every step."""
        rate = self.config.learning_rate
        return torch.optim.Adam(self.trained(), lr=rate, betas=self.config.betas, foreach=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook: only what changes is saved; a frozen teacher has its own file."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {
            name: value for name, value in state.items() if name.startswith(self.changing)
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook: the rest of the state is what this task was built with.

        Raises:
            ValueError: If the checkpoint is of another model.
        """
        own, saved = self.state_dict(), checkpoint["state_dict"]
        for name in sorted(own.keys() | saved.keys()):
            if name in saved and (name not in own or own[name].shape != saved[name].shape):
                raise ValueError(
                    f"the checkpoint is of another model ('{name}' differs); "
                    "resume with the recipe the run began with, or choose another folder"
                )
        checkpoint["state_dict"] = {**own, **saved}


def seed_all(seed: int) -> None:
    """`torch.manual_seed` for every step: where there is no GPU that one files a stack trace each.

    On two-dimensional problems the traces were a seventh of a step, and they were never let go.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)

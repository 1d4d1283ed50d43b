"""Training a student from its teacher."""

from typing import Any

import torch
from torch import Tensor, nn

from wavestill.audio.pitch import harmonicity
from wavestill.audio.spec import FeatureSpec
from wavestill.density import Conditioning
from wavestill.distillation.adversarial import Adversarial
from wavestill.distillation.objective import Objective
from wavestill.training.config import TrainingConfig
from wavestill.training.data import Batch
from wavestill.training.module import Task

DISCRIMINATOR_BETAS = (0.5, 0.9)
"""Adam's decays for discriminators: they follow a student that moves, so their memory is short."""


class Distillation(Task):
    """A student in training on a distillation objective.

    Arguments:
        student: The density that is trained.
        objective: Named, weighted terms; it holds the teacher and keeps it frozen.
        config: The run's settings.
        seed: Seed of the run.
        skip_samples: Steps at the head of each clip that the reported figures leave out.
        spec: How the frames are made; with pitch in them, harmonicity is reported too.
    """

    def __init__(
        self,
        student: nn.Module,
        objective: Objective,
        config: TrainingConfig,
        seed: int,
        *,
        skip_samples: int = 0,
        spec: FeatureSpec | None = None,
    ) -> None:
        super().__init__(student, config, seed)
        self.objective = objective
        self.skip_samples = skip_samples
        self.spec = spec

    @property
    def headline(self) -> str:
        """The divergence, first of the objective's terms."""
        return f"{next(iter(self.objective.terms))}_nats"

    @property
    def changing(self) -> tuple[str, ...]:
        """The student, the balance and discriminators; the teacher too where it moves."""
        moving = (
            () if self.objective.moving is None else ("objective.moving.", "objective.teacher.")
        )
        adversaries = (f"objective.networks.{name}." for name in self._adversarial())
        return ("model.", "objective.balance.", *adversaries, *moving)

    def trained(self) -> list[nn.Parameter]:
        """The student's parameters, and those that the objective learns."""
        return [*super().trained(), *self.objective.learned()]

    def statistics(self) -> list[Tensor]:
        """What the balance has seen of past batches."""
        named = self.objective.named_buffers()
        return [
            value
            for name, value in named
            if name.startswith("balance.") and value.is_floating_point()
        ]

    def configure_optimizers(self) -> Any:  # noqa: ANN401  (one optimiser, or two in a list)
        """Lightning's hook: Adam for the student, and one of their own for discriminators."""
        student = super().configure_optimizers()
        groups = [
            {"params": list(term.parameters()), "rate_share": term.config.rate_share}
            for term in self._adversarial().values()
        ]
        if not groups:
            return student
        rate = self.config.learning_rate  # `Budget` sets each group's
        critics = torch.optim.Adam(groups, lr=rate, betas=DISCRIMINATOR_BETAS, foreach=True)
        return [student, critics]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Lightning's hook: one step of the student, and of discriminators on the same draw."""
        for parameter in self.objective.adversaries():
            parameter.grad = None  # one backward pass fills theirs and the student's
        super().training_step(batch, batch_idx)

    def after_step(self, batch: Batch) -> dict[str, Tensor]:
        """The discriminators' step, from the gradients that the student's backward pass left."""
        del batch
        parameters = self.objective.adversaries()
        if parameters:
            self.average_gradients(parameters, torch.zeros((), device=self.device))
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
            if bool(norm.isfinite()):
                self.trainer.optimizers[1].step()
        return {}

    def _adversarial(self) -> dict[str, Adversarial]:
        """The terms that have discriminators."""
        terms = self.objective.terms.items()
        return {name: term for name, term in terms if isinstance(term, Adversarial)}

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective's weighted sum, its terms and their weights."""
        losses = self.objective(batch.x, batch.context, shape=batch.shape)
        values = dict(losses.values)
        divergence = values.pop(next(iter(self.objective.terms)))
        return losses.total, {"loss": losses.total, self.headline: divergence, **values}

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """KL and rejection rate of the laws themselves; loudness and harmonicity."""
        values = self.objective.measure(
            batch.x, batch.context, shape=batch.shape, skip_samples=self.skip_samples
        )
        if (
            self.spec is not None
            and self.spec.pitch
            and batch.x is not None
            and batch.context is not None
        ):
            draw = self.model.sample(batch.shape[0], batch.context)  # type: ignore[operator]
            found = {
                "harmonicity": self._harmonicity(draw, batch.context),
                "harmonicity_data": self._harmonicity(batch.x, batch.context),
            }
            # Without a voiced frame there is none to report.
            values |= {name: value for name, value in found.items() if not value.isnan()}
        return values

    def _harmonicity(self, x: Tensor, context: Conditioning) -> Tensor:
        assert self.spec is not None
        assert context.frames is not None
        log_f0, voicing = context.frames[..., -2], context.frames[..., -1]
        return harmonicity(x, log_f0, voicing, self.spec.sample_rate, self.spec.hop_samples)

"""Training a student from its teacher."""

from torch import Tensor, nn

from wavestill.audio.mel import MelSpec
from wavestill.audio.pitch import harmonicity
from wavestill.density import Conditioning
from wavestill.distillation.objective import Objective
from wavestill.training.config import TrainingConfig
from wavestill.training.data import Batch
from wavestill.training.module import Task


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
        spec: MelSpec | None = None,
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
        """The student and the balance; the teacher too where it moves."""
        moving = (
            () if self.objective.moving is None else ("objective.moving.", "objective.teacher.")
        )
        return ("model.", "objective.balance.", *moving)

    def trained(self) -> list[nn.Parameter]:
        """The student's parameters, and those that the objective learns."""
        return [*super().trained(), *self.objective.learned()]

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

"""Training by maximum likelihood."""

from torch import Tensor, nn

from wavestill.density import Autoregressive
from wavestill.models.calibration import waveform_log_scale
from wavestill.training.config import TrainingConfig
from wavestill.training.data import Batch
from wavestill.training.module import Task


class Likelihood(Task):
    r"""A density in training by maximum likelihood.

    .. math:: L = -\frac{1}{B (T - t_0)} \sum_b \sum_{t \ge t_0} \log p(x_{b,t} \mid x_{b,<t}, c_b)

    in nats per sample (per dimension for vectors). A density without `conditionals` is trained
    through its `log_prob`, whole sequences only.

    Arguments:
        model: The density.
        config: The run's settings; its `log_scale_min` floors the law in the loss alone.
        seed: Seed of the run.
        skip_samples: Steps :math:`t_0` at the head of each clip that are left out, their past
            being cut off.
        grid_nats: Added to the figures (not to the loss) where a continuous law stands for gridded
            samples.
    """

    headline = "nats"

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        seed: int,
        *,
        skip_samples: int = 0,
        grid_nats: float = 0.0,
    ) -> None:
        super().__init__(model, config, seed)
        self.skip_samples = skip_samples
        self.grid_nats = grid_nats

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Nats per sample, log-scales floored."""
        nats, is_discrete = self._nats(batch, self.config.log_scale_min)
        return nats, {"nats": nats + self._offset(is_discrete)}

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """Nats per sample of the law itself."""
        nats, is_discrete = self._nats(batch, None)
        return {"nats": nats + self._offset(is_discrete)}

    def _offset(self, is_discrete: bool) -> float:  # noqa: FBT001
        return 0.0 if is_discrete else self.grid_nats

    def _nats(self, batch: Batch, log_scale_min: float | None) -> tuple[Tensor, bool]:
        x, skip = batch.require_x(), self.skip_samples
        if not isinstance(self.model, Autoregressive):
            log_prob: Tensor = self.model.log_prob(x, batch.context)  # type: ignore[operator]
            return -log_prob.mean() / x[0].numel(), False
        law = self.model.conditionals(x, batch.context)[:, skip:]
        if log_scale_min is not None:
            law = law.floored(waveform_log_scale(self.model, log_scale_min))
        return -law.log_prob(x[:, skip:]).mean(), law.is_discrete

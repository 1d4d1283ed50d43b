"""Training by maximum likelihood."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from wavestill.density import Autoregressive, Context
from wavestill.distributions import Distribution
from wavestill.models.calibration import waveform_log_scale
from wavestill.training.config import TrainingConfig
from wavestill.training.data import Batch
from wavestill.training.module import Task


@runtime_checkable
class InPieces(Protocol):
    """A model whose laws can be had a piece at a time, its state carried between them."""

    def pieces(
        self, x: Tensor, context: Context = None, *, piece_samples: int
    ) -> Iterator[Distribution]:
        """The laws of the next steps, until there are no more; gradients end with their piece."""
        ...


class Likelihood(Task):
    r"""A density in training by maximum likelihood.

    .. math:: L = -\frac{1}{B (T - t_0)} \sum_b \sum_{t \ge t_0} \log p(x_{b,t} \mid x_{b,<t}, c_b)

    in nats per sample (per dimension for vectors). With `chunk_samples` the sum is taken piece by
    piece: the same loss, its gradient without what flows from a piece into the one before. A
    density without `conditionals` is trained through its `log_prob`, whole sequences only.

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
        nats, is_discrete = self._nats(batch, floored=True)
        return nats, {"nats": nats + self._offset(is_discrete)}

    def descend(self, batch: Batch, share: float) -> tuple[Tensor, dict[str, Tensor]]:
        """As of any task; with `chunk_samples` in the memory of one piece."""
        size, model = self.config.chunk_samples, self.model
        if size is None:
            return super().descend(batch, share)
        assert isinstance(model, InPieces), "checked before the run"
        x, total = batch.require_x(), torch.zeros((), device=self.device)
        num_samples = x.shape[0] * (x.shape[1] - self.skip_samples)
        is_discrete = False
        for number, law in enumerate(model.pieces(x, batch.context, piece_samples=size)):
            first = number * size
            begin = max(0, self.skip_samples - first)
            if begin >= size:
                continue
            law, is_discrete = self._floored(law[:, begin:]), law.is_discrete
            nats = -law.log_prob(x[:, first + begin : first + size]).sum() / num_samples
            self.backward_of(nats * share)
            total = total + nats.detach()
        return total, {"nats": total + self._offset(is_discrete)}

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """Nats per sample of the law itself."""
        nats, is_discrete = self._nats(batch, floored=False)
        return {"nats": nats + self._offset(is_discrete)}

    def _offset(self, is_discrete: bool) -> float:  # noqa: FBT001
        return 0.0 if is_discrete else self.grid_nats

    def _nats(self, batch: Batch, *, floored: bool) -> tuple[Tensor, bool]:
        x, skip = batch.require_x(), self.skip_samples
        if not isinstance(self.model, Autoregressive):
            log_prob: Tensor = self.model.log_prob(x, batch.context)  # type: ignore[operator]
            return -log_prob.mean() / x[0].numel(), False
        law = self.model.conditionals(x, batch.context)[:, skip:]
        if floored:
            law = self._floored(law)
        return -law.log_prob(x[:, skip:]).mean(), law.is_discrete

    def _floored(self, law: Distribution) -> Distribution:
        floor = self.config.log_scale_min
        return law if floor is None else law.floored(waveform_log_scale(self.model, floor))

"""Weights that give each term its share of the gradient."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wavestill.distillation.balance.base import Balanced, weighted_sum
from wavestill.distillation.trial import Trial


class GradientBalance(nn.Module):
    r"""Weights that make gradient norms stand in fixed proportions.

    .. math:: w_i = w_i^{(0)} \, \bar g / \bar g_i, \qquad g_i = \| \nabla_\theta L_i \|, \quad
        \log \bar g = \mathrm{mean}_i \log \bar g_i

    over the student's parameters; the bars are running means of the logarithms. So a weight states
    a term's share of the pull, whatever its unit. Norms are taken every few steps, at the cost of
    one backward pass per term.

    Note:
        Of terms that pull against each other, equal norms say nothing about where they balance:
        for a level that must be met, see `LoudnessBalance`.

    References:
        | GradNorm (Chen et al., 2018), section 3, https://arxiv.org/abs/1711.02257 (there the
          weights are learnt; here they are set, as in the loss balancer of
          High Fidelity Neural Audio Compression (Défossez et al., 2022), section 3.4,
          https://arxiv.org/abs/2210.13438)

    Arguments:
        weights: Share of each term, >= 0.
        every: Steps from one look at the gradients to the next.
        averaging: Decay of the running means, per look, in [0, 1).
    """

    log_norms: Tensor
    step: Tensor

    def __init__(
        self, weights: Mapping[str, float], *, every: int = 10, averaging: float = 0.8
    ) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.every = every
        self.averaging = averaging
        self.register_buffer("log_norms", torch.zeros(len(self.weights)))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def __call__(self, terms: Mapping[str, Tensor], trial: Trial) -> Balanced:
        """The sum under the weights of this step."""
        if int(self.step) % self.every == 0:
            norms = torch.stack([self._norm(terms[name], trial) for name in self.weights])
            first = int(self.step) == 0
            self.log_norms.lerp_(
                norms.log().to(self.log_norms), 1 - (0 if first else self.averaging)
            )
        self.step += 1
        factors = (self.log_norms.mean() - self.log_norms).exp()
        named = zip(self.weights.items(), factors, strict=True)
        return weighted_sum(terms, {name: weight * factor for (name, weight), factor in named})

    @staticmethod
    def _norm(term: Tensor, trial: Trial) -> Tensor:
        parameters = [part for part in trial.student.parameters() if part.requires_grad]  # type: ignore[attr-defined]
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        squares = [gradient.square().sum() for gradient in gradients if gradient is not None]
        # A term at its optimum pulls with nothing; a floor keeps its weight finite.
        return torch.stack(squares).sum().sqrt().clamp_min(1e-6)

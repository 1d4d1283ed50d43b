"""Weights learnt as the noise of each term."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wavestill.distillation.balance.base import Balanced
from wavestill.distillation.trial import Trial


class UncertaintyBalance(nn.Module):
    r"""Weights learnt beside the student, as if each term were a noisy measurement.

    .. math:: L = \sum_i \left( w_i^{(0)} e^{-s_i} L_i + s_i \right)

    At the optimum :math:`e^{s_i} = w_i^{(0)} L_i`: every term comes to weigh the inverse of its
    own value, so that it is relative progress that counts. The :math:`s_i` are trained with the
    student's parameters.

    Note:
        For terms that can reach zero the weight would grow without end, hence the limit.

    References:
        | Multi-Task Learning Using Uncertainty to Weigh Losses (Kendall et al., 2018), section
          3.2, https://arxiv.org/abs/1705.07115

    Arguments:
        weights: The weights to begin with.
        reach: Limit of :math:`|s_i|`, in nats.
    """

    def __init__(self, weights: Mapping[str, float], *, reach: float = 4.0) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.reach = reach
        self.log_noise = nn.Parameter(torch.zeros(len(self.weights)))

    def __call__(self, terms: Mapping[str, Tensor], trial: Trial) -> Balanced:
        """The sum, with what keeps the weights from vanishing."""
        del trial
        log_noise = self.log_noise.clamp(-self.reach, self.reach)
        named = zip(self.weights.items(), (-log_noise).exp(), strict=True)
        weights = {name: weight * factor for (name, weight), factor in named}
        parts = [weights[name] * term for name, term in terms.items()]
        held = {name: weight.detach() for name, weight in weights.items()}
        return Balanced(torch.stack(parts).sum() + log_noise.sum(), held)

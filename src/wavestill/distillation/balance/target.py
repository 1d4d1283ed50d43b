"""A controller that holds one term at a target and leaves the rest of the effort to the others."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wavestill.distillation.balance.base import Balanced, weighted_sum
from wavestill.distillation.trial import Trial


class TargetBalance(nn.Module):
    r"""Weights that hold one term, commonly the divergence, at a target value.

    .. math:: w = w^{(0)} e^k, \qquad
        k \leftarrow k + \eta \, \mathrm{clip}(\log \bar L - \log L^*)

    with :math:`\bar L` the term's running mean: above the target its weight grows, below it
    shrinks, so the others are lowered as far as the constraint :math:`L \le L^*` allows; `k` is
    the logarithm of its Lagrange multiplier.

    References:
        | Taming VAEs (Rezende and Viola, 2018), section 3 (GECO), https://arxiv.org/abs/1810.00597

    Arguments:
        weights: The weights to begin with.
        target: :math:`L^*`, > 0, in the term's unit (nats per sample for a divergence).
        term: The term that is held.
        rate: `eta`, per step.
        averaging: Decay of the running mean, in [0, 1).
        reach: Limit of `|k|`, in nats.

    Raises:
        ValueError: If the target is not positive, or the term is not among the weights.
    """

    push: Tensor
    mean: Tensor
    num_steps: Tensor

    def __init__(
        self,
        weights: Mapping[str, float],
        target: float,
        term: str = "kl",
        *,
        rate: float = 0.01,
        averaging: float = 0.9,
        reach: float = math.log(100),
    ) -> None:
        super().__init__()
        if not target > 0:
            raise ValueError(f"the target of '{term}' is {target}; give one above 0")
        if term not in weights:
            raise ValueError(
                f"'{term}' is to be held at {target} but the terms are {sorted(weights)}; "
                "name one of them"
            )
        self.weights = dict(weights)
        self.target = target
        self.term = term
        self.rate = rate
        self.averaging = averaging
        self.reach = reach
        for name in ("push", "mean", "num_steps"):
            self.register_buffer(name, torch.zeros(()))

    def __call__(self, terms: Mapping[str, Tensor], trial: Trial) -> Balanced:
        """The sum under the weights of this step, after the controller has seen the term."""
        del trial
        with torch.no_grad():
            self.num_steps += 1
            share = max(1 - self.averaging, 1 / float(self.num_steps))  # a plain mean at first
            self.mean.lerp_(terms[self.term].to(self.mean), share)
            # An estimate near zero may be negative; one far off must not wind the integral up.
            error = (self.mean.clamp_min(1e-3 * self.target) / self.target).log().clamp(-1, 1)
            self.push.copy_((self.push + self.rate * error).clamp(-self.reach, self.reach))
        weights = {
            name: weight * self.push.exp() if name == self.term else weight
            for name, weight in self.weights.items()
        }
        return weighted_sum(terms, weights)

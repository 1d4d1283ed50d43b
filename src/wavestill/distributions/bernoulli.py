"""The law of one bit: heads of NADE and MADE."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self, override

from wavestill.distributions.base import Index, noise_to_log_odds
from wavestill.distributions.finite import Finite


class Bernoulli(Finite):
    r"""One bit, :math:`P(X = 1) = \sigma(l)` with the log-odds :math:`l`.

    .. math:: \log P(x) = \log \sigma((2x - 1)\, l), \qquad H = \log(1 + e^l) - l\, \sigma(l)

    Values are 0 and 1, times ``scale`` plus ``shift`` once moved by :meth:`affine`; any other
    value has the log mass :math:`-\infty`. Noise z becomes 1 where
    :math:`F_{base}(z) > 1 - P(1)`, that is, in log-odds, where :math:`z > -l`. It has no density:
    a discrete teacher is sampled, not distilled.

    Arguments:
        logits: Log-odds of a 1, of any shape.

    Example:
        >>> law = Bernoulli(torch.tensor([-1.0, 0.0, 1.0]))
        >>> law.mean, law.from_noise(torch.tensor(0.5))
        (tensor([0.2689, 0.5000, 0.7311]), tensor([0., 1., 1.]))
    """

    kind = "a Bernoulli law"
    remedy = "draw it with an exact sampler (cached, jacobi)"

    @property
    @override
    def batch_shape(self) -> torch.Size:
        return self.logits.shape

    def _bit(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        bit = self._bit(x)
        log_prob = F.logsigmoid((2 * bit - 1) * self.logits)
        return log_prob.masked_fill((bit != 0) & (bit != 1), -torch.inf)

    @override
    def log_cdf(self, x: Tensor) -> Tensor:
        bit = self._bit(x)
        log_cdf = torch.where(bit < 1, F.logsigmoid(-self.logits), 0.0)
        return log_cdf.masked_fill(bit < 0, -torch.inf)

    @override
    def log_survival(self, x: Tensor) -> Tensor:
        bit = self._bit(x)
        log_survival = torch.where(bit < 0, 0.0, F.logsigmoid(self.logits))
        return log_survival.masked_fill(bit >= 1, -torch.inf)

    @override
    def from_noise(self, z: Tensor) -> Tensor:
        bit = (noise_to_log_odds(self.base, z) > -self.logits).to(self.dtype)
        return self.scale * bit + self.shift

    @override
    def expectation(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the expectation exactly, by the sum over both values."""
        bits = torch.arange(2, device=self.device, dtype=self.dtype)
        values = function(self.scale * bits.view(-1, *(1 for _ in self.batch_shape)) + self.shift)
        masses = torch.stack([torch.sigmoid(-self.logits), torch.sigmoid(self.logits)])
        return (masses * values).sum(0)

    @override
    def entropy(self) -> Tensor:
        return F.softplus(self.logits) - self.logits * torch.sigmoid(self.logits)

    @property
    @override
    def mean(self) -> Tensor:
        return self.scale * torch.sigmoid(self.logits) + self.shift

    @property
    @override
    def variance(self) -> Tensor:
        return self.scale**2 * torch.sigmoid(self.logits) * torch.sigmoid(-self.logits)

    def __getitem__(self, index: Index) -> Self:
        return type(self)(self.logits[index], self.scale, self.shift)

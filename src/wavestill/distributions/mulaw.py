"""The mu-law softmax: WaveNet's first head, categorical over companded levels."""

from collections.abc import Callable

import torch
from torch import Tensor
from typing_extensions import Self, override

from wavestill.distributions.base import Index, before_last, noise_to_log_odds
from wavestill.distributions.finite import Finite


def mu_law_encode(x: Tensor, num_levels: int = 256) -> Tensor:
    r"""Return the level (long, 0 to ``num_levels`` - 1) of samples in [-1, 1], clamped there.

    .. math:: f(x) = \operatorname{sign}(x) \frac{\ln(1 + \mu |x|)}{\ln(1 + \mu)}, \qquad
        level = \operatorname{round}\left(\mu\, \frac{f(x) + 1}{2}\right), \qquad \mu = levels - 1

    References:
        | WaveNet (van den Oord et al., 2016), section 2.2, https://arxiv.org/abs/1609.03499
    """
    mu = torch.as_tensor(num_levels - 1, dtype=x.dtype, device=x.device)
    x = x.clamp(-1, 1)
    f = x.sign() * torch.log1p(mu * x.abs()) / torch.log1p(mu)
    return (0.5 * mu * (f + 1)).round().long()


def mu_law_decode(
    level: Tensor, num_levels: int = 256, *, dtype: torch.dtype | None = None
) -> Tensor:
    r"""Return the centre of a mu-law level, in [-1, 1]: the inverse of :func:`mu_law_encode`.

    .. math:: x = \operatorname{sign}(f) \frac{(1 + \mu)^{|f|} - 1}{\mu}, \qquad
        f = 2\, level / \mu - 1

    Example:
        >>> mu_law_decode(mu_law_encode(torch.tensor([-1.0, 0.02, 1.0])))
        tensor([-1.0000,  0.0199,  1.0000])
    """
    f = 2 * level.to(dtype or torch.get_default_dtype()) / (num_levels - 1) - 1
    return f.sign() * (num_levels ** f.abs() - 1) / (num_levels - 1)


class MuLaw(Finite):
    r"""Categorical law over mu-law levels, :math:`P = \mathrm{softmax}(logits)`.

    Values are the level centres of :func:`mu_law_decode`, times ``scale`` plus ``shift`` once
    moved by :meth:`affine`; every argument ``x`` stands for its level. Noise z becomes the least
    level with :math:`F(level) \ge \sigma(z)`, compared in log-odds. It has no density: a discrete
    teacher is sampled, not distilled.

    References:
        | WaveNet (van den Oord et al., 2016), section 2.2, https://arxiv.org/abs/1609.03499

    Arguments:
        logits: Unnormalised log-probabilities, (..., levels); 256 levels are usual.

    Example:
        >>> MuLaw(torch.zeros(2, 5, 256)).sample().shape
        torch.Size([2, 5])
    """

    kind = "a mu-law softmax"
    remedy = "train the teacher with the 'logistics' or 'gaussian' head"

    @property
    def num_levels(self) -> int:
        """Number of levels."""
        return self.logits.shape[-1]

    @property
    @override
    def batch_shape(self) -> torch.Size:
        return self.logits.shape[:-1]

    def _value(self, level: Tensor) -> Tensor:
        value = mu_law_decode(level, self.num_levels, dtype=self.logits.dtype)
        return self.scale * value + self.shift

    def _at_level(self, log_terms: Tensor, x: Tensor) -> Tensor:
        """Pick the entry of (..., levels) that belongs to ``x``."""
        level = mu_law_encode((x - self.shift) / self.scale, self.num_levels)
        shape = torch.broadcast_shapes(level.shape, self.batch_shape)  # type: ignore[no-untyped-call]
        log_terms = log_terms.expand(*shape, self.num_levels)
        return log_terms.gather(-1, level.expand(shape).unsqueeze(-1)).squeeze(-1)

    def _log_cdfs(self) -> tuple[Tensor, Tensor]:
        """Return log P(L <= l) and log P(L > l) of every level l, each summed from its own end."""
        log_probs = self.logits.log_softmax(-1)
        log_cdf = log_probs.logcumsumexp(-1).clamp(max=0)  # rounding must not exceed certainty
        log_survival = log_probs.flip(-1).logcumsumexp(-1).flip(-1)[..., 1:]
        return log_cdf, torch.nn.functional.pad(log_survival, (0, 1), value=-torch.inf)

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        return self._at_level(self.logits.log_softmax(-1), x)

    @override
    def log_cdf(self, x: Tensor) -> Tensor:
        return self._at_level(self._log_cdfs()[0], x)

    @override
    def log_survival(self, x: Tensor) -> Tensor:
        return self._at_level(self._log_cdfs()[1], x)

    @override
    def from_noise(self, z: Tensor) -> Tensor:
        log_cdf, log_survival = self._log_cdfs()
        log_odds = noise_to_log_odds(self.base, z).unsqueeze(-1)
        return self._value((log_cdf - log_survival < log_odds).sum(-1))

    @override
    def expectation(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the expectation exactly, by the sum over all levels."""
        values = self._value(torch.arange(self.num_levels, device=self.device))
        values = function(values.view(-1, *(1 for _ in self.batch_shape)))
        return (self.logits.softmax(-1).movedim(-1, 0) * values).sum(0)

    @override
    def entropy(self) -> Tensor:
        log_probs = self.logits.log_softmax(-1)
        return -(log_probs.exp() * log_probs).sum(-1)

    def __getitem__(self, index: Index) -> Self:
        index = before_last(index)
        return type(self)(self.logits[index], self.scale, self.shift)

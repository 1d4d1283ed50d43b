r"""Importance weights, and when to trust them: effective sample size and Pareto k-hat.

Draws of a student `q` stand for its teacher `p` when each counts

.. math:: w_s = p(x_s) / q(x_s), \qquad
    \hat E_p f = \frac{\sum_s w_s f(x_s)}{\sum_s w_s}

as often as the teacher would have drawn it. How far that goes is told by the upper tail of the
weights: a generalised Pareto law of shape `k` has moments up to `1 / k` only, so a fitted
:math:`\hat k > 0.7` says that neither the estimate nor its error can be believed.

References:
    | Pareto Smoothed Importance Sampling (Vehtari, Simpson, Gelman, Yao and Gabry, 2024), sections
      2 and 3, https://arxiv.org/abs/1507.02646
    | A new and efficient estimation method for the generalized Pareto distribution (Zhang and
      Stephens, 2009), section 2, https://doi.org/10.1198/tech.2009.08017
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

K_HAT_MAX = 0.7
"""Shape of the weights' tail beyond which no finite sample is enough in practice."""


class ImportanceError(ValueError):
    """The weights' tail is too heavy for their average to mean anything."""


@dataclass(frozen=True)
class Estimate:
    """An expectation under the teacher, from draws of the student.

    Arguments:
        value: The self-normalised estimate, in the shape of one value of the function.
        standard_error: Of the value, by the delta method.
        effective_sample_size: Draws of the teacher that would be as good, at most the number made.
        k_hat: Shape of the upper tail of the weights, or of the weighted values if that is worse.
    """

    value: Tensor
    standard_error: Tensor
    effective_sample_size: float
    k_hat: float


@dataclass(frozen=True)
class Weighted:
    r"""Draws of a student with their weights towards the teacher.

    Arguments:
        x: The draws, `(S, ...)`.
        log_weights: :math:`\log p(x) - \log q(x)` as they are, `(S,)`.
        smoothed: Logarithms of the weights after Pareto smoothing, normalised to sum 1, `(S,)`.
        k_hat: Shape of the upper tail of the weights; infinite if a weight is not a number.
    """

    x: Tensor
    log_weights: Tensor
    smoothed: Tensor
    k_hat: float

    @property
    def effective_sample_size(self) -> float:
        r""":math:`1 / \sum_s \bar w_s^2` of the normalised weights: S if all are equal."""
        return float(torch.exp(-torch.logsumexp(2 * self.smoothed, 0)))

    @property
    def k_hat_max(self) -> float:
        r"""What k-hat may be at most: :math:`\min(1 - 1 / \log_{10} S, 0.7)`."""
        return k_hat_max(len(self.log_weights))

    @property
    def is_trustworthy(self) -> bool:
        """Whether averages over these draws mean anything."""
        return self.k_hat <= self.k_hat_max

    def expectation(self, function: Callable[[Tensor], Tensor]) -> Estimate:
        r"""The teacher's expectation of a function, with its standard error.

        .. math:: \hat E = \sum_s \bar w_s f(x_s), \qquad
            \mathrm{se}^2 = \sum_s \bar w_s^2 (f(x_s) - \hat E)^2

        Arguments:
            function: From the draws `(S, ...)` to a value for each, `(S, ...)`.

        Of a function of two values, an event, the weights' own tail decides; of others also that
        of the weights times the values' sizes, where these are not zero.

        Raises:
            ImportanceError: If the tail is too heavy.
            ValueError: If the function does not give a value for each draw.
        """
        values = function(self.x)
        if not values.dim() or len(values) != len(self.x):
            raise ValueError(
                f"the function gives {tuple(values.shape)} for {len(self.x)} draws; "
                "give one value, or a row of values, for each"
            )
        if not values.is_floating_point():
            values = values.double()
        columns = values.detach().reshape(len(values), -1).T
        k_hats = [self.k_hat, *map(self._k_hat_of, columns)]
        if max(k_hats) > self.k_hat_max:
            what = "weights" if self.k_hat > self.k_hat_max else "weighted values"
            raise ImportanceError(
                f"k-hat of {len(self.log_weights)} {what} is {max(k_hats):.2f} and may be "
                f"{self.k_hat_max:.2f}: the student misses part of its teacher; train it further, "
                "or draw exactly ('exact') or by chains ('metropolis')"
            )
        shape = (-1, *(1 for _ in values.shape[1:]))
        weights = self.smoothed.exp().to(values.dtype).view(shape)
        value = (weights * values).sum(0)
        error = (weights * (values - value)).square().sum(0).sqrt()
        return Estimate(value, error, self.effective_sample_size, max(k_hats))

    def _k_hat_of(self, column: Tensor) -> float:
        """Shape of the tail of the weighted values of one function."""
        if bool((column == column.amin()).logical_or(column == column.amax()).all()):
            return self.k_hat
        log_values = column.double().abs().log()
        counted = log_values > -math.inf
        return pareto_smoothed((self.log_weights.double() + log_values)[counted])[1]


def weighted(x: Tensor, log_weights: Tensor) -> Weighted:
    """Smooth the weights' tail and tell its shape.

    Arguments:
        x: The draws, `(S, ...)`.
        log_weights: Their weights' logarithms up to a constant, `(S,)`.

    Example:
        >>> x = torch.randn(4000, generator=torch.Generator().manual_seed(0))
        >>> draws = weighted(x, -0.02 * x.square())  # towards a slightly narrower normal
        >>> draws.is_trustworthy, draws.effective_sample_size > 3900
        (True, True)
    """
    smoothed, k_hat = pareto_smoothed(log_weights.detach().double())
    return Weighted(x, log_weights, smoothed, k_hat)


def k_hat_max(num: int) -> float:
    r"""What k-hat of `num` weights may be: :math:`\min(1 - 1 / \log_{10} S, 0.7)`."""
    return min(1 - 1 / math.log10(max(num, 11)), K_HAT_MAX)


def pareto_smoothed(log_weights: Tensor) -> tuple[Tensor, float]:
    r"""Replace the largest weights by expected order statistics of a generalised Pareto law.

    The largest :math:`M = \min(S / 5, 3 \sqrt S)` of the weights; none is made larger than the
    largest was.

    Arguments:
        log_weights: `(S,)`, in float64.

    Returns:
        The logarithms of the smoothed weights, normalised, and k-hat.
    """
    num = len(log_weights)
    if not len(log_weights) or bool(log_weights.max() == -math.inf):
        return log_weights, -math.inf  # nothing weighs anything: no tail
    if bool(log_weights.isnan().any() | (log_weights == math.inf).any()):
        return log_weights, math.inf
    log_weights = log_weights - log_weights.max()
    num_tail = math.ceil(min(num / 5, 3 * num**0.5))
    if num_tail < 5:
        return log_weights.log_softmax(0), math.inf  # too few to tell
    ordered, index = log_weights.sort()
    cutoff = ordered[-num_tail - 1].exp()
    tail = ordered[-num_tail:].exp() - cutoff
    if float(tail[-1]) <= 1e-12:  # all alike: no tail
        return log_weights.log_softmax(0), -math.inf
    k, scale = fit_generalised_pareto(tail)
    share = (torch.arange(num_tail, dtype=torch.float64, device=tail.device) + 0.5) / num_tail
    quantiles = scale * (
        torch.expm1(-k * torch.log1p(-share)) / k if abs(k) > 1e-8 else -torch.log1p(-share)
    )
    smoothed = log_weights.clone()
    smoothed[index[-num_tail:]] = (cutoff + quantiles).log().clamp(max=0)
    return smoothed.log_softmax(0), k


def fit_generalised_pareto(excess: Tensor) -> tuple[float, float]:
    r"""Shape `k` and scale of :math:`F(y) = 1 - (1 + k y / \sigma)^{-1/k}`, from ordered excesses.

    The mean of a data-driven quasi-posterior over a grid, then drawn towards `k = 1/2` with the
    weight of ten observations, for short tails.

    Arguments:
        excess: Positive, in rising order, `(M,)`, in float64.

    Example:
        >>> u = torch.arange(1, 20_000, dtype=torch.float64) / 20_000
        >>> k, scale = fit_generalised_pareto(torch.expm1(-0.4 * torch.log1p(-u)) / 0.4)
        >>> round(k, 2), round(scale, 2)
        (0.4, 1.0)
    """
    num = len(excess)
    num_grid = 30 + int(num**0.5)
    grid = torch.arange(1, num_grid + 1, dtype=torch.float64, device=excess.device)
    quartile = excess[max(0, int(num / 4 + 0.5) - 1)].clamp_min(1e-300)
    theta = 1 / excess[-1] + (1 - (num_grid / (grid - 0.5)).sqrt()) / (3 * quartile)
    k = torch.log1p(-theta.unsqueeze(1) * excess).mean(1)
    log_likelihood = num * ((-theta / k).log() - k - 1)
    # At theta = 0 the likelihood is 0 / 0; a grid point there carries no weight.
    weights = log_likelihood.nan_to_num(-math.inf).softmax(0)
    theta_mean = (theta * weights).sum()
    k_mean = float(torch.log1p(-theta_mean * excess).mean())
    scale = -k_mean / float(theta_mean)
    return (num * k_mean + 10 * 0.5) / (num + 10), scale

"""Logarithms that keep their digits and their gradients in the tails."""

import math

import torch
from torch import Tensor


def log_of(value: float | Tensor) -> float | Tensor:
    """Return the logarithm of a float, in double precision, or of a tensor."""
    return value.log() if isinstance(value, Tensor) else math.log(value)


def log1mexp(x: Tensor) -> Tensor:
    r"""Return :math:`\log(1 - e^{-x})` for :math:`x > 0`, exact to rounding at both ends.

    Near 0 the difference is taken by ``expm1``, elsewhere the logarithm by ``log1p``.

    References:
        | Accurately computing log(1 - exp(-\|a\|)) (Mächler, 2012), equation 7,
          https://cran.r-project.org/package=Rmpfr/vignettes/log1mexp-note.pdf

    Example:
        >>> log1mexp(torch.tensor(1e-6))
        tensor(-13.8155)
    """
    near = torch.log(-torch.expm1(-x))
    # The clamp keeps the branch not taken, and hence its gradient, finite at x = 0.
    far = torch.log1p(-torch.exp(-x.clamp(min=math.log(2))))
    return torch.where(x < math.log(2), near, far)


def log_ndtr(z: Tensor) -> Tensor:
    r"""Return :math:`\log \Phi(z)` with a gradient that is right in the lower tail too.

    .. math:: \Phi(z) = \tfrac12 e^{-z^2/2} \operatorname{erfcx}(-z / \sqrt 2)

    Note:
        The value of `torch.special.log_ndtr` is good, but its derivative is formed as
        :math:`\exp(-\log\Phi - z^2/2)`, where huge numbers cancel: in float32 it is off by a
        factor 6 at z = -1e4 and overflows further out.

    Example:
        >>> log_ndtr(torch.tensor([-100.0]))
        tensor([-5005.5244])
    """
    lower = z.clamp(max=-1)
    log_lower = torch.log(0.5 * torch.special.erfcx(lower * -math.sqrt(0.5))) - 0.5 * lower * lower
    return torch.where(z < -1, log_lower, torch.special.log_ndtr(z.clamp(min=-1)))

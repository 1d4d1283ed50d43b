"""How far ahead to draft."""

import math

import torch

MAX_WINDOW = 1024


def best_window(rejection_rate: float, overhead_steps: float) -> int:
    r"""The window that gives the most samples per cost, if rejections come independently.

    .. math:: \max_W \frac{1}{\kappa + W} \sum_{k=0}^{W-1} (1 - r)^k
        = \max_W \frac{1 - (1 - r)^W}{r\,(\kappa + W)}

    The sum is what a round is expected to yield: draft k counts if those before it were kept, and
    a rejected one counts too, for it is corrected. Time per round grows by a step's share with
    each draft; :math:`\kappa` is what it costs at no drafts, in the same unit: calls of many
    small kernels.

    Arguments:
        rejection_rate: :math:`r`, in [0, 1].
        overhead_steps: :math:`\kappa >= 0`.

    Example:
        >>> [best_window(rate, 64) for rate in (0.5, 0.25, 0.05, 0.001)]
        [6, 11, 35, 338]
    """
    windows = torch.arange(1, MAX_WINDOW + 1, dtype=torch.float64)
    log_keep = math.log1p(-min(max(rejection_rate, 1e-12), 1 - 1e-12))
    return int(torch.argmax(-torch.expm1(windows * log_keep) / (overhead_steps + windows))) + 1

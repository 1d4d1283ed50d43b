"""Total variation: how often a draft is rejected."""

import torch
from torch import Tensor

from wavestill.divergences.base import QuantileDivergence


class TotalVariation(QuantileDivergence):
    r"""Total variation, in [0, 1]: the rejection rate of draft-and-verify sampling.

    .. math:: TV(q, p) = \tfrac12 \int |q - p| = E_q \left(1 - p(x) / q(x)\right)_+

    A draft from q is kept with probability min(1, p / q), so this is the share not kept. It does
    not sum to the total variation of sequences: it is reported per step.

    References:
        | Fast Inference from Transformers via Speculative Decoding (Leviathan et al., 2023),
          section 3, https://arxiv.org/abs/2211.17192

    Arguments:
        num_points: Points per step.
        log_scale_min: As in :class:`Divergence`.
    """

    def __init__(self, num_points: int = 32, *, log_scale_min: float | None = None) -> None:
        super().__init__(num_points, log_scale_min=log_scale_min)

    def _integrand(self, log_ratio: Tensor) -> Tensor:
        return torch.relu(-torch.expm1(-log_ratio))

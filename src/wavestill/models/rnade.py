r"""RNADE: NADE for real values, a mixture of normals or logistics per dimension.

References:
    | RNADE: The real-valued neural autoregressive density-estimator (Uria, Murray and Larochelle,
      2013), https://arxiv.org/abs/1306.0186
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from wavestill.models.recurrent import RecurrentDensity
from wavestill.models.vector_heads import VectorHead


@dataclass(frozen=True)
class RNADEConfig:
    """The shape of an RNADE.

    Arguments:
        num_dims: Dimensions of a vector, `n`; a recipe leaves it out, since it follows from the
            data.
        num_hidden: Hidden units, `d`.
        num_mixtures: Components of each dimension's law; 1 for a single one.
        components: Their shape.
        num_context: Values of a context vector that moves the hidden bias; 0 for none.
    """

    num_dims: int = 0
    num_hidden: int = 100
    num_mixtures: int = 10
    components: Literal["normal", "logistic"] = "normal"
    num_context: int = 0


class RNADE(RecurrentDensity):
    r"""Autoregressive density of real vectors that share one hidden sum.

    .. math:: a_{i+1} = a_i + W_{\cdot, i}\, x_i, \qquad h_i = \max(0, \rho_i\, a_i), \qquad
        p(x_i \mid x_{<i}) = \sum_k \pi_{ik}\, p\big(x_i;\, \mu_{ik}, s_{ik}\big)

    with :math:`\log\pi, \mu` and :math:`\log s` each linear in :math:`h_i`. The sum grows with
    every input, so each dimension rescales it, by a learned :math:`\rho_i`. Likelihood and
    sampling cost O(n d K).

    Note:
        We start :math:`\rho_i` at :math:`1 / \sqrt{i + 1}`, which keeps the hidden units at one
        scale from the first step on; the paper learns it from a common start. Values are
        standardised inside (`calibrate`), and the means' gradient is left to Adam where the paper
        multiplies it by the scale.

    References:
        | RNADE (Uria, Murray and Larochelle, 2013), section 3, https://arxiv.org/abs/1306.0186

    Arguments:
        config: The shape.

    Example:
        >>> model = RNADE(RNADEConfig(num_dims=3, num_hidden=8, num_mixtures=2))
        >>> x = model.sample(5)
        >>> x.shape, model.conditionals(x).batch_shape
        (torch.Size([5, 3]), torch.Size([5, 3]))
    """

    def __init__(self, config: RNADEConfig) -> None:
        head = VectorHead(config.components, config.num_dims, config.num_mixtures)
        # Standardised inputs, rescaled by 1 / sqrt(i + 1): sums of weights of order one.
        super().__init__(
            head, config.num_hidden, config.num_context, input_gain=config.num_dims**0.5
        )
        self.config = config
        places = torch.arange(config.num_dims)
        self.rescale = nn.Parameter((places + 1.0).rsqrt().unsqueeze(1))
        # Units of both signs and different thresholds, as otherwise the first dimensions' few
        # inputs would bend at zero alone.
        nn.init.uniform_(self.sums.bias, -1.0, 1.0)

    @override
    def _own(self) -> tuple[Tensor, ...]:
        return (self.rescale,)

    @override
    def _hidden(self, sums: Tensor, *own: Tensor) -> Tensor:
        (rescale,) = own
        return torch.relu((rescale if rescale.dim() == 3 else rescale.unsqueeze(1)) * sums)

r"""MADE: an autoregressive density of vectors from one masked dense network.

References:
    | MADE: Masked Autoencoder for Distribution Estimation (Germain et al., 2015),
      https://arxiv.org/abs/1502.03509
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from wavestill.density import Context
from wavestill.distributions import Distribution
from wavestill.models.prefix import Prefix
from wavestill.models.vector_density import VectorDensity
from wavestill.models.vector_heads import Head, VectorHead
from wavestill.nn.masked import MaskedNetwork


@dataclass(frozen=True)
class MADEConfig:
    """The shape of a MADE.

    Arguments:
        num_dims: Dimensions of a vector, `n`; a recipe leaves it out, since it follows from the
            data.
        hidden: Units of each hidden layer.
        head: Law of a dimension: a bit, or the shape of the components of a mixture.
        num_mixtures: Components; 1 for a single law.
        num_context: Values of a context vector that every unit sees; 0 for none.
    """

    num_dims: int = 0
    hidden: tuple[int, ...] = (500,)
    head: Head = "bernoulli"
    num_mixtures: int = 1
    num_context: int = 0


class MADE(VectorDensity):
    r"""Autoregressive density whose laws are all outputs of one masked network.

    .. math:: p(x) = \prod_i p\big(x_i \mid \theta_i\big), \qquad
        \theta_i = \mathrm{net}_i(x_{<i})

    A likelihood costs one dense pass, less than NADE's on parallel machines; a sample costs `n`
    of them. One order, that of the data, and one set of masks.

    References:
        | MADE (Germain et al., 2015), section 3, https://arxiv.org/abs/1502.03509

    Arguments:
        config: The shape.

    Example:
        >>> model = MADE(MADEConfig(num_dims=6, hidden=(32, 32)))
        >>> x = model.sample(3)
        >>> x.shape, model.log_prob(x).shape
        (torch.Size([3, 6]), torch.Size([3]))
    """

    def __init__(self, config: MADEConfig) -> None:
        super().__init__(VectorHead(config.head, config.num_dims, config.num_mixtures))
        self.config = config
        self.net = MaskedNetwork(
            config.num_dims, config.hidden, self.head.num_outputs, config.num_context
        )
        with torch.no_grad():
            self._output_bias().copy_(self.head.initial_bias())

    def conditionals(self, x: Float[Tensor, "B n"], context: Context = None) -> Distribution:
        r"""The law of every dimension given those before it, `(B, n)`: one pass.

        Arguments:
            x: Vectors, or their first dimensions.
            context: A tensor `(B, C)` where the model has one; else None.

        Raises:
            ValueError: If `x` has no dimensions or more than the model, or the context is not as
                the model has it.
        """
        n = x.shape[1]
        if not 1 <= n <= self.num_dims:
            raise ValueError(
                f"the vectors have {n} dimensions but the model {self.num_dims}; "
                "give as many, or the first of them"
            )
        places = torch.arange(n, device=x.device)
        outputs = self._outputs(F.pad(x, (0, self.num_dims - n)), context)
        return self.head.law(outputs[:, :n], places)

    @torch.no_grad()
    def advance(
        self, x_new: Float[Tensor, "B n"], context: Context = None, state: Prefix | None = None
    ) -> tuple[Distribution, Prefix]:
        """The laws that become known with `x_new`: see `Autoregressive`; carries no gradient.

        Costs one pass whatever the number of new dimensions. The context counts in the first
        call. What is fed beyond a vector's end is ignored, and the laws there mean nothing.
        """
        is_first = state is None
        if state is None:
            state = Prefix.empty(x_new, self.num_dims, context)
        before = state.position
        state.append(x_new)
        outputs = self._outputs(state.values, state.context)
        steps = torch.arange(int(not is_first), x_new.shape[1] + 1, device=x_new.device)
        places = (before.unsqueeze(1) + steps).clamp(max=self.num_dims - 1)
        rows = torch.arange(x_new.shape[0], device=x_new.device).unsqueeze(1)
        return self.head.law(outputs[rows, places], places), state

    def _outputs(self, x: Tensor, context: Context) -> Tensor:
        """Outputs `(B, n, P)` of whole vectors."""
        places = torch.arange(self.num_dims, device=x.device)
        outputs: Tensor = self.net(self.head.inner(x, places), context)
        return outputs

    def _output_bias(self) -> Tensor:
        return self.net.direct.bias.view(self.num_dims, -1)

r"""MADE: an autoregressive density of vectors from one masked dense network.

References:
    | MADE: Masked Autoencoder for Distribution Estimation (Germain et al., 2015),
      https://arxiv.org/abs/1502.03509
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from wavestill.density import Context
from wavestill.distributions import Base, Distribution, standard_noise
from wavestill.models.prefix import Prefix
from wavestill.models.vector_heads import Head, VectorHead
from wavestill.nn.masked import MaskedNetwork
from wavestill.sampling.cached import cached


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


class MADE(nn.Module):
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
        super().__init__()
        self.config = config
        self.head = VectorHead(config.head, config.num_dims, config.num_mixtures)
        self.net = MaskedNetwork(
            config.num_dims, config.hidden, self.head.num_outputs, config.num_context
        )
        self._bias().copy_(self.head.initial_bias())

    @property
    def num_dims(self) -> int:
        """Dimensions of a vector."""
        return self.config.num_dims

    @property
    def base(self) -> Base:
        """The base noise its samples are made from."""
        return self.head.base

    @torch.no_grad()
    def calibrate(self, x: Tensor, frames: Tensor | None = None) -> None:
        """Take each dimension's frequency, or mean and spread, from training data.

        Arguments:
            x: Vectors `(B, n)`.
            frames: Not used.
        """
        del frames
        self.head.calibrate(x, self._bias())

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

    def log_prob(self, x: Float[Tensor, "B n"], context: Context = None) -> Float[Tensor, " B"]:
        """Log-likelihood in nats, `(B,)`."""
        return self.conditionals(x, context).log_prob(x).sum(-1)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        context: Context = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "B n"]:
        """Ancestral samples `(num, n)`, `n` passes.

        Arguments:
            num: Vectors to draw.
            context: As for `conditionals`, batch `num`.
            generator: Source of the noise.
        """
        like = self.net.direct.bias
        noise = standard_noise(
            self.base,
            (num, self.num_dims),
            generator=generator,
            device=like.device,
            dtype=like.dtype,
        )
        return cached(self, noise, context)

    def _outputs(self, x: Tensor, context: Context) -> Tensor:
        """Outputs `(B, n, P)` of whole vectors."""
        places = torch.arange(self.num_dims, device=x.device)
        outputs: Tensor = self.net(self.head.inner(x, places), context)
        return outputs

    def _bias(self) -> Tensor:
        """The output biases, `(n, P)`."""
        return self.net.direct.bias.detach().view(self.num_dims, -1)

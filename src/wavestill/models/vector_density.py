"""What the autoregressive densities of vectors share: a head, its calibration, sampling."""

from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wavestill.density import Context
from wavestill.distributions import Base, Distribution, standard_noise
from wavestill.models.vector_heads import VectorHead
from wavestill.sampling.cached import cached


class VectorDensity(nn.Module, ABC):
    """An autoregressive density of vectors, one law of a head for each dimension.

    Subclasses give `conditionals` and `advance`.

    Arguments:
        head: The law of a dimension.
    """

    def __init__(self, head: VectorHead) -> None:
        super().__init__()
        self.head = head

    @property
    def base(self) -> Base:
        """The base noise its samples are made from."""
        return self.head.base

    @property
    def num_dims(self) -> int:
        """Dimensions of a vector."""
        return len(self.head.loc)

    @abstractmethod
    def conditionals(self, x: Float[Tensor, "B n"], context: Context = None) -> Distribution:
        """The law of every dimension given those before it, `(B, n)`."""

    @abstractmethod
    def _output_bias(self) -> Tensor:
        """Biases of the outputs, `(n, P)`: what the head sets from data."""

    @torch.no_grad()
    def calibrate(self, x: Tensor, frames: Tensor | None = None) -> None:
        """Take each dimension's frequency, or mean and spread, from training data.

        Arguments:
            x: Vectors `(B, n)`.
            frames: Not used.
        """
        del frames
        self.head.calibrate(x, self._output_bias().detach())

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
        """Ancestral samples `(num, n)`, dimension by dimension.

        Arguments:
            num: Vectors to draw.
            context: As for `conditionals`, batch `num`.
            generator: Source of the noise.
        """
        like = self._output_bias()
        noise = standard_noise(
            self.base,
            (num, self.num_dims),
            generator=generator,
            device=like.device,
            dtype=like.dtype,
        )
        return cached(cast("Any", self), noise, context)

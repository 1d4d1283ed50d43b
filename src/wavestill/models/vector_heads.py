"""What the outputs of a density of vectors stand for: one law per dimension."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from wavestill.distributions import Base, Distribution, Logistic, Mixture, Normal
from wavestill.distributions.bernoulli import Bernoulli

Head = Literal["bernoulli", "normal", "logistic"]


class VectorHead(nn.Module):
    r"""From outputs `(B, k, P)` to laws: bits, or mixtures of normals or logistics.

    Real values are standardised: the network sees :math:`(x - m_i) / s_i` and its laws are moved
    back, with the data's mean and standard deviation of each dimension (`calibrate`).

    Arguments:
        kind: A bit, or the shape of the components.
        num_dims: Dimensions `n`.
        num_mixtures: Components `K`; 1 for a single law.

    Raises:
        ValueError: If there are no dimensions or components, or a bit has several of them.
    """

    loc: Tensor
    log_scale: Tensor

    def __init__(self, kind: Head, num_dims: int, num_mixtures: int = 1) -> None:
        super().__init__()
        if num_dims < 1 or num_mixtures < 1:
            raise ValueError(
                f"'num_dims' is {num_dims} and 'num_mixtures' {num_mixtures}; give at least 1"
            )
        if kind == "bernoulli" and num_mixtures > 1:
            raise ValueError(
                f"'num_mixtures' is {num_mixtures} but a mixture of bits is a bit; set it to 1"
            )
        self.kind = kind
        self.num_mixtures = num_mixtures
        self.register_buffer("loc", torch.zeros(num_dims))
        self.register_buffer("log_scale", torch.zeros(num_dims))

    @property
    def base(self) -> Base:
        """The base noise of the laws."""
        return "normal" if self.kind == "normal" else "logistic"

    @property
    def num_outputs(self) -> int:
        """Parameters of one law."""
        if self.kind == "bernoulli":
            return 1
        return 2 if self.num_mixtures == 1 else 3 * self.num_mixtures

    @torch.no_grad()
    def calibrate(self, x: Tensor, bias: Tensor) -> None:
        """Begin at the frequency of each bit, or at each dimension's mean and spread.

        Arguments:
            x: Vectors of the training data, `(B, n)`.
            bias: The output biases to set, `(n, P)`.
        """
        if self.kind == "bernoulli":
            frequency = (x.sum(0) + 0.5) / (x.shape[0] + 1)  # half a count to either value
            bias.copy_(torch.logit(frequency).unsqueeze(1))
            return
        std = x.std(0, correction=0)
        # A constant dimension has no spread of its own; any finite one lets training begin.
        self.log_scale.copy_(torch.where(std > 0, std, 1.0).log())
        self.loc.copy_(x.mean(0))
        bias.copy_(self.initial_bias().to(bias))

    def initial_bias(self) -> Tensor:
        """Output biases `(P,)` of a standardised start: mean 0, variance 1.

        The components' means are quantiles of N(0, 1), their width makes up for the rest.
        """
        bias = torch.zeros(self.num_outputs)
        if self.kind == "bernoulli":
            return bias
        k = self.num_mixtures
        means = torch.special.ndtri((torch.arange(k) + 0.5) / k)
        log_std = 0.5 * math.log(1 - float(means.square().mean()))
        log_scale = log_std - (math.log(math.pi / math.sqrt(3)) if self.kind == "logistic" else 0)
        bias[-2 * k : -k] = means
        bias[-k:] = log_scale
        return bias

    def inner(self, x: Tensor, places: Tensor) -> Tensor:
        """Values `(B, k)` of the dimensions `places` as the network sees them."""
        if self.kind == "bernoulli":
            return x
        return (x - self.loc[places]) * torch.exp(-self.log_scale[places])

    def law(self, outputs: Tensor, places: Tensor) -> Distribution:
        """The laws of the dimensions `places`, `(k,)` or `(B, k)`."""
        if self.kind == "bernoulli":
            return Bernoulli(outputs.squeeze(-1))
        shape = Normal if self.kind == "normal" else Logistic
        law: Normal | Logistic | Mixture
        if self.num_mixtures == 1:
            law = shape(outputs[..., 0], outputs[..., 1])
        else:
            logits, loc, log_scale = outputs.chunk(3, dim=-1)
            law = Mixture(logits, shape(loc, log_scale))
        return law.affine(torch.exp(self.log_scale[places]), self.loc[places])

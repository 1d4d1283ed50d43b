r"""Flows of vectors: MAF and NSF as teachers, IAF as student, in one order of steps or several.

With all maps in the natural order :math:`x_{<i} \leftrightarrow z_{<i}` is a bijection, so the law
of every step is known: a normal moved by the total location and scale, or bent by the composed
splines. Stacks of alternating order are richer for their size, and known by `log_prob` alone.

References:
    | Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016),
      section 3, https://arxiv.org/abs/1606.04934
    | Masked Autoregressive Flow for Density Estimation (Papamakarios et al., 2017), section 3,
      https://arxiv.org/abs/1705.07057
    | Neural Spline Flows (Durkan et al., 2019), section 3, https://arxiv.org/abs/1906.04032
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from wavestill.density import Draw, JointDraw, State
from wavestill.distributions import Base, Continuous, Normal, standard_noise
from wavestill.models.masked_steps import MaskedStack, MaskedStep, Move, Order
from wavestill.models.prefix import Prefix
from wavestill.models.standardised import Standardised


class _VectorFlow(Standardised):
    """A stack of masked maps between noise and vectors of the data's location and scale."""

    base: Base = "normal"
    order: Order = "natural"
    is_student = False

    def __init__(
        self,
        num_dims: int,
        num_context: int = 0,
        *,
        num_flows: int = 3,
        hidden: Sequence[int] = (128, 128),
        bins: int | None = None,
        passes: int | None = None,
    ) -> None:
        super().__init__(num_dims, num_context)
        self.stack = MaskedStack(
            *(num_dims, num_context, num_flows, hidden, bins, self.order, passes),
            is_mirrored=self.is_student,
        )

    @property
    def num_passes(self) -> int:
        """Passes of each map that the way back takes with gradients."""
        flow = self.stack.flows[0]
        assert isinstance(flow, MaskedStep)
        return flow.num_passes

    def sample(
        self, num: int, context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """`num` draws, `(num, D)`."""
        shape, like = (num, self.num_dims), self.loc
        noise = standard_noise(
            self.base, shape, generator=generator, device=like.device, dtype=like.dtype
        )
        return self.from_noise(noise, context)

    def from_noise(self, noise: Tensor, context: Tensor | None = None) -> Tensor:
        """The vectors `(B, D)` that base noise `(B, D)` maps to, without gradients."""
        raise NotImplementedError


def _log_normal(z: Tensor) -> Tensor:
    zeros = torch.zeros_like(z)
    return Normal(zeros, zeros).log_prob(z)


class PermutedMAF(_VectorFlow):
    r"""A masked autoregressive flow of alternating order: likelihood in one pass.

    .. math:: z = f_K \circ \dots \circ f_1(x), \qquad
        \log p(x) = \log N(z; 0, 1) + \sum_k \sum_i \log f_{k,i}'

    Every other map goes through the steps backwards, so no law of a single step is known.

    Arguments:
        num_dims: Steps `D` of a vector, at least 2.
        num_context: Numbers that a vector is conditioned on; 0 for none.
        num_flows: Maps `K`.
        hidden: Widths of each map's masked network.
        bins: Bins of a monotone spline per step (a neural spline flow); None: affine maps.
        passes: Turns of each map, equally many steps in each: so many passes the way back takes.
            None: as many as steps, fully autoregressive; 2: a coupling flow.

    Raises:
        ValueError: If a size is out of range; and later, if data or context do not fit.

    Example:
        >>> flow = PermutedMAF(4, num_context=2)
        >>> flow.log_prob(torch.randn(5, 4), torch.randn(5, 2)).shape
        torch.Size([5])
    """

    order: Order = "alternating"

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-density in nats, `(B,)`: one pass."""
        z, log_slopes, _ = self._forth(x, context)
        return (_log_normal(z) + log_slopes - self.log_scale).sum(-1)

    def to_noise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The base noise that maps to `x`: one pass."""
        return self._forth(x, context)[0]

    @override
    @torch.no_grad()
    def from_noise(self, noise: Tensor, context: Tensor | None = None) -> Tensor:
        """The vectors that noise maps to, step by step with each unit computed once."""
        context = self.check(noise, context)
        return self.loc + self.log_scale.exp() * self.stack.inverse(noise, context)[0]

    def _forth(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, list[Move]]:
        context = self.check(x, context)
        found: tuple[Tensor, Tensor, list[Move]] = self.stack(self.standardised(x), context)
        return found


class MAF(PermutedMAF):
    r"""A masked autoregressive flow in the natural order: the law of every step in one pass.

    .. math:: p(x_i \mid x_{<i}) = N(\mu_{tot,i}, s_{tot,i}) \quad\text{or its image under splines}

    Arguments as `PermutedMAF`.

    Example:
        >>> flow, x = MAF(4), torch.randn(5, 4)
        >>> law = flow.conditionals(x)
        >>> torch.allclose(law.log_prob(x).sum(-1), flow.log_prob(x), atol=1e-5)
        True
    """

    order: Order = "natural"

    def conditionals(self, x: Tensor, context: Tensor | None = None) -> Continuous:
        """The laws `p(x_i | x_<i)`, batch shape `(B, D)`: one pass."""
        _, _, moves = self._forth(x, context)
        law: Continuous = Normal(torch.zeros_like(x), torch.zeros_like(x))
        for move in reversed(moves):
            law = move.law_undone(law)
        return law.affine(self.log_scale.exp(), self.loc)

    def advance(
        self, x_new: Tensor, context: Tensor | None = None, state: Prefix | None = None
    ) -> tuple[Continuous, State]:
        """The laws that become known with `x_new (B, n)`: one pass over the prefix."""
        is_first = state is None
        if state is None:
            rows = self.rows(context, x_new.shape[0])
            state = Prefix.empty(x_new, self.num_dims, rows)
        rows_at, places = state.append(x_new)
        laws = self.conditionals(state.values, state.context)
        if is_first:
            places = torch.arange(min(x_new.shape[1] + 1, self.num_dims), device=x_new.device)
            return laws[:, places], state
        return laws[rows_at, (places + 1).clamp(max=self.num_dims - 1)], state


class NSF(MAF):
    """A neural spline flow in the natural order: `MAF` with splines of `bins` bins.

    Example:
        >>> NSF(3, bins=4).sample(2).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        num_dims: int,
        num_context: int = 0,
        *,
        num_flows: int = 3,
        hidden: Sequence[int] = (128, 128),
        bins: int = 8,
    ) -> None:
        super().__init__(num_dims, num_context, num_flows=num_flows, hidden=hidden, bins=bins)


@dataclass
class FlowDraw(Draw):
    """A `Draw` whose log-density came with it: the splines need not be inverted for it.

    Arguments:
        joint: The sample's own log-density, `(B,)`.
    """

    joint: Tensor

    @property
    @override
    def log_prob(self) -> Tensor:
        """The sample's own log-density in nats, `(B,)`."""
        return self.joint


class PermutedIAF(_VectorFlow):
    r"""An inverse autoregressive flow of alternating order: sampled in one pass.

    .. math:: x = f_K \circ \dots \circ f_1(z), \qquad
        \log q(x) = \log N(z; 0, 1) - \sum_k \sum_i \log f_{k,i}'

    The density of its own samples is free; that of other vectors takes the way back, step by step.
    With splines, or two maps and more of alternating order, its first coordinate may have many
    modes; affine maps in one order leave it normal. Its maps go through the orders of a
    `PermutedMAF` of the same sizes in reverse: each can take over one of the teacher's.

    Arguments as `PermutedMAF`.

    Example:
        >>> student = PermutedIAF(4, bins=8)
        >>> draw = student.rsample(torch.randn(5, 4))
        >>> torch.allclose(draw.log_prob, student.log_prob(draw.x), atol=1e-4)
        True
    """

    order: Order = "alternating"
    is_student = True

    def rsample(self, noise: Tensor, context: Tensor | None = None) -> Draw | JointDraw:
        """The sample that `noise (B, D)` maps to, with its log-density: one pass."""
        x, log_prob, _ = self._forth(noise, context)
        return JointDraw(x, noise, log_prob)

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-density of any vectors in nats, `(B,)`.

        With gradients it makes `passes` passes of every map.
        """
        context = self.check(x, context)
        z, log_slopes = self.stack.inverse(self.standardised(x), context)
        return (_log_normal(z) - log_slopes - self.log_scale).sum(-1)

    def to_noise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The noise that maps to `x`, step by step."""
        return self.stack.inverse(self.standardised(x), self.check(x, context))[0]

    @override
    @torch.no_grad()
    def from_noise(self, noise: Tensor, context: Tensor | None = None) -> Tensor:
        """The vectors that noise maps to: one pass."""
        return self._forth(noise, context)[0]

    def _forth(self, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, list[Move]]:
        context = self.check(noise, context)
        u, log_slopes, moves = self.stack(noise, context)
        log_prob = (_log_normal(noise) - log_slopes - self.log_scale).sum(-1)
        return self.loc + self.log_scale.exp() * u, log_prob, moves


class IAF(PermutedIAF):
    r"""An inverse autoregressive flow in the natural order: a sample with the laws of its steps.

    .. math:: q(x_i \mid x_{<i}) = N(\mu_{tot,i}, s_{tot,i}) \quad\text{or its image under splines}

    Arguments as `PermutedMAF`.

    Example:
        >>> draw = IAF(4).rsample(torch.randn(5, 4))
        >>> draw.x.shape, draw.conditionals.batch_shape
        (torch.Size([5, 4]), torch.Size([5, 4]))
    """

    order: Order = "natural"

    @override
    def rsample(self, noise: Tensor, context: Tensor | None = None) -> FlowDraw:
        """The sample that `noise (B, D)` maps to, with its laws: one pass."""
        x, log_prob, moves = self._forth(noise, context)
        law: Continuous = Normal(torch.zeros_like(noise), torch.zeros_like(noise))
        for move in moves:
            law = move.law(law)
        return FlowDraw(x, noise, law.affine(self.log_scale.exp(), self.loc), log_prob)

    def stream(
        self, noise: Tensor, context: Tensor | None = None, state: Prefix | None = None
    ) -> tuple[Draw, State]:
        """`rsample` of the next draws `(B, n)`: one pass over the prefix."""
        if state is None:
            rows = self.rows(context, noise.shape[0])
            state = Prefix.empty(noise, self.num_dims, rows)
        index = state.append(noise)
        draw = self.rsample(state.values, state.context)
        return Draw(draw.x[index], noise, draw.conditionals[index]), state

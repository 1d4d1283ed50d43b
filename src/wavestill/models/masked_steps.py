r"""Masked autoregressive maps of vectors, and stacks of them: one pass forth, cached steps back.

.. math:: u_i = f(v_i; \theta_i), \qquad \theta_i = \mathrm{net}_i(v_{<i}, c)

with `f` affine, or a monotone spline that is then moved. The Jacobian is triangular. The way back
goes step by step; a network whose units are computed once each (`nn.incremental`) makes it cost
about one pass in place of `D`.

References:
    | MADE (Germain et al., 2015), section 3, https://arxiv.org/abs/1502.03509
    | Masked Autoregressive Flow (Papamakarios et al., 2017), section 3,
      https://arxiv.org/abs/1705.07057
    | Neural Spline Flows (Durkan et al., 2019), section 3, https://arxiv.org/abs/1906.04032
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from zuko.nn import MaskedLinear, MaskedMLP  # type: ignore[import-untyped]

from wavestill.distributions import Continuous
from wavestill.distributions.spline import (
    Knots,
    Splined,
    knots_of,
    soft_clip,
    spline,
    spline_inverse,
)
from wavestill.nn.incremental import IncrementalMLP

Order = Literal["natural", "alternating"]

SCALE_REACH = -math.log(1e-3)
"""Log-scales of one map stay within it, as in zuko: no layer may stretch without bound."""


@dataclass
class Move:
    r"""One increasing map for every step, :math:`f(v) = \mu + e^a g(v)`; `g` a spline or nothing.

    Arguments:
        loc: :math:`\mu (B, D)`.
        log_scale: :math:`a (B, D)`, in nats.
        knots: The spline's; None: `g(v) = v`.
    """

    loc: Tensor
    log_scale: Tensor
    knots: Knots | None

    def __call__(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """`f(v)` and the logarithm of its slope."""
        if self.knots is None:
            return self.loc + self.log_scale.exp() * v, self.log_scale
        bent, log_slope = spline(v, self.knots)
        return self.loc + self.log_scale.exp() * bent, self.log_scale + log_slope

    def undo(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The `v` that is mapped to `u`, and the logarithm of the map's slope there."""
        unmoved = (u - self.loc) * torch.exp(-self.log_scale)
        if self.knots is None:
            return unmoved, self.log_scale
        v, log_slope = spline_inverse(unmoved, self.knots)
        return v, self.log_scale + log_slope

    def law(self, inner: Continuous) -> Continuous:
        """The law of `f(V)`."""
        if self.knots is None:
            return inner.affine(self.log_scale.exp(), self.loc)
        return Splined(inner, self.knots, self.loc, self.log_scale)

    def law_undone(self, inner: Continuous) -> Continuous:
        """The law of :math:`f^{-1}(U)`."""
        inverse_scale = torch.exp(-self.log_scale)
        law = inner.affine(inverse_scale, -self.loc * inverse_scale)
        if self.knots is None:
            return law
        zeros = torch.zeros_like(self.loc)
        return Splined(law, self.knots, zeros, zeros, is_inverse=True)


class MaskedStep(nn.Module):
    """One masked autoregressive map.

    Begins as the identity.

    Arguments:
        num_dims: Steps `D` of a vector.
        num_context: Numbers that a vector is conditioned on.
        order: When each step's turn is, `(D,)`; steps of one turn are mapped side by side.
        hidden: Widths of the network's layers.
        bins: Bins of the spline; None: an affine map.
    """

    order: Tensor

    def __init__(
        self,
        num_dims: int,
        num_context: int,
        order: Tensor,
        hidden: Sequence[int],
        bins: int | None,
    ) -> None:
        super().__init__()
        self.bins = bins
        self.num_outputs = 2 if bins is None else 3 * bins + 1
        self.register_buffer("order", order)
        self.num_passes = int(order.max()) + 1
        adjacency = order.unsqueeze(1) > order
        context = torch.ones(num_dims, num_context, dtype=torch.bool)
        adjacency = torch.cat([adjacency, context], 1).repeat_interleave(self.num_outputs, 0)
        self.net = MaskedMLP(adjacency, hidden, activation=nn.SiLU)
        last = self.net[-1]
        assert isinstance(last, MaskedLinear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, v: Tensor, context: Tensor | None) -> Move:
        """The map of every step, given the steps before it: one pass."""
        inputs = v if context is None else torch.cat([v, context], -1)
        return self._move(self.net(inputs).unflatten(-1, (-1, self.num_outputs)))

    def inverse(self, u: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The `v` that is mapped to `u`, and the log-slopes there, both `(B, D)`; exact.

        Without gradients it goes step by step and computes every unit of the network once; with
        them the textbook's passes are made, one for each turn.
        """
        v, log_slopes = torch.zeros_like(u), torch.zeros_like(u)
        if torch.is_grad_enabled():
            for _ in range(self.num_passes):
                v, log_slopes = self(v, context).undo(u)
            return v, log_slopes
        net = IncrementalMLP(self.net, self.order, self.num_outputs)
        for steps, outputs in net.run(v, context):
            v[:, steps], log_slopes[:, steps] = self._move(outputs).undo(u[:, steps])
        return v, log_slopes

    def _move(self, outputs: Tensor) -> Move:
        loc, log_scale = outputs[..., 0], soft_clip(outputs[..., 1], SCALE_REACH)
        if self.bins is None:
            return Move(loc, log_scale, None)
        sizes = [self.bins, self.bins, self.bins - 1]
        return Move(loc, log_scale, knots_of(*torch.split(outputs[..., 2:], sizes, -1)))


class MaskedStack(nn.Module):
    """Masked maps one after another, in one order of the steps or in alternating ones.

    Arguments:
        num_dims: Steps `D` of a vector, at least 2.
        num_context: Numbers that a vector is conditioned on; 0 for none.
        num_flows: Maps.
        hidden: Widths of each map's network.
        bins: Bins of the splines; None: affine maps.
        order: "natural": step `i` follows `i - 1` in every map, so the whole is triangular;
            "alternating": every other map goes through the steps backwards, as in zuko.
        passes: Turns of each map, equally many steps in each: so many passes the way back takes.
            None: as many as steps. Two make a coupling flow.
        is_mirrored: Whether the maps' orders come in reverse: as the inverses of another stack's.

    Raises:
        ValueError: If a size is out of range.
    """

    def __init__(
        self,
        num_dims: int,
        num_context: int,
        num_flows: int,
        hidden: Sequence[int],
        bins: int | None,
        order: Order,
        passes: int | None = None,
        *,
        is_mirrored: bool = False,
    ) -> None:
        super().__init__()
        if num_flows < 1:
            raise ValueError(f"'num_flows' is {num_flows}; give 1 or more")
        if bins is not None and bins < 2:
            raise ValueError(f"'bins' is {bins}; a spline has 2 or more, None is an affine map")
        if passes is not None and not 2 <= passes <= num_dims:
            raise ValueError(f"'passes' is {passes}; it lies in [2, {num_dims}], the dimensions")
        orders = list(_orders(num_dims, num_flows, order, passes or num_dims))
        self.flows = nn.ModuleList(
            MaskedStep(num_dims, num_context, turns, hidden, bins)
            for turns in (reversed(orders) if is_mirrored else orders)
        )

    def forward(self, v: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, list[Move]]:
        """The last map's output, the log-slopes of all maps summed `(B, D)`, and the maps."""
        log_slopes, moves = torch.zeros_like(v), []
        for flow in self.flows:
            move = flow(v, context)
            v, log_slope = move(v)
            log_slopes = log_slopes + log_slope
            moves.append(move)
        return v, log_slopes, moves

    def inverse(self, u: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the stack maps to `u`, and the log-slopes of all maps there, summed `(B, D)`."""
        log_slopes = torch.zeros_like(u)
        for flow in reversed(self.flows):
            assert isinstance(flow, MaskedStep)
            u, log_slope = flow.inverse(u, context)
            log_slopes = log_slopes + log_slope
        return u, log_slopes


def _orders(num_dims: int, num_flows: int, order: Order, passes: int) -> Iterator[Tensor]:
    """Each step's turn in each map."""
    turns = torch.arange(num_dims)
    for number in range(num_flows):
        is_reversed = order == "alternating" and number % 2
        yield (turns.flip(0) if is_reversed else turns) * passes // num_dims

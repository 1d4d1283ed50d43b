r"""Causal self-attention over a sequence, and the keys and values it carries.

Position `b` attends to itself and the `reach` positions before it,

.. math::
    y_b = \sum_{b - R \le a \le b} \mathrm{softmax}_a \Big(\frac{q_b \cdot k_a}{\sqrt D}\Big) v_a,

queries and keys turned by an angle proportional to their position, so that the product depends on
the distance :math:`b - a` alone. What a position stands for (a sample, a block of them, a frame)
is the caller's affair.

References:
    | Attention Is All You Need (Vaswani et al., 2017), section 3.2, https://arxiv.org/abs/1706.03762
    | RoFormer (Su et al., 2021), equations 14 to 16 (rotary positions),
      https://arxiv.org/abs/2104.09864
    | On Layer Normalization in the Transformer Architecture (Xiong et al., 2020), section 3
      (pre-norm), https://arxiv.org/abs/2002.04745
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from wavestill.nn.causal import History

# The slowest pair of channels turns once in 2 pi times this many positions (section 3.2.2).
_SLOWEST = 10_000.0


@dataclass
class AttentionState:
    """Keys and values of every layer, and the position that is next.

    Each layer's are one preallocated `History` of `reach` positions: a step copies nothing of the
    past, and the memory does not grow with the sequence.
    """

    layers: list[History]
    position: int | Tensor = field(default=0)

    def rewind(self, num_steps: int | Tensor) -> None:
        """Forget the last positions, at most those of the last call: see `density.State`."""
        for history in self.layers:
            history.rewind(num_steps)
        self.position = _common(self.position - num_steps)

    def select(self, index: Tensor) -> None:
        """Keep only the sequences `index (B',)`."""
        for history in self.layers:
            history.select(index)
        if isinstance(self.position, Tensor):
            self.position = _common(self.position[index])


def _common(position: int | Tensor) -> int | Tensor:
    """A single number while all sequences stand together."""
    if isinstance(position, Tensor) and bool((position == position[0]).all()):
        return int(position[0])
    return position


class View(NamedTuple):
    """What all layers share in one call.

    Arguments:
        cos: Of the angle of every position and pair of channels, `(1 or B, 1, n, D / 2)`.
        sin: The same.
        num_past: Positions before the new ones that any of them attends to.
        mask: Whether new position `i` sees position `j` of those held, `(1 or B, 1, n, num_past +
            n)`; None where plain causality, or a single query, needs none.
    """

    cos: Tensor
    sin: Tensor
    num_past: int
    mask: Tensor | None


class CausalAttention(nn.Module):
    """Multi-head attention to the past with rotary positions.

    Arguments:
        channels: Width, a multiple of `heads`.
        heads: Heads, each of an even number of channels.
        reach: Positions before its own that a position attends to.
    """

    def __init__(self, channels: int, heads: int, reach: int) -> None:
        super().__init__()
        if channels % (2 * heads):
            raise ValueError(
                f"{channels} channels do not make {heads} heads of an even width; "
                f"choose a multiple of {2 * heads}"
            )
        self.heads = heads
        self.reach = reach
        self.project = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, view: View, history: History | None) -> Tensor:
        """`x (B, n, channels)` to what its positions attend to, of the same shape."""
        query, key, value = self.project(x).view(*x.shape[:2], 3, self.heads, -1).unbind(2)
        query, key = _turned(query, view), _turned(key, view)  # (B, n, H, D)
        if history is not None:
            held = history.extend(torch.cat([key, value], -1).flatten(2))
            held = held[:, self.reach - view.num_past :]  # (B, num_past + n, 2 H D)
            key, value = held.view(*held.shape[:2], self.heads, -1).chunk(2, dim=-1)
        attended = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            attn_mask=view.mask,
            is_causal=view.mask is None and x.shape[1] > 1,
        )
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out


def _turned(x: Tensor, view: View) -> Tensor:
    """Pairs of channels of `x (B, n, H, D)`, the halves of D, turned by their position's angle."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = view.cos.transpose(1, 2), view.sin.transpose(1, 2)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1).to(x.dtype)


class TransformerLayer(nn.Module):
    """Pre-norm: attention, then a network of each position, each added to its input."""

    def __init__(self, channels: int, heads: int, reach: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = CausalAttention(channels, heads, reach)
        self.network_norm = nn.LayerNorm(channels)
        self.network = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, view: View, history: History | None) -> Tensor:
        """`(B, n, channels)` to the same."""
        x = x + self.dropout(self.attention(self.attention_norm(x), view, history))
        out: Tensor = x + self.dropout(self.network(self.network_norm(x)))
        return out


class CausalTransformer(nn.Module):
    """Pre-norm transformer layers: one forward for whole sequences, chunks and single steps.

    Output `b` sees inputs up to and including `b`, through `L` layers at most `L * reach` back.

    Arguments:
        layers: Layers.
        channels: Width of the residual path, a multiple of `2 * heads`.
        heads: Heads of each attention.
        reach: Positions before its own that a position attends to, >= 1.
        dropout: Probability of dropping what a branch adds, while training.

    Raises:
        ValueError: If width and heads do not go together, or there is nothing to attend to.

    Example:
        >>> transformer = CausalTransformer(2, 16, 2, reach=8)
        >>> x = torch.randn(1, 5, 16)
        >>> state = transformer.fresh_state()
        >>> parts = [transformer(x[:, :3], state), transformer(x[:, 3:], state)]
        >>> torch.allclose(torch.cat(parts, 1), transformer(x), atol=1e-5)
        True
    """

    def __init__(
        self, layers: int, channels: int, heads: int, reach: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if reach < 1:
            raise ValueError(f"'reach' is {reach}; attend to at least 1 position before")
        self.reach = reach
        self._half = channels // heads // 2
        self.layers = nn.ModuleList(
            TransformerLayer(channels, heads, reach, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(channels)
        with torch.no_grad():  # the sum of all branches begins no larger than the input
            for layer in self._layers():
                for last in (layer.attention.out, cast("nn.Linear", layer.network[2])):
                    last.weight.mul_(1 / math.sqrt(2 * layers))

    def fresh_state(self) -> AttentionState:
        """The state before the first position."""
        # As much room as reach: each step is copied once more, and large batches fit.
        return AttentionState([History(self.reach, room=self.reach) for _ in self.layers])

    def forward(
        self, x: Float[Tensor, "B n C"], state: AttentionState | None = None
    ) -> Float[Tensor, "B n C"]:
        """Features of each position; with a state, of those that follow what it has seen.

        A state carries no gradient: call with one under `torch.no_grad()`.
        """
        view = self._view(x, 0 if state is None else state.position)
        for i, layer in enumerate(self._layers()):
            x = layer(x, view, None if state is None else state.layers[i])
        if state is not None:
            state.position = state.position + x.shape[1]
        out: Tensor = self.norm(x)
        return out

    def _layers(self) -> list[TransformerLayer]:
        return [cast("TransformerLayer", layer) for layer in self.layers]

    def _view(self, x: Tensor, position: int | Tensor) -> View:
        """Angles and mask of the new positions `x (B, n, C)` that begin at `position`."""
        num_new = x.shape[1]
        start = torch.as_tensor(position, device=x.device).view(-1, 1)  # (1 or B, 1)
        steps = start + torch.arange(num_new, device=x.device)  # (1 or B, n)
        pair = torch.arange(self._half, dtype=torch.float64, device=x.device)
        # In float64: an angle is the product of a position and a speed, and positions grow.
        angle = steps.double().unsqueeze(-1) * _SLOWEST ** (-pair / self._half)
        cos, sin = (turn.to(x.dtype).unsqueeze(1) for turn in (angle.cos(), angle.sin()))
        is_one = isinstance(position, int)
        num_past = min(self.reach, int(position if is_one else start.max()))
        if is_one and (num_new == 1 or (num_past == 0 and num_new <= self.reach + 1)):
            return View(cos, sin, num_past, None)
        seen = torch.arange(-num_past, num_new, device=x.device)
        distance = torch.arange(num_new, device=x.device).unsqueeze(1) - seen  # (n, num_past + n)
        is_near = (distance >= 0) & (distance <= self.reach)
        exists = start + seen >= 0  # (1 or B, num_past + n)
        return View(cos, sin, num_past, (is_near & exists.unsqueeze(1)).unsqueeze(1))

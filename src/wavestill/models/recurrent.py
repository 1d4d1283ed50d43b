r"""Vectors drawn along one running hidden sum: what NADE and RNADE share.

.. math:: a_0 = c, \qquad a_{i+1} = a_i + W_{\cdot, i}\, x_i, \qquad
    p(x_i \mid x_{<i}) = p(x_i \mid V_i\, h_i + b_i), \quad h_i = g_i(a_i)
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wavestill.density import Context
from wavestill.distributions import Distribution
from wavestill.models.vector_density import VectorDensity
from wavestill.models.vector_heads import VectorHead
from wavestill.nn.running_sum import CHUNK_INPUTS, RunningSum
from wavestill.nn.states import rewound

OUTPUT_GAIN = 0.5
"""Standard deviation of the initial outputs per unit of hidden activation."""


@dataclass
class RecurrentState:
    """What `advance` carries: the hidden sum, and the last call's inputs, to be cut.

    Arguments:
        before: The sum before the last call, `(B, d)`.
        recent: The last call's inputs, `(B, n)`.
        first: Which inputs they are: the number of the first one, of all or of each.
        position: Inputs known so far.
        end: The sum after them; None once they were cut.
    """

    before: Tensor
    recent: Tensor
    first: int | Tensor
    position: int | Tensor
    end: Tensor | None

    def rewind(self, num_steps: int | Tensor) -> None:
        """Forget the last steps; see `State`."""
        keep = self.position - self.first - num_steps
        if isinstance(keep, Tensor):
            keep = keep.unsqueeze(1)
        place = torch.arange(self.recent.shape[1], device=self.recent.device)
        self.recent = self.recent * (place < keep)  # an input of zero adds nothing
        self.position = rewound(self.position, num_steps)
        self.end = None

    def select(self, index: Tensor) -> None:
        """Keep only the vectors `index (B',)`."""
        self.before, self.recent = self.before[index], self.recent[index]
        self.end = None if self.end is None else self.end[index]
        if isinstance(self.first, Tensor):
            self.first = rewound(self.first[index], 0)
        if isinstance(self.position, Tensor):
            self.position = rewound(self.position[index], 0)


class RecurrentDensity(VectorDensity):
    """An autoregressive density of vectors along one running hidden sum.

    Likelihood and sampling cost O(n d) each. Subclasses say what the hidden units are.

    Arguments:
        head: The law of a dimension.
        num_hidden: Hidden units `d`.
        num_context: Values of a context vector that moves the hidden bias; 0 for none.
        input_gain: Standard deviation of the initial input weights, times the square root of `n`.
    """

    def __init__(
        self, head: VectorHead, num_hidden: int, num_context: int, input_gain: float
    ) -> None:
        super().__init__(head)
        num_dims = len(head.loc)
        self.sums = RunningSum(num_dims, num_hidden, num_context, input_gain)
        self.weight = nn.Parameter(torch.randn(num_dims, num_hidden, head.num_outputs))
        self.bias = nn.Parameter(head.initial_bias().repeat(num_dims, 1))
        with torch.no_grad():
            self.weight.mul_(OUTPUT_GAIN / math.sqrt(num_hidden))

    @abstractmethod
    def _hidden(self, sums: Tensor, *own: Tensor) -> Tensor:
        """The hidden units `(k, B, d)` of `k` dimensions from their sums and `_own` parameters."""

    def _own(self) -> tuple[Tensor, ...]:
        """Parameters per dimension that the hidden units have beside the sums."""
        return ()

    def _output_bias(self) -> Tensor:
        return self.bias

    def _outputs(self, sums: Tensor, weight: Tensor, bias: Tensor, *own: Tensor) -> Tensor:
        """Outputs `(k, B, P)`; parameters are of each dimension, `(k, ...)`, or row too."""
        h = self._hidden(sums, *own)
        if weight.dim() == 3:
            return torch.baddbmm(bias.unsqueeze(1), h, weight)
        return torch.matmul(h.unsqueeze(-2), weight).squeeze(-2) + bias

    def conditionals(self, x: Float[Tensor, "B n"], context: Context = None) -> Distribution:
        r"""The law of every dimension given those before it, `(B, n)`: O(n d) for each vector.

        Arguments:
            x: Vectors, or their first dimensions.
            context: A tensor `(B, C)` where the model has one; else None.

        Raises:
            ValueError: If `x` has no dimensions or more than the model, or the context is not as
                the model has it.
        """
        start, past, places = self._begin(x, context)
        sums = chain([start.unsqueeze(0)], (sums for sums, _ in self.sums.chunks(past, start)))
        sizes = [
            1,
            *(part.shape[1] for part in torch.split(past, CHUNK_INPUTS, 1) if part.shape[1]),
        ]
        pieces = zip(*(torch.split(p[: x.shape[1]], sizes) for p in self._per_dim()), strict=True)
        outputs = [self._outputs(a, *piece) for a, piece in zip(sums, pieces, strict=True)]
        return self.head.law(torch.cat(outputs).transpose(0, 1), places)

    def textbook_conditionals(
        self, x: Float[Tensor, "B n"], context: Context = None
    ) -> Distribution:
        r"""The same laws, every hidden sum from its definition: O(n² d), to be held against.

        .. math:: a_i = c + \sum_{j < i} W_{\cdot, j}\, x_j

        Arguments and result as `conditionals`.
        """
        start, past, places = self._begin(x, context)
        sums = self.sums.by_definition(past, start)
        outputs = self._outputs(sums, *(p[: x.shape[1]] for p in self._per_dim()))
        return self.head.law(outputs.transpose(0, 1), places)

    @torch.no_grad()
    def advance(
        self,
        x_new: Float[Tensor, "B n"],
        context: Context = None,
        state: RecurrentState | None = None,
    ) -> tuple[Distribution, RecurrentState]:
        """The laws that become known with `x_new`: see `Autoregressive`; carries no gradient.

        The context counts in the first call. After unequal rewinds, what is fed beyond a vector's
        end is ignored, and the laws there mean nothing.

        Raises:
            ValueError: If more than `num_dims - 1` dimensions are fed: no law follows the last.
        """
        n, lead = x_new.shape[1], int(state is None)
        if state is None:
            start = self.sums.start(x_new, context)
            state = RecurrentState(start, x_new[:, :0], 0, 0, start)
        first = state.position
        if not isinstance(first, Tensor) and first + n >= self.num_dims:
            raise ValueError(
                f"{n} dimensions were fed after {first} but the vectors have {self.num_dims}; "
                "no law follows the last"
            )
        end = state.end
        if end is None:  # cut: the sum is made again of what was kept
            end = self.sums.after(state.recent, state.before, state.first)
        past = self.head.inner(x_new, self._places(first, n))
        state.before, state.recent, state.first = end, past, first
        chunks = [end.unsqueeze(0)[:lead]]  # the first call gives the first dimension's law too
        for sums, after in self.sums.chunks(past, end, first):
            chunks.append(sums)
            end = after
        state.end, state.position = end, first + n
        places = self._places(first + 1 - lead, n + lead)
        outputs = self._outputs(
            torch.cat(chunks), *(p[places.movedim(-1, 0)] for p in self._per_dim())
        )
        return self.head.law(outputs.transpose(0, 1), places), state

    @torch.no_grad()
    def textbook_sample(
        self, noise: Float[Tensor, "B n"], context: Context = None
    ) -> Float[Tensor, "B n"]:
        """The sample that `sampling.cached` maps the noise to, every sum from its definition.

        O(n² d), to be held against.
        """
        x = torch.empty_like(noise)
        start = self.sums.start(noise, context)
        past = torch.empty_like(noise)
        for i in range(noise.shape[1]):
            sums = start + past[:, :i] @ self.sums.weight[:i]
            outputs = self._outputs(sums.unsqueeze(0), *(p[i : i + 1] for p in self._per_dim()))
            here = self._places(i, 1)
            law = self.head.law(outputs.transpose(0, 1), here)
            x[:, i : i + 1] = law.from_noise(noise[:, i : i + 1])
            past[:, i : i + 1] = self.head.inner(x[:, i : i + 1], here)
        return x

    def _begin(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """The first sum; all inputs but the last as the sums take them; which laws are asked."""
        n = x.shape[1]
        if not 1 <= n <= self.num_dims:
            raise ValueError(
                f"the vectors have {n} dimensions but the model {self.num_dims}; "
                "give as many, or the first of them"
            )
        places = self._places(0, n)
        return self.sums.start(x, context), self.head.inner(x[:, :-1], places[:-1]), places

    def _places(self, first: int | Tensor, num: int) -> Tensor:
        """Numbers of the dimensions from `first` on: `(num,)`, or `(B, num)` of each row's own."""
        offsets = torch.arange(num, device=self.bias.device)
        if not isinstance(first, Tensor):
            return first + offsets
        return (first.unsqueeze(1) + offsets).clamp(max=self.num_dims - 1)

    def _per_dim(self) -> tuple[Tensor, ...]:
        """All parameters that each dimension has its own of."""
        return (self.weight, self.bias, *self._own())

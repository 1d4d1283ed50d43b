r"""The recurrence of NADE: one hidden sum that every input is added to as it becomes known.

.. math:: a_0 = c, \qquad a_{i+1} = a_i + W_{\cdot, i}\, x_i

With it all the sums of `n` inputs cost O(n d), where each from its definition,
:math:`a_i = c + \sum_{j < i} W_{\cdot, j}\, x_j`, costs O(n d) by itself.

References:
    | The Neural Autoregressive Distribution Estimator (Larochelle and Murray, 2011), section 3,
      https://proceedings.mlr.press/v15/larochelle11a.html
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

CHUNK_INPUTS = 16
"""Inputs that are summed by one matrix product: more is arithmetic, fewer is overhead."""


class RunningSum(nn.Module):
    """Hidden sums over growing prefixes of the inputs.

    Arguments:
        num_inputs: Inputs `n`.
        num_hidden: Hidden units `d`.
        num_context: Values that may move the start :math:`c`, linearly; 0 for none.
        gain: Standard deviation of the initial weights, times the square root of `n`.

    Raises:
        ValueError: If there are no hidden units.

    Example:
        >>> sums = RunningSum(6, 4)
        >>> x = torch.randn(2, 6)
        >>> chunks = [a for a, _ in sums.chunks(x[:, :-1], sums.start(x))]
        >>> torch.cat(chunks).shape  # a_1 ... a_5 of both
        torch.Size([5, 2, 4])
    """

    def __init__(
        self, num_inputs: int, num_hidden: int, num_context: int = 0, gain: float = 1.0
    ) -> None:
        super().__init__()
        if num_hidden < 1:
            raise ValueError(f"'num_hidden' is {num_hidden}; give at least 1")
        self.weight = nn.Parameter(torch.randn(num_inputs, num_hidden))
        self.bias = nn.Parameter(torch.zeros(num_hidden))
        self.context = nn.Linear(num_context, num_hidden, bias=False) if num_context else None
        with torch.no_grad():
            self.weight.mul_(gain / math.sqrt(num_inputs))

    def start(self, x: Float[Tensor, "B n"], context: Tensor | None = None) -> Tensor:
        """The sum of no inputs, `(B, d)`.

        Raises:
            ValueError: If the context is missing, not of the model, or of another batch.
        """
        num_context = 0 if self.context is None else self.context.in_features
        shape = None if context is None else tuple(context.shape)
        if shape != ((x.shape[0], num_context) if num_context else None):
            wanted = f"(batch, {num_context})" if num_context else "None"
            raise ValueError(
                f"the context is {shape} for a batch of {x.shape[0]} but must be {wanted}"
            )
        if self.context is None or context is None:
            return self.bias.expand(x.shape[0], -1)
        start: Tensor = self.bias + self.context(context)
        return start

    def chunks(
        self, x: Float[Tensor, "B n"], start: Tensor, first: int | Tensor = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        r"""The sums after each input, some inputs at a time.

        Within a chunk the sums are one product with a triangle of the inputs, so that the work is
        a few matrix products, and still O(n d).

        Arguments:
            x: The inputs, `(B, n)`.
            start: The sum before them, `(B, d)`.
            first: Which input of the model the first one is; `(B,)` where the rows differ, and
                what lies beyond the last input is then ignored.

        Yields:
            The sums `(k, B, d)` after each of the next `k` inputs, and that after the last,
            `(B, d)`.
        """
        n = x.shape[1]
        if n == 0:
            return
        parts = torch.split(x, CHUNK_INPUTS, 1)
        if isinstance(first, Tensor):
            for part, weight in zip(
                parts, torch.split(self._columns(first, n), CHUNK_INPUTS, 1), strict=True
            ):
                sums = start + (part.unsqueeze(-1) * weight).cumsum(1).transpose(0, 1)
                start = sums[-1]
                yield sums, start
            return
        triangle = x.new_ones(CHUNK_INPUTS, CHUNK_INPUTS).tril().unsqueeze(1)  # (k, 1, k)
        # split, not sliced one by one: the gradient of a slice is as large as the whole matrix
        weights = torch.split(self.weight[first : first + n], CHUNK_INPUTS)
        for part, weight in zip(parts, weights, strict=True):
            batch, k = part.shape
            prefixes = (triangle[:k, :, :k] * part).reshape(-1, k)  # (k B, k)
            sums = start + (prefixes @ weight).view(k, batch, -1)
            start = torch.addmm(start, part, weight)
            yield sums, start

    def after(
        self, x: Float[Tensor, "B n"], start: Tensor, first: int | Tensor = 0
    ) -> Float[Tensor, "B d"]:
        """The sum after all of `x`; arguments as for `chunks`."""
        if isinstance(first, Tensor):
            return start + torch.einsum("bn,bnd->bd", x, self._columns(first, x.shape[1]))
        return torch.addmm(start, x, self.weight[first : first + x.shape[1]])

    def _columns(self, first: Tensor, num: int) -> Tensor:
        """The weights `(B, num, d)` of each row's own inputs."""
        places = first.unsqueeze(1) + torch.arange(num, device=first.device)
        return self.weight[places.clamp(max=self.weight.shape[0] - 1)]

    def by_definition(self, x: Float[Tensor, "B n"], start: Tensor) -> Tensor:
        """All sums `a_0 ... a_n (n + 1, B, d)`, each from all its inputs: O(n² d)."""
        prefixes = range(x.shape[1] + 1)
        return torch.stack([start + x[:, :i] @ self.weight[:i] for i in prefixes])

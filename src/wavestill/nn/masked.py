r"""Masked layers: a dense network in which output `i` sees the inputs before `i` alone.

.. math:: y = (W \circ M)\, x + b, \qquad M_{kj} = [m(k) \ge m(j)] \ \text{or} \ [m(k) > m(j)]

Every unit has a degree: the number of inputs that it may depend on. Input `i` has degree
:math:`i + 1`, hidden units have degrees up to :math:`n - 1`, and output `i`, of degree
:math:`i + 1`, takes units of smaller degree only.

References:
    | MADE: Masked Autoencoder for Distribution Estimation (Germain et al., 2015), section 3,
      equations 12 to 14, https://arxiv.org/abs/1502.03509
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override


class MaskedLinear(nn.Linear):
    """A linear layer whose units see those of the layer before by their degrees.

    Arguments:
        degrees_in: Degree of each input, `(I,)`.
        degrees_out: Degree of each output, `(O,)`.
        strict: Whether an output sees smaller degrees only, or equal ones too.

    Example:
        >>> layer = MaskedLinear(torch.tensor([1, 2]), torch.tensor([1, 2]), strict=True)
        >>> layer.mask.int().tolist()
        [[0, 0], [1, 0]]
    """

    mask: Tensor

    def __init__(self, degrees_in: Tensor, degrees_out: Tensor, *, strict: bool) -> None:
        super().__init__(len(degrees_in), len(degrees_out))
        above = degrees_out.unsqueeze(1) - degrees_in
        self.register_buffer("mask", above > 0 if strict else above >= 0)

    @override
    def forward(self, input: Float[Tensor, "B I"]) -> Float[Tensor, "B O"]:
        return F.linear(input, self.weight * self.mask, self.bias)


class MaskedNetwork(nn.Module):
    """Hidden layers and outputs, several per input; output `i` sees the inputs before `i` alone.

    A direct connection from inputs to outputs, masked likewise, lies beside the hidden layers.

    Arguments:
        num_inputs: Inputs `n`.
        hidden: Units of each hidden layer; none of them leaves the direct connection.
        num_outputs: Outputs `P` of each input.
        num_context: Further inputs that every unit may see.

    Raises:
        ValueError: If a hidden layer has no units.

    Example:
        >>> net = MaskedNetwork(4, (16,), 2)
        >>> net(torch.randn(3, 4)).shape
        torch.Size([3, 4, 2])
    """

    def __init__(
        self, num_inputs: int, hidden: Sequence[int], num_outputs: int, num_context: int = 0
    ) -> None:
        super().__init__()
        if any(units < 1 for units in hidden):
            raise ValueError(f"'hidden' is {list(hidden)}; every layer needs at least 1 unit")
        self.num_context = num_context
        inputs = torch.cat(
            [torch.arange(1, num_inputs + 1), torch.zeros(num_context, dtype=torch.long)]
        )
        outputs = torch.arange(1, num_inputs + 1).repeat_interleave(num_outputs)
        # Degrees from 1 (0 with a context, which the first output then sees too) to n - 1, evenly.
        least = 0 if num_context else 1
        layers: list[MaskedLinear] = []
        before = inputs
        for units in hidden:
            degrees = least + torch.arange(units) % max(1, num_inputs - least)
            layers.append(MaskedLinear(before, degrees, strict=False))
            before = degrees
        self.layers = nn.ModuleList(layers)
        self.output = MaskedLinear(before, outputs, strict=True) if hidden else None
        self.direct = MaskedLinear(inputs, outputs, strict=True)
        if self.output is not None:
            nn.init.zeros_(self.output.weight)  # begin at the marginals, as the direct one
        nn.init.zeros_(self.direct.weight)
        nn.init.zeros_(self.direct.bias)

    def forward(
        self, x: Float[Tensor, "B n"], context: Tensor | None = None
    ) -> Float[Tensor, "B n P"]:
        """Outputs of every input.

        Raises:
            ValueError: If the context is missing, not of the network, or of another batch.
        """
        shape = None if context is None else tuple(context.shape)
        if shape != ((x.shape[0], self.num_context) if self.num_context else None):
            wanted = f"(batch, {self.num_context})" if self.num_context else "None"
            raise ValueError(
                f"the context is {shape} for a batch of {x.shape[0]} but must be {wanted}"
            )
        inputs = x if context is None else torch.cat([x, context], 1)
        outputs: Tensor = self.direct(inputs)
        if self.output is not None:
            h = inputs
            for layer in self.layers:
                h = torch.relu(layer(h))
            outputs = outputs + self.output(h)
        return outputs.view(*x.shape, -1)

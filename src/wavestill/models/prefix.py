"""What a density of vectors carries from call to call: the values so far."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Prefix:
    """The first values of each vector, and the context they stand under.

    Laws of the next steps are had by one parallel pass over the prefix, padded: a vector is short.

    Arguments:
        values: `(B, D)`, zeros after the prefix.
        position: How many are known, `(B,)`.
        context: `(B, C)`, or None.
    """

    values: Tensor
    position: Tensor
    context: Tensor | None

    @classmethod
    def empty(cls, like: Tensor, num_dims: int, context: Tensor | None) -> "Prefix":
        """Nothing known yet, of as many vectors as `like (B, n)` has rows."""
        position = torch.zeros(like.shape[0], dtype=torch.long, device=like.device)
        return cls(like.new_zeros(like.shape[0], num_dims), position, context)

    def append(self, new: Tensor) -> tuple[Tensor, Tensor]:
        """Add values `(B, n)`; returns rows `(B, 1)` and places `(B, n)` of the added.

        What falls beyond the end is dropped, and its place is the last: samplers that draw several
        vectors at once run over the end of those that are ahead.
        """
        num_dims = self.values.shape[1]
        rows = torch.arange(new.shape[0], device=new.device).unsqueeze(1)
        places = self.position.unsqueeze(1) + torch.arange(new.shape[1], device=new.device)
        inside = places < num_dims
        self.values = self.values.clone()
        self.values[rows.expand_as(places)[inside], places[inside]] = new[inside]
        self.position = self.position + new.shape[1]
        return rows, places.clamp(max=num_dims - 1)

    def rewind(self, num_steps: int | Tensor) -> None:
        """Forget the last steps."""
        self.position = self.position - num_steps
        steps = torch.arange(self.values.shape[1], device=self.values.device)
        self.values = torch.where(steps < self.position.unsqueeze(1), self.values, 0.0)

    def select(self, index: Tensor) -> None:
        """Keep only the vectors `index` of the batch."""
        self.values, self.position = self.values[index], self.position[index]
        self.context = None if self.context is None else self.context[index]

"""Common to the flows of vectors: what they take, and the unit that they work in."""

import torch
from torch import Tensor, nn


class Standardised(nn.Module):
    r"""A density of vectors that works on :math:`v_i = (x_i - \mu_i) / s_i`.

    Arguments:
        num_dims: Numbers `D` of a vector, at least 2.
        num_context: Numbers that a vector is conditioned on; 0 for none.

    Raises:
        ValueError: If a vector would have fewer than 2 numbers.
    """

    loc: Tensor
    log_scale: Tensor

    def __init__(self, num_dims: int, num_context: int) -> None:
        super().__init__()
        if num_dims < 2:
            raise ValueError(f"'num_dims' is {num_dims}; a vector has 2 numbers or more")
        self.num_dims, self.num_context = num_dims, num_context
        self.register_buffer("loc", torch.zeros(num_dims))
        self.register_buffer("log_scale", torch.zeros(num_dims))

    @torch.no_grad()
    def calibrate(self, x: Tensor, frames: Tensor | None = None) -> None:
        """Take location and scale of every column from data `(N, D)`.

        Raises:
            ValueError: If a column does not vary, or is not finite.
        """
        del frames
        x = x.reshape(-1, self.num_dims)
        std = x.std(0)
        is_bad = ~(std.isfinite() & (std > 0))
        if bool(is_bad.any()):
            at = int(is_bad.nonzero()[0])
            raise ValueError(
                f"column {at} of the data has standard deviation {float(std[at])}; leave it out, "
                "or give calibrate=False"
            )
        self.loc.copy_(x.mean(0))
        self.log_scale.copy_(std.log())

    def standardised(self, x: Tensor) -> Tensor:
        """`x` in the unit that the flow works in."""
        return (x - self.loc) * torch.exp(-self.log_scale)

    def check(self, x: Tensor, context: Tensor | None) -> Tensor | None:
        """The context with a row for each row of `x`.

        Raises:
            ValueError: If either has another size than the density.
        """
        if x.dim() != 2 or x.shape[1] != self.num_dims:
            raise ValueError(
                f"vectors have shape {tuple(x.shape)}; this density takes (B, {self.num_dims})"
            )
        return self.rows(context, x.shape[0])

    def rows(self, context: Tensor | None, num: int) -> Tensor | None:
        """The context `(num, C)`; one row, or a vector, serves all."""
        width = 0 if context is None else context.shape[-1]
        if width != self.num_context:
            raise ValueError(
                f"the context has {width} numbers but the density takes {self.num_context}; "
                "give it (B, C)"
            )
        if context is None:
            return None
        context = context.reshape(-1, width)
        if context.shape[0] not in {1, num}:
            raise ValueError(
                f"there are {num} vectors but {context.shape[0]} contexts; give each its own, or "
                "one to all"
            )
        return context.expand(num, width)

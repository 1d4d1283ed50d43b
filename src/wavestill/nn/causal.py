r"""Dilated causal convolution in time-major layout, and the history it carries.

Activations are `(B, T, C)`. With `K` taps and dilation `d`,

.. math:: y_t = b + \sum_{k=0}^{K-1} W_k \, x_{t - (K-1-k) d},

one matrix product over the taps laid side by side. What came before the first sample is silence
(zeros).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class History:
    """The last `reach` steps a causal layer still needs, in one preallocated buffer.

    Appending writes behind the position and returns a view, so a step costs no copy of the past;
    when the buffer is full, the part still needed moves to its front. One writer: two branches of
    one sequence need two histories, and another batch begins with a new one.

    Arguments:
        reach: Steps of the past that are needed, >= 0.
        room: Steps that fit before the buffer is compacted, >= 1.
    """

    def __init__(self, reach: int, room: int = 1024) -> None:
        self.reach = reach
        self._room = room
        self._buffer: Tensor | None = None
        self._end = reach

    def extend(self, x: Tensor) -> Tensor:
        """Append `x (B, n, C)`; the past and `x`, `(B, reach + n, C)`, until the next call.

        Raises:
            ValueError: If `x` differs from what was appended before in batch or channels.
        """
        whole = self.reserve(x, *x.shape)
        whole[:, self.reach :] = x
        return whole

    def reserve(self, like: Tensor, batch: int, n: int, channels: int) -> Tensor:
        """`extend` by `n` steps that the caller writes into what is returned, behind the past.

        Arguments:
            like: Has the dtype and device of the steps.
            batch: Sequences.
            n: Steps.
            channels: Channels.
        """
        if self._buffer is None:
            self._buffer = self._new(like, batch, n, channels)
            self._buffer[:, : self.reach] = 0.0
        known = (self._buffer.shape[0], self._buffer.shape[2])
        if known != (batch, channels):  # writing would broadcast one sequence over the others
            raise ValueError(
                f"the state holds (batch, channels) = {known} but was given {(batch, channels)}; "
                "begin another batch without a state"
            )
        if self._end + n > self._buffer.shape[1]:
            past = self._buffer[:, self._end - self.reach : self._end]
            if n > self._buffer.shape[1] - self.reach:
                self._buffer = self._new(like, batch, n, channels)
            overlaps = self._end < 2 * self.reach
            self._buffer[:, : self.reach] = past.clone() if overlaps else past
            self._end = self.reach
        self._end += n
        return self._buffer[:, self._end - n - self.reach : self._end]

    def _new(self, like: Tensor, batch: int, n: int, channels: int) -> Tensor:
        return like.new_empty(batch, self.reach + max(self._room, n), channels)

    def last(self, like: Tensor) -> Tensor:
        """The `reach` steps held, `(B, reach, C)`; silence, shaped as `like`, before the first."""
        if self._buffer is None:
            return torch.zeros_like(like)
        return self._buffer[:, self._end - self.reach : self._end]

    def rewind(self, num_steps: int | Tensor) -> None:
        """Forget the last steps, at most those of the last `extend`.

        One number for all costs nothing: the position moves back. Where the sequences forget
        unequal numbers `(B,)`, what each still needs is moved to a common end.
        """
        if self._buffer is None:
            return
        if isinstance(num_steps, int):
            self._end -= num_steps
            return
        self._end -= int(num_steps.min())
        shift = num_steps - num_steps.min()  # (B,)
        kept = torch.arange(self._end - self.reach, self._end, device=shift.device)
        index = (kept - shift.unsqueeze(1)).unsqueeze(-1).expand(-1, -1, self._buffer.shape[2])
        self._buffer[:, self._end - self.reach : self._end] = self._buffer.gather(1, index)

    def select(self, index: Tensor) -> None:
        """Keep only the sequences `index (B',)`."""
        if self._buffer is not None:
            self._buffer = self._buffer[index]


class CarriedHistory(History):
    """A history for training in pieces: gradients reach back to the head of the piece, no further.

    The past is a copy, not a view of a buffer that the next piece writes to.
    """

    def extend(self, x: Tensor) -> Tensor:
        """Append `x (B, n, C)`; the past and `x`, `(B, reach + n, C)`."""
        whole = torch.cat([self.last(x.new_zeros(len(x), self.reach, x.shape[2])), x], dim=1)
        self._buffer = whole[:, x.shape[1] :].detach()
        return whole


def with_past(x: Tensor, reach: int, history: History | None) -> Tensor:
    """`x (B, n, C)` behind the `reach` steps before it; zeros where there is no history."""
    if history is None:
        return F.pad(x, (0, 0, reach, 0))
    return history.extend(x)


class CausalConv(nn.Module):
    r"""Dilated causal convolution, :math:`y_t = b + \sum_k W_k x_{t-(K-1-k)d}`.

    Output `t` sees inputs up to and including `t`. One forward serves whole clips (no history),
    chunks and single steps (a `History` of `reach` steps).

    References:
        | WaveNet (van den Oord et al., 2016), section 2.1, https://arxiv.org/abs/1609.03499

    Arguments:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        filter_width: Taps `K`, >= 1.
        dilation: Distance `d` of the taps in samples, >= 1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, filter_width: int, dilation: int
    ) -> None:
        super().__init__()
        self.filter_width = filter_width
        self.dilation = dilation
        self.reach = (filter_width - 1) * dilation
        self.taps = nn.Linear(filter_width * in_channels, out_channels)

    def forward(self, x: Tensor, history: History | None = None) -> Tensor:
        """`(B, n, in_channels)` to `(B, n, out_channels)`."""
        n = x.shape[1]
        padded = with_past(x, self.reach, history)
        starts = range(0, self.reach + 1, self.dilation)
        side_by_side = torch.cat([padded[:, start : start + n] for start in starts], dim=-1)
        out: Tensor = self.taps(side_by_side)
        return out

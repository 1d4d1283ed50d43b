r"""The linear synthesis filter: sound from the residual of a linear predictor.

.. math:: x_t = \sum_{i=1}^{P} a_i x_{t-i} + e_t

The map from residuals to sound is triangular with ones on its diagonal. Though it feeds back, it
is linear, so it costs no pass of a network per sample: a block of it is one triangular solve.
"""

import torch
from torch import Tensor, nn

from wavestill.nn.causal import History, with_past

_BLOCK = 128  # a solve costs the square of its length, and each block's start a few calls


class LinearSynthesis(nn.Module):
    """The filter, and its inverse; its taps are set once and are no parameters.

    Arguments:
        order: Taps `P`, >= 1.
    """

    taps: Tensor
    residual_std: Tensor

    def __init__(self, order: int) -> None:
        super().__init__()
        self.order = order
        self.register_buffer("taps", torch.zeros(order))  # a_P ... a_1: oldest sample first
        self.register_buffer("residual_std", torch.ones(()))

    @torch.no_grad()
    def calibrate(self, taps: Tensor, residual_std: Tensor) -> None:
        r"""Take taps `(P,)`, oldest sample first, and the standard deviation of what they leave.

        Where the filter would ring for ever, its poles are pulled inside the unit circle,
        :math:`a_i \leftarrow a_i \gamma^i`: a radius of 0.998 lasts a thousand samples at most.
        """
        radius = _largest_pole(taps)
        shrink = min(1.0, 0.998 / max(radius, 1e-12))
        powers = torch.arange(self.order, 0, -1, device=taps.device)
        self.taps.copy_(taps * shrink**powers)
        self.residual_std.copy_(residual_std)

    def forward(self, residual: Tensor, history: History | None = None) -> Tensor:
        """Residuals `(B, n)` to sound `(B, n)`, after the sound that the history holds."""
        silence = residual.new_zeros(len(residual), self.order)
        past = silence if history is None else history.last(silence.unsqueeze(-1)).squeeze(-1)
        x = self._filtered(residual, past)
        if history is not None:
            history.extend(x.unsqueeze(-1))
        return x

    def _filtered(self, residual: Tensor, past: Tensor) -> Tensor:
        """The sound behind the past `(B, P)`, block by block."""
        sound = []
        for block in torch.split(residual, _BLOCK, dim=1):
            system = self._system(block)  # [before | within] x = residual
            before, within = system[:, : self.order], system[:, self.order :]
            known = block - past @ before.T
            solved = torch.linalg.solve_triangular(
                within, known.T, upper=False, unitriangular=True
            ).T
            sound.append(solved)
            past = torch.cat([past, solved], dim=1)[:, -self.order :]
        return torch.cat(sound, dim=1)

    def predicted(self, x: Tensor) -> Tensor:
        r"""What the taps say of each sample of `x (B, T)` from those before it."""
        windows = with_past(x.unsqueeze(-1), self.order, None).squeeze(-1)
        return windows[:, :-1].unfold(1, self.order, 1) @ self.taps.to(x.dtype)

    def _system(self, block: Tensor) -> Tensor:
        """Rows `x_t - sum_i a_i x_{t-i}` over the samples before and within a block."""
        n = block.shape[1]
        system = block.new_zeros(n, self.order + n)
        for i, tap in enumerate(self.taps.to(block.dtype)):
            system.diagonal(i).copy_(-tap)
        system.diagonal(self.order).fill_(1.0)
        return system


def _largest_pole(taps: Tensor) -> float:
    """Radius of the pole nearest to, or farthest outside, the unit circle."""
    order = len(taps)
    companion = torch.zeros(order, order, dtype=torch.float64)
    companion[0] = taps.flip(0).double()
    companion.diagonal(-1).fill_(1.0)
    return float(torch.linalg.eigvals(companion).abs().max())

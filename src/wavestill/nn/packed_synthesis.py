"""The synthesis filter packed for inference: one sample after another, however they are cut."""

import torch
from torch import Tensor

from wavestill.nn import native
from wavestill.nn.prediction import LinearSynthesis


class PackedSynthesis(LinearSynthesis):
    """A `LinearSynthesis` for inference only: the same filter with the same history, no gradients.

    A triangular solve rounds by where its block begins; the kernel computes every sample alike, so
    that no bit of a sound depends on how it is cut. It serves float32 on a CPU.

    Arguments:
        synthesis: The filter; its taps are copied.
    """

    def __init__(self, synthesis: LinearSynthesis) -> None:
        super().__init__(synthesis.order)
        self.to(synthesis.taps)
        self.load_state_dict(synthesis.state_dict())

    @torch.no_grad()
    def _filtered(self, residual: Tensor, past: Tensor) -> Tensor:
        is_served = residual.dtype is torch.float32 and residual.device.type == "cpu"
        if not (native.is_available() and is_served):
            return super()._filtered(residual, past)
        from wavestill import _native

        arrays = map(native.float32_array, (residual, past, self.taps))
        return torch.from_numpy(_native.linear_synthesis(*arrays))

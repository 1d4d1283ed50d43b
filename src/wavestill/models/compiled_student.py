"""The student for a GPU: whole sounds of one length in one compiled graph.

A GPU is filled by a whole sound at once, and what costs is starting its hundreds of small kernels;
`torch.compile` joins them and, by a CUDA graph, starts them all together.
"""

from typing import cast

import torch
from torch import Tensor

from wavestill.density import Draw
from wavestill.distributions import LocationScale, Logistic, Normal
from wavestill.models.affine_iaf import FlowState
from wavestill.models.iaf_wavenet import IAFWaveNet
from wavestill.nn.causal import History
from wavestill.nn.conditioning import Encoded


class CompiledStudent(IAFWaveNet):
    """An `IAFWaveNet` for inference only, whose `rsample` and `sample` are one graph.

    Every new length is compiled anew, which takes about a minute: cut or pad sounds to few. The
    graph runs on a CPU too, where `PackedStudent` needs no compiling. Streams run as they are
    written.

    Arguments:
        student: The student; its weights are copied as they are now.
        dtype: Of products and activations: None for the student's own, or `torch.bfloat16` (heads
            and laws keep the student's own).
    """

    def __init__(self, student: IAFWaveNet, *, dtype: torch.dtype | None = None) -> None:
        super().__init__(student.config)
        self.to(student.gain)
        self.load_state_dict(student.state_dict())
        for parameter in self.parameters():
            parameter.requires_grad = False
        self.eval()
        self._dtype = dtype
        self._compiled = torch.compile(self._tensors, mode="reduce-overhead", dynamic=False)

    @torch.no_grad()
    def _draw(
        self,
        noise: Tensor,
        encoded: Encoded | None,
        states: list[FlowState] | None,
        filtered: History | None,
    ) -> Draw:
        if states is not None:
            return super()._draw(noise, encoded, states, filtered)
        # Cloned: a CUDA graph writes its next results over these.
        x, loc, log_scale = (part.clone() for part in self._compiled(noise, encoded))
        kind = Normal if self.base == "normal" else Logistic
        return Draw(x, noise, kind(loc, log_scale))

    def _tensors(self, noise: Tensor, encoded: Encoded | None) -> tuple[Tensor, Tensor, Tensor]:
        """Sample, location and log-scale, each `(B, T)`."""
        low = self._dtype is not None
        with torch.autocast(noise.device.type, self._dtype or torch.bfloat16, enabled=low):
            draw = super()._draw(noise, encoded, None, None)
        law = cast("LocationScale", draw.conditionals)
        return draw.x, law.loc, law.log_scale

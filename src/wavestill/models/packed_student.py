"""The student packed for inference: the same density, several times as fast.

Sound is made in chunks whose activations stay in the processor's cache, by the flows of
`packed_flow.py`, in float32 or bfloat16.
"""

from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, nn

from wavestill.density import Draw
from wavestill.distributions import LocationScale
from wavestill.models.affine_iaf import FlowState
from wavestill.models.iaf_wavenet import IAFWaveNet
from wavestill.models.packed_flow import PackedFlow, threads_to_the_kernel
from wavestill.nn.causal import History
from wavestill.nn.conditioning import Encoded
from wavestill.nn.packed_synthesis import PackedSynthesis

# Over all sequences. Measured on Zen 5 cores (1 MiB L2 each, 32 MiB L3): for PyTorch's operations
# on 1 and 2 cores and 32 to 256 channels, from 2,000 to 3,500 the speed is the same within about a
# tenth; below, the calls themselves cost too much (each about 10 us, five a layer), above,
# activations leave the caches. For the kernel, on 1 core and 64 channels, likewise from 1,500 to
# 6,000; at 750 it is slower by a sixth.
_CHUNK_SAMPLES = 3000


class PackedStudent(IAFWaveNet):
    """An `IAFWaveNet` for inference only: same arguments, same results, no gradients.

    Arguments:
        student: The student; its weights are copied as they are now.
        dtype: Of the layers' weights and activations: None for the student's own, or
            `torch.bfloat16` (signals, heads and laws keep the student's own).
        chunk_samples: Samples that pass all flows together, >= 1; None chooses what suits the
            processor's cache. Longer calls are cut into such chunks, and a state can be rewound
            by one chunk at most.

    Raises:
        ValueError: If `dtype` is not floating, or `chunk_samples` is less than 1.

    Example:
        >>> from wavestill.models import IAFWaveNetConfig
        >>> student = IAFWaveNet(IAFWaveNetConfig(flows=(4, 4), channels=8))
        >>> PackedStudent(student, dtype=torch.bfloat16).rsample(torch.randn(2, 100)).x.dtype
        torch.float32
    """

    def __init__(
        self,
        student: IAFWaveNet,
        *,
        dtype: torch.dtype | None = None,
        chunk_samples: int | None = None,
    ) -> None:
        super().__init__(student.config)
        if dtype is not None and not dtype.is_floating_point:
            raise ValueError(f"'dtype' is {dtype}; give torch.bfloat16, or None for the student's")
        if chunk_samples is not None and chunk_samples < 1:
            raise ValueError(f"'chunk_samples' is {chunk_samples}; give 1 or more, or None")
        self.to(student.gain)
        self.load_state_dict(student.state_dict())
        conditioning, rows_per_frame = student.config.conditioning, 1
        if conditioning is not None and conditioning.hop_samples:
            rows_per_frame = conditioning.hop_samples // conditioning.resolved_subframe_samples
        self.flows = nn.ModuleList(
            PackedFlow(flow, dtype, rows_per_frame=rows_per_frame) for flow in self._flows()
        )
        if self.synthesis is not None:
            self.synthesis = PackedSynthesis(self.synthesis)
        for parameter in self.parameters():
            parameter.requires_grad = False
        self.eval()
        self._chunk_samples = chunk_samples

    @torch.no_grad()
    def _draw(
        self,
        noise: Tensor,
        encoded: Encoded | None,
        states: list[FlowState] | None,
        filtered: History | None,
    ) -> Draw:
        if states is None:
            states = [flow.fresh_state() for flow in self._flows()]
            filtered = None if self.synthesis is None else History(self.synthesis.order)
        if encoded is not None:
            encoded.rows(noise.shape[1])  # refuses what runs past its end before a state moves
        num_samples = self._chunk_samples or max(1, _CHUNK_SAMPLES // max(1, len(noise)))
        draws, start = [], 0
        is_native = all(cast("PackedFlow", flow).is_native for flow in self.flows)
        with threads_to_the_kernel() if is_native else nullcontext():
            for piece in torch.split(noise, num_samples, dim=1):
                here = None if encoded is None else encoded.at(encoded.position + start)
                draws.append(super()._draw(piece, here, states, filtered))
                start += piece.shape[1]
        laws = [cast("LocationScale", draw.conditionals) for draw in draws]
        law = type(laws[0])(
            torch.cat([law.loc for law in laws], dim=1),
            torch.cat([law.log_scale for law in laws], dim=1),
        )
        return Draw(torch.cat([draw.x for draw in draws], dim=1), noise, law)

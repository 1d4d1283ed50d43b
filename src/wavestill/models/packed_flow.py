r"""A flow packed for inference: its network in one call of the native kernel, or in PyTorch's.

The kernel (`native/flow.hpp`) computes a block of steps layer by layer, with all that a layer does
to them in one go: the products of the taps side by side, begun with the bias and the projected
conditioning, the gate, and the product that joins the residual path. Weights, activations and sums
are those of `nn/packed.py`, and so is the state: each layer writes where the next one's past lies.
Every step is computed alike wherever it stands, so neither chunks nor threads change a bit of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from wavestill.models.affine_iaf import AffineIAF
from wavestill.models.arrays import flow_arrays
from wavestill.nn import native
from wavestill.nn.causal import History
from wavestill.nn.conditioning import Encoded
from wavestill.nn.packed import PackedStack
from wavestill.nn.threads import torch_threads

if TYPE_CHECKING:
    from wavestill import _native


_num_threads: ContextVar[int | None] = ContextVar("num_threads", default=None)
"""Of the kernel, while PyTorch has one; None while both have the same."""


class PackedFlow(AffineIAF):
    """An `AffineIAF` for inference only: the same map with the same state, no gradients.

    The kernel serves float32 and bfloat16 (with channels in pairs) on a CPU whose vectors it
    knows; for all else there is `PackedStack`.

    Arguments:
        flow: The flow; the weights of its stack are copied, its input and output layers shared.
        dtype: Of the stack's weights and activations; None for its own.
        rows_per_frame: As for `PackedStack`.
    """

    def __init__(
        self, flow: AffineIAF, dtype: torch.dtype | None = None, *, rows_per_frame: int = 1
    ) -> None:
        nn.Module.__init__(self)  # its layers are the flow's
        self.input, self.output = flow.input, flow.output
        packed = PackedStack(flow.stack, dtype, rows_per_frame=rows_per_frame)
        self.add_module("stack", packed)
        self._network = _network(flow, packed.taps.dtype)

    @property
    def is_native(self) -> bool:
        """Whether the kernel computes it."""
        return self._network is not None

    @torch.no_grad()
    def shape(
        self, previous: Tensor, encoded: Encoded | None, stack: list[History] | None
    ) -> tuple[Tensor, Tensor]:
        """Location and log-scale `(B, n)` of the steps that follow the inputs `previous`."""
        batch, n = previous.shape
        packed = cast("PackedStack", self.stack)
        like = packed.taps
        if self._network is None or like.device.type != "cpu" or n == 0:
            return super().shape(previous, encoded, stack)
        rows: Tensor | None = None
        source: Tensor | None = None
        leads, subframe = [0] * batch, 0
        if encoded is not None:
            source = encoded.source_at(n)
        if encoded is not None and packed.is_conditioned:
            rows, lead = encoded.rows(n)
            rows, subframe = rows.expand(batch, -1, -1), encoded.subframe_samples
            leads = lead.tolist() if isinstance(lead, Tensor) else [lead] * batch
        histories = packed.histories() if stack is None else stack
        pasts = [h.reserve(like, batch, n, self.input.out_features) for h in histories]
        if like.dtype is torch.bfloat16:  # which NumPy lacks
            pasts = [past.view(torch.int16) for past in pasts]
        shapes = self._network.shape(
            native.float32_array(previous),
            [past.numpy() for past in pasts],
            None if rows is None else native.float32_array(rows),
            subframe,
            leads,
            None if source is None else native.float32_array(source),
            _num_threads.get() or torch.get_num_threads(),
        )
        loc, log_scale = torch.from_numpy(shapes)
        return loc, log_scale.clamp(-9.0, 7.0)  # as in AffineIAF


@contextmanager
def threads_to_the_kernel() -> Iterator[None]:
    """Within it all of PyTorch's threads are the kernel's.

    PyTorch's own go on spinning for milliseconds after each of its operations, on the very cores
    that the kernel's threads need: two threads were slower than one.
    """
    num_threads = torch.get_num_threads()
    token = _num_threads.set(num_threads)
    try:
        with torch_threads(1):
            yield
    finally:
        _num_threads.reset(token)


def kernel_set() -> str | None:
    """The kernel's instruction set that flows are packed for; None where PyTorch is the faster."""
    names = native.instruction_sets()
    return names[0] if names and names[0] != "portable" else None


def _network(flow: AffineIAF, dtype: torch.dtype) -> "_native.Flow | None":
    """The flow's network in the native kernel, where that serves."""
    chosen, own = kernel_set(), flow.output.weight.dtype
    is_low = dtype is torch.bfloat16
    if chosen is None or own is not torch.float32 or not (is_low or dtype is own):
        return None
    if is_low and flow.input.out_features % 2:
        return None
    from wavestill import _native

    return _native.Flow(flow_arrays(flow), "bfloat16" if is_low else "float32", chosen)

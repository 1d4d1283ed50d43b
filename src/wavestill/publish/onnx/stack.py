r"""The gated residual stack of `nn/gated.py` in ONNX, and the past that its layers keep.

Layers stay time-major matrix products over their taps side by side, as in our own code: ONNX
Runtime runs them about as fast as its convolutions, and in int8 much faster.
"""

from typing import cast

import numpy as np
import torch

from wavestill.nn.gated import GatedLayer, GatedStack
from wavestill.publish.onnx.conditioning import Conditions
from wavestill.publish.onnx.graph import END, Graph


class Past:
    """What came before the first step: silence, or what a state holds.

    Arguments:
        graph: Where it is written.
        pieces: The past of each layer in turn, `(B, reach, C)`; None for silence.
    """

    def __init__(self, graph: Graph, pieces: list[str] | None = None) -> None:
        self._graph = graph
        self._pieces = None if pieces is None else iter(pieces)
        self.kept: list[str] = []
        """The past of the next call, as far as layers were written."""

    def before(self, x: str, reach: int) -> str:
        """`x (B, n, C)` behind the `reach` steps before it."""
        if self._pieces is None:
            return self._graph.op("Pad", x, [0, reach, 0, 0, 0, 0])
        padded = self._graph.op("Concat", next(self._pieces), x, axis=1)
        self.kept.append(self._graph.slice(padded, -reach, END, 1))
        return padded


def gated_stack(
    graph: Graph,
    stack: GatedStack,
    h: str,
    given: Conditions,
    subframe_samples: int,
    past: Past,
    *,
    half: bool,
) -> str:
    """`h (B, n, R)` to the skip sum `(B, n, S)`, or without skips to the residual path.

    Arguments:
        graph: Where it is written.
        stack: Its weights are copied.
        h: Float32.
        given: What it is conditioned on.
        subframe_samples: Samples per row of that.
        past: What came before.
        half: Whether weights and activations within are float16.
    """
    of = torch.Tensor.half if half else torch.Tensor.detach
    layers = [cast("GatedLayer", layer) for layer in stack.layers]
    biases = [of(layer.conv.taps.bias) for layer in layers]
    h = graph.cast(h, np.float16) if half else h
    rows: list[str] | None = None
    if stack.project is not None:
        low = graph.cast(given.rows, np.float16) if half else given.rows
        projected = graph.linear(low, "project", of(stack.project.weight))
        shaped = graph.op("Unsqueeze", projected, [2])  # (B, S, 1, L 2 G)
        rows = graph.ops("Split", len(layers), shaped, axis=3) if len(layers) > 1 else [shaped]
    total: str | None = None
    for i, layer in enumerate(layers):
        with graph.scope(f"layer{i}"):
            gates = graph.linear(_taps(graph, layer, h, past), "taps", of(layer.conv.taps.weight))
            bias = graph.weight("taps.bias", biases[i])
            if rows is None:
                gates = graph.op("Add", gates, bias)
            else:
                row = graph.op("Add", rows[i], bias)  # at the low rate, where it costs little
                gates = _add_rows(graph, gates, row, subframe_samples, len(biases[i]))
            filtered, gate = graph.ops("Split", 2, gates, axis=2)
            gated = graph.op("Mul", graph.op("Tanh", filtered), graph.op("Sigmoid", gate))
            residual = layer.split[0]
            weight, out_bias = of(layer.out.weight), of(layer.out.bias)
            if stack.skip_channels:
                out = graph.linear(gated, "skip", weight[residual:], out_bias[residual:])
                total = out if total is None else graph.op("Add", total, out)
            if i + 1 < len(layers) or not stack.skip_channels:  # the last one's is not heard
                out = graph.linear(gated, "residual", weight[:residual], out_bias[:residual])
                h = graph.op("Add", h, out)
    out = h if total is None else total
    return graph.cast(out, np.float32) if half else out


def _taps(graph: Graph, layer: GatedLayer, h: str, past: Past) -> str:
    """The taps of a layer side by side, `(B, n, K R)`."""
    conv = layer.conv
    if conv.filter_width == 1:
        return h
    padded = past.before(h, conv.reach)
    starts = range(0, conv.reach + 1, conv.dilation)
    taps = [graph.slice(padded, s, END if s == conv.reach else s - conv.reach, 1) for s in starts]
    return graph.op("Concat", *taps, axis=2)


def _add_rows(graph: Graph, x: str, rows: str, subframe_samples: int, channels: int) -> str:
    """`x (B, n, C)` plus each sample's row of `(B, S, 1, C)`."""
    if subframe_samples == 1:
        return graph.op("Add", x, graph.op("Squeeze", rows, [2]))
    split = graph.op("Reshape", x, [0, -1, subframe_samples, channels])
    return graph.op("Reshape", graph.op("Add", split, rows), [0, -1, channels])

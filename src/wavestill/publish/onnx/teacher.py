r"""The teacher's parallel likelihood in ONNX: sound and frames to each sample's log-probability.

.. math:: \log p(x \mid c) = \sum_t \log p(x_t \mid x_{<t}, c)
"""

import numpy as np

from wavestill.models import WaveNet
from wavestill.publish.onnx.conditioning import conditions, whole
from wavestill.publish.onnx.graph import Graph
from wavestill.publish.onnx.laws import (
    mixture_log_prob,
    mu_law_level,
    mu_law_log_prob,
    normal_log_prob,
)
from wavestill.publish.onnx.stack import Past, gated_stack


def teacher_graph(teacher: WaveNet, *, half: bool = False) -> Graph:
    """The graph of a teacher's likelihood.

    Arguments:
        teacher: Its weights are copied.
        half: Whether its stack is computed in float16.

    Raises:
        ValueError: If the teacher takes no frames.
    """
    config = teacher.config.conditioning
    if config is None or not config.num_features or teacher.encoder is None:
        raise ValueError("the teacher takes no frames; only one that does can be exported")
    graph = Graph("teacher")
    audio = graph.input("audio", np.float32, ["batch", "samples"])
    frames = graph.input("frames", np.float32, ["batch", "frames", config.num_features])
    speaker = graph.input("speaker", np.int64, ["batch"]) if config.num_speakers else None
    given = conditions(graph, teacher.encoder, whole(graph, frames), speaker, None)
    previous = graph.slice(graph.op("Pad", audio, [0, 1, 0, 0]), 0, -1, 1)
    signal = graph.op("Unsqueeze", _inner(graph, teacher, previous), [2])
    h = signal if given.source is None else graph.op("Concat", signal, given.source, axis=2)
    h = graph.linear(h, "input", teacher.input.weight, teacher.input.bias)
    subframe = config.resolved_subframe_samples
    with graph.scope("stack"):
        h = gated_stack(graph, teacher.stack, h, given, subframe, Past(graph), half=half)
    hidden = teacher.hidden
    h = graph.op("Relu", graph.linear(graph.op("Relu", h), "hidden", hidden.weight, hidden.bias))
    out = graph.linear(h, "output", teacher.output.weight, teacher.output.bias)
    log_prob = _log_prob(graph, teacher, audio, out, signal)
    graph.output("log_prob", log_prob, np.float32, ["batch", "samples"])
    return graph


def _inner(graph: Graph, teacher: WaveNet, x: str) -> str:
    """The signal the network sees, `(B, T)`."""
    if teacher.config.head == "mulaw":
        return graph.op("Sub", graph.op("Div", mu_law_level(graph, x), 127.5), 1.0)
    return graph.op("Mul", x, graph.weight("gain", teacher.gain))


def _log_prob(graph: Graph, teacher: WaveNet, audio: str, out: str, signal: str) -> str:
    """From outputs `(B, T, P)`, in units of the residual, to nats of waveform samples."""
    head = teacher.config.head
    if head == "mulaw":
        return mu_law_log_prob(graph, audio, out)
    unit = teacher.residual_std / teacher.gain
    shift = None if teacher.predictor is None else _shift(graph, teacher, signal)
    logits, loc, log_scale = "", "", ""
    if head == "gaussian":
        loc, log_scale = graph.ops("Split", 2, out, axis=2)
    else:
        logits, loc, log_scale = graph.ops("Split", 3, out, axis=2)
    loc = graph.op("Mul", loc, graph.weight("unit", unit))
    loc = loc if shift is None else graph.op("Add", loc, shift)
    log_scale = graph.op("Add", log_scale, graph.weight("log_unit", unit.log()))
    if head == "gaussian":
        loc, log_scale = (graph.op("Squeeze", part, [2]) for part in (loc, log_scale))
        return normal_log_prob(graph, audio, loc, log_scale)
    x = graph.op("Unsqueeze", audio, [2])
    return mixture_log_prob(graph, x, logits, loc, log_scale, teacher.config.bits)


def _shift(graph: Graph, teacher: WaveNet, signal: str) -> str:
    """The linear prediction of each step in waveform units, `(B, T, 1)`."""
    order = teacher.config.predictor_order
    assert teacher.predictor is not None  # whoever calls has looked
    weight = graph.weight("predictor.weight", teacher.predictor.weight.unsqueeze(1))
    along = graph.op("Transpose", signal, perm=[0, 2, 1])
    predicted = graph.op("Conv", along, weight, pads=[order - 1, 0])
    inverse_gain = graph.weight("inverse_gain", 1 / teacher.gain)
    return graph.op("Mul", graph.op("Transpose", predicted, perm=[0, 2, 1]), inverse_gain)

r"""The student in ONNX: frames and noise in, sound and its law out; whole, or as a stream.

One graph holds everything, the conditioning network too: its share of the work is so small that a
second file and session would cost a caller more than it saved. Offline the state is silence; in a
stream it stands among inputs (`state_...`) and outputs (`next_...`).
"""

from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from wavestill.models import IAFWaveNet
from wavestill.models.affine_iaf import AffineIAF
from wavestill.nn.conditioning import ConditioningConfig
from wavestill.nn.gated import GatedLayer
from wavestill.nn.prediction import LinearSynthesis
from wavestill.publish.onnx.conditioning import (
    Conditions,
    conditions,
    streamed,
    whole,
)
from wavestill.publish.onnx.graph import END, Graph
from wavestill.publish.onnx.stack import Past, gated_stack


class State(NamedTuple):
    """A tensor that a stream carries from call to call.

    Arguments:
        name: It is the input `state_<name>` and the output `next_<name>`.
        dtype: Its NumPy type.
        shape: Behind the batch; a stream begins with zeros of it.
        grows: Whether its first axis does, from none to a few.
    """

    name: str
    dtype: type
    shape: tuple[int, ...]
    grows: bool = False

    def axes(self, free: str) -> list[int | str]:
        """Its shape in a graph, `free` where it grows."""
        return ["batch", free, *self.shape[1:]] if self.grows else ["batch", *self.shape]


def student_states(student: IAFWaveNet, *, half: bool = False) -> list[State]:
    """The states of a student's stream, in the order of its inputs."""
    config = student.config
    conditioning = _conditioning(student)
    states = [State("frames", np.float32, (0, conditioning.num_features), grows=True)]
    if conditioning.num_harmonics:
        states.append(State("phase", np.int64, (1,)))
    states.append(State("previous", np.float32, (len(config.flows),)))
    states.append(
        State(
            "history",
            np.float16 if half else np.float32,
            (sum(_reaches(student)), config.channels),
        )
    )
    if student.synthesis is not None:
        states.append(State("sound", np.float32, (student.synthesis.order,)))
    return states


def student_graph(student: IAFWaveNet, *, streams: bool, half: bool = False) -> Graph:
    """The graph of a student.

    Arguments:
        student: Its weights are copied.
        streams: Whether frames come piece by piece, with states.
        half: Whether the flows' stacks are computed in float16.

    Raises:
        ValueError: If the student takes no frames.
    """
    graph, config = Graph("student"), _conditioning(student)
    inputs = ["batch", "frames", config.num_features]
    frames = graph.input("frames", np.float32, inputs)
    noise = graph.input("noise", np.float32, ["batch", "samples"])
    speaker = graph.input("speaker", np.int64, ["batch"]) if config.num_speakers else None
    states = student_states(student, half=half) if streams else []
    before, after = {}, {}
    for state in states:
        before[state.name] = graph.input(
            f"state_{state.name}", state.dtype, state.axes(f"kept_{state.name}")
        )
    if streams:
        is_last = graph.input("is_last", np.bool_, [1])
        window, after["frames"] = streamed(graph, before["frames"], frames, is_last)
    else:
        window = whole(graph, frames)
    assert student.encoder is not None  # a student that takes frames has one
    given = conditions(graph, student.encoder, window, speaker, before.get("phase"))
    if given.phase is not None:
        after["phase"] = given.phase
    loc, log_scale = _flowed(graph, student, noise, given, before, after, half=half)
    outputs = _law(graph, student, noise, loc, log_scale, before, after)
    for name, value in zip(("audio", "loc", "log_scale"), outputs, strict=True):
        graph.output(name, value, np.float32, ["batch", "samples"])
    for state in states:
        name = f"next_{state.name}"
        graph.output(name, after[state.name], state.dtype, state.axes(name))
    return graph


def _conditioning(student: IAFWaveNet) -> ConditioningConfig:
    config = student.config.conditioning
    if config is None or not config.num_features:
        raise ValueError("the student takes no frames; only one that does can be exported")
    return config


def _reaches(student: IAFWaveNet) -> list[int]:
    """Steps of the past that each layer needs, all flows in turn."""
    return [
        cast("GatedLayer", layer).conv.reach
        for flow in student._flows()
        for layer in flow.stack.layers
    ]


def _flowed(
    graph: Graph,
    student: IAFWaveNet,
    noise: str,
    given: Conditions,
    before: dict[str, str],
    after: dict[str, str],
    *,
    half: bool,
) -> tuple[str, str]:
    """Total location and log-scale `(B, n)` of all flows on the noise."""
    flows = student._flows()
    subframe = _conditioning(student).resolved_subframe_samples
    past = Past(graph)
    if before:
        reaches = np.array(_reaches(student))
        past = Past(graph, graph.ops("Split", len(reaches), before["history"], reaches, axis=1))
    value, kept = noise, []
    loc, log_scale = "", ""
    for k, flow in enumerate(flows):
        with graph.scope(f"flow{k}"):
            if before:
                previous = graph.slice(before["previous"], k, k + 1, 1)
                extended = graph.op("Concat", previous, value, axis=1)
                kept.append(graph.slice(extended, -1, END, 1))
            else:
                extended = graph.op("Pad", value, [0, 1, 0, 0])
            delayed = graph.slice(extended, 0, -1, 1)
            own_loc, own_log_scale = _shape(graph, flow, delayed, given, subframe, past, half=half)
            scale = graph.op("Exp", own_log_scale)
            value = graph.op("Add", own_loc, graph.op("Mul", scale, value))
            if k == 0:
                loc, log_scale = own_loc, own_log_scale
            else:
                loc = graph.op("Add", graph.op("Mul", loc, scale), own_loc)
                log_scale = graph.op("Add", log_scale, own_log_scale)
    if before:
        after["previous"] = graph.op("Concat", *kept, axis=1)
        after["history"] = graph.op("Concat", *past.kept, axis=1)
    return loc, log_scale


def _shape(
    graph: Graph,
    flow: AffineIAF,
    delayed: str,
    given: Conditions,
    subframe_samples: int,
    past: Past,
    *,
    half: bool,
) -> tuple[str, str]:
    """Location and log-scale `(B, n)` of one flow's steps."""
    signal = graph.op("Unsqueeze", delayed, [2])
    if given.source is not None:
        signal = graph.op("Concat", signal, given.source, axis=2)
    h = graph.linear(signal, "input", flow.input.weight, flow.input.bias)
    h = gated_stack(graph, flow.stack, h, given, subframe_samples, past, half=half)
    out = graph.linear(graph.op("Relu", h), "output", flow.output.weight, flow.output.bias)
    loc, log_scale = (
        graph.op("Squeeze", part, [2]) for part in graph.ops("Split", 2, out, axis=2)
    )
    return loc, graph.op("Clip", log_scale, -9.0, 7.0)  # as in AffineIAF


def _law(
    graph: Graph,
    student: IAFWaveNet,
    noise: str,
    loc: str,
    log_scale: str,
    before: dict[str, str],
    after: dict[str, str],
) -> tuple[str, str, str]:
    """Sample, location and log-scale in waveform units, each `(B, n)`."""
    synthesis = student.synthesis
    std = torch.ones(()) if synthesis is None else synthesis.residual_std
    unit = graph.weight("unit", std / student.gain)
    log_unit = graph.weight("log_unit", (std / student.gain).log())
    law_loc, law_log_scale = graph.op("Mul", loc, unit), graph.op("Add", log_scale, log_unit)
    if synthesis is not None:
        own = graph.op("Add", loc, graph.op("Mul", graph.op("Exp", log_scale), noise))
        residual = graph.op("Mul", own, graph.weight("residual_std", std))
        block = _block_samples(_conditioning(student).hop_samples)
        with graph.scope("synthesis"):
            sound, after["sound"] = _filtered(
                graph, synthesis, residual, before.get("sound"), block
            )
        predicted = graph.op("Sub", sound, residual)
        scaled = graph.op("Mul", predicted, graph.weight("inverse_gain", 1 / student.gain))
        law_loc = graph.op("Add", law_loc, scaled)
    audio = graph.op("Add", law_loc, graph.op("Mul", graph.op("Exp", law_log_scale), noise))
    return audio, law_loc, law_log_scale


def _block_samples(hop_samples: int) -> int:
    """The largest divisor of the hop up to 128: what is filtered by one product."""
    return max(d for d in range(1, 129) if hop_samples % d == 0)


def _filtered(
    graph: Graph, synthesis: LinearSynthesis, residual: str, past: str | None, block: int
) -> tuple[str, str]:
    r"""Residuals `(B, T)` to sound, and the sound that the next call needs, `(B, P)`.

    .. math:: x_b = H e_b + G x^-_b, \qquad x^-_{b+1} = H' e_b + G' x^-_b

    Blocks of residuals `e_b` are filtered as if each began in silence, all in one product with the
    impulse response `H`; what is left is what the sound before a block, :math:`x^-_b`, rings on
    into it. Only that is passed on from block to block, by a product of `P` rows.
    """
    order = synthesis.order
    own, ringing = _responses(synthesis, block)
    blocks = graph.op("Reshape", residual, [0, -1, block])  # (B, M, N)
    silent = graph.op("MatMul", blocks, graph.weight("own", own.T))
    if past is None:
        shape = graph.op("Concat", graph.length(residual, 0), [order], axis=0)
        past = graph.op("ConstantOfShape", shape)
    body = Graph("block", is_body=True)
    held = body.input("held", np.float32, ["batch", order])
    heard = body.input("heard", np.float32, ["batch", block])
    rings = body.op("MatMul", held, body.weight("ringing", ringing.T))
    sound = body.op("Add", heard, rings)
    joined = body.op("Concat", held, sound, axis=1)
    body.output("held_next", body.slice(joined, -order, END, 1), np.float32, ["batch", order])
    body.output("sound", sound, np.float32, ["batch", block])
    # One block more, and off again: ONNX Runtime's Scan ends the whole process when given none.
    silent = graph.op("Pad", silent, [0, 0, 0, 0, 1, 0])
    sounds = graph.ops(
        "Scan",
        2,
        past,
        silent,
        body=body.body(),
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_output_axes=[1],
    )[1]
    sound = graph.op("Reshape", graph.slice(sounds, 0, -1, 1), [0, -1])
    heard = graph.op("Concat", past, sound, axis=1)
    return sound, graph.slice(heard, -order, END, 1)


def _responses(synthesis: LinearSynthesis, block: int) -> tuple[Tensor, Tensor]:
    """Responses of a block, `(N, N)` to its residuals and `(N, P)` to the sound before it."""
    wide = LinearSynthesis(synthesis.order).double()
    wide.taps.copy_(synthesis.taps)
    system = wide._system(torch.zeros(1, block, dtype=torch.float64))
    before, within = system[:, : synthesis.order], system[:, synthesis.order :]
    inverse = torch.linalg.solve_triangular(
        within, torch.eye(block, dtype=torch.float64), upper=False, unitriangular=True
    )
    return inverse.float(), (-inverse @ before).float()

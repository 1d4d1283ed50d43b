r"""The conditioning network in ONNX: a window of frames to rows, and the harmonic source.

A stream keeps its last six frames. A row sees three frames to each side (two convolutions of
three, and the interpolation), so over those six and the new ones the network can simply run anew:
what it says of the window's edges is right where the sequence begins and ends there, and is not
handed out elsewhere. Six frames cost less than one per mille of the sample-rate part.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from wavestill.nn.conditioning import ConditioningConfig
from wavestill.nn.frames import FrameEncoder
from wavestill.publish.onnx.graph import END, Graph

KEPT_FRAMES = 2 * FrameEncoder.LOOKAHEAD_FRAMES
"""Frames that a stream keeps, once so many have come."""

_TURN = 2**52  # as in nn/frames.py: the phase is a whole number of these parts of a turn


class Window(NamedTuple):
    """Frames that are at hand, and which of them sound now.

    Arguments:
        frames: `(B, N, C)`.
        begin: The first one to sound, a tensor of one number.
        end: The one after the last.
    """

    frames: str
    begin: str
    end: str


class Conditions(NamedTuple):
    """What a network of the sample rate is conditioned on.

    Arguments:
        rows: `(B, S, channels)`, one for `subframe_samples` samples.
        source: The harmonic source `(B, T, 2 K)`, or None.
        phase: Its phase after the last sample `(B, 1)`, int64, or None.
    """

    rows: str
    source: str | None
    phase: str | None


def whole(graph: Graph, frames: str) -> Window:
    """All frames at once."""
    return Window(frames, graph.op("Identity", np.array([0])), graph.length(frames, 1))


def streamed(graph: Graph, kept: str, new: str, is_last: str) -> tuple[Window, str]:
    """The window of a stream, and what it keeps for the next call.

    Arguments:
        graph: Where it is written.
        kept: What the call before kept, `(B, 0 ... 6, C)`.
        new: The frames that have come, `(B, n, C)`.
        is_last: Whether no more will come, one boolean.
    """
    ahead = FrameEncoder.LOOKAHEAD_FRAMES
    frames = graph.op("Concat", kept, new, axis=1)
    begin = graph.op("Max", graph.op("Sub", graph.length(kept, 1), [ahead]), [0])
    num = graph.length(frames, 1)
    ready = graph.op("Max", graph.op("Sub", num, [ahead]), begin)
    window = Window(frames, begin, graph.op("Where", is_last, num, ready))
    return window, graph.slice(frames, -KEPT_FRAMES, END, 1)


def conditions(
    graph: Graph, encoder: FrameEncoder, window: Window, speaker: str | None, phase: str | None
) -> Conditions:
    """Rows and source of the frames that sound.

    Arguments:
        graph: Where it is written.
        encoder: The network.
        window: The frames.
        speaker: `(B,)`, int64; None for models of one voice.
        phase: Of the harmonic source before the first sample, `(B, 1)`; None for 0.
    """
    config = encoder.config
    with graph.scope("encoder"):
        mean = graph.weight("feature_mean", encoder.feature_mean)
        std = graph.weight("feature_std", encoder.feature_std)
        normal = graph.op("Div", graph.op("Sub", window.frames, mean), std)
        hidden = _convolved(graph, "near", encoder.near, normal)
        hidden = _convolved(graph, "wide", encoder.wide, hidden)
        rows = _interpolated(graph, config, hidden, window)
        if speaker is not None:
            table = graph.weight("speaker", encoder.speaker.weight)
            embedded = graph.op("Gather", table, speaker, axis=0)
            rows = graph.op("Add", rows, graph.op("Unsqueeze", embedded, [1]))
    if not config.num_harmonics:
        return Conditions(rows, None, None)
    with graph.scope("source"):
        return Conditions(rows, *_source(graph, config, window, phase))


def _edges(graph: Graph, x: str) -> str:
    """`x (B, N, C)` with its first and last step twice; nothing where there is none."""
    # not by Pad, whose mode `edge` ends in an error before a stream has its first frame
    return graph.op("Concat", graph.slice(x, 0, 1, 1), x, graph.slice(x, -1, END, 1), axis=1)


def _convolved(graph: Graph, name: str, conv: nn.Conv1d, x: str) -> str:
    """A convolution of three frames and its activation, `(B, N, C)` to `(B, N, C')`."""
    padded = _edges(graph, x)
    taps = [graph.slice(padded, i, END if i == 2 else i - 2, 1) for i in range(3)]
    side_by_side = graph.op("Concat", *taps, axis=2)
    weight = conv.weight.transpose(1, 2).flatten(1)  # (out, 3 in): taps as they lie
    return graph.op("LeakyRelu", graph.linear(side_by_side, name, weight, conv.bias), alpha=0.4)


def _interpolated(graph: Graph, config: ConditioningConfig, hidden: str, window: Window) -> str:
    """Frames `(B, N, C)` to the sub-frames of those that sound, linear between centres."""
    num = config.hop_samples // config.resolved_subframe_samples
    place = (torch.arange(num) + 0.5) / num - 0.5
    before, after = (-place).clamp(min=0), place.clamp(min=0)
    weights = torch.stack([before, 1 - before - after, after])  # (3, num)
    padded = _edges(graph, hidden)
    neighbours = [graph.op("Unsqueeze", _moved(graph, padded, window, i), [3]) for i in range(3)]
    stacked = graph.op("Concat", *neighbours, axis=3)  # (B, m, C, 3)
    rows = graph.op("MatMul", stacked, graph.weight("interpolation", weights))
    rows = graph.op("Transpose", rows, perm=[0, 1, 3, 2])
    return graph.op("Reshape", rows, [0, -1, config.channels])


def _moved(graph: Graph, x: str, window: Window, offset: int) -> str:
    """The steps of `x` under the frames that sound, `offset` later."""
    begin, end = (
        graph.op("Add", bound, [offset]) if offset else bound
        for bound in (window.begin, window.end)
    )
    return graph.slice(x, begin, end, 1)


def _source(
    graph: Graph, config: ConditioningConfig, window: Window, phase: str | None
) -> tuple[str, str]:
    """The harmonic source `(B, T, 2 K)`, and its phase behind the last sample."""
    hop, num_harmonics = config.hop_samples, config.num_harmonics
    frames = _moved(graph, window.frames, window, 0)
    log_f0, voicing = graph.slice(frames, -2, -1, 2), graph.slice(frames, -1, END, 2)
    frequency = graph.op("Exp", graph.cast(log_f0, np.float64))  # (B, m, 1)
    turns = graph.op("Div", frequency, np.array(float(config.sample_rate)))
    share = graph.op("Sub", turns, graph.op("Floor", turns))
    steps = graph.op("Round", graph.op("Mul", share, np.array(float(_TURN))))
    steps = graph.op("Expand", graph.cast(steps, np.int64), [1, 1, hop])  # (B, m, hop)
    walked = graph.op(
        "CumSum", graph.op("Reshape", steps, [0, -1]), np.array(1)
    )  # wraps by itself
    if phase is None:
        phases = graph.op("Mod", walked, [_TURN])
        next_phase = graph.slice(phases, -1, END, 1)
    else:
        phases = graph.op("Mod", graph.op("Add", walked, phase), [_TURN])
        next_phase = graph.slice(graph.op("Concat", phase, phases, axis=1), -1, END, 1)
    order = np.arange(1, num_harmonics + 1)
    harmonics = graph.op(
        "Mod", graph.op("Mul", graph.op("Unsqueeze", phases, [2]), order), [_TURN]
    )
    # a share of a turn needs the float64's digits, an angle below 2 pi no longer
    angle = graph.op("Mul", graph.cast(harmonics, np.float64), np.array(2 * math.pi / _TURN))
    angle = graph.cast(angle, np.float32)
    below = graph.op(
        "Less", graph.op("Mul", frequency, order.astype(float)), np.array(config.sample_rate / 2)
    )
    audible = graph.op("And", below, graph.op("Greater", voicing, 0.5))  # (B, m, K)
    gain = graph.cast(graph.op("Unsqueeze", audible, [2]), np.float32)
    parts = []
    for wave in ("Sin", "Cos"):
        shaped = graph.op("Reshape", graph.op(wave, angle), [0, -1, hop, num_harmonics])
        parts.append(graph.op("Reshape", graph.op("Mul", shaped, gain), [0, -1, num_harmonics]))
    return graph.op("Concat", *parts, axis=2), next_phase

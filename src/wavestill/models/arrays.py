"""The arrays that sequence models hand the native kernel: float32, laid out as `nn.Linear`'s."""

from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from wavestill.models.affine_iaf import AffineIAF
from wavestill.models.iaf_wavenet import IAFWaveNet
from wavestill.models.wavenet import WaveNet
from wavestill.nn.gated import GatedLayer, GatedStack

Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True)
class LinearArrays:
    """Weight `(outputs, inputs)` and bias `(outputs,)` of a linear layer; None for no bias."""

    weight: Array
    bias: Array | None


@dataclass(frozen=True)
class LayerArrays:
    """A gated layer: taps `(2 G, K R)`, oldest first, and outputs `(R + S, G)`."""

    dilation: int
    taps: LinearArrays
    out: LinearArrays


@dataclass(frozen=True)
class StackArrays:
    """The gated stack with its input layer; `projection` gives all layers their conditioning."""

    filter_width: int
    input: LinearArrays
    layers: list[LayerArrays]
    projection: LinearArrays | None


@dataclass(frozen=True)
class TeacherArrays:
    """A WaveNet: stack, output layers, and what makes a law of their outputs.

    Arguments:
        stack: With a skip sum.
        hidden: After the skip sum.
        output: To the head's parameters.
        head: "logistics", "gaussian" or "mulaw".
        num_mixtures: Logistics in the mixture.
        bits: Of the grid that samples of the mixture lie on; 0 for none.
        gain: Of the inner signal over the waveform.
        residual_std: Unit of the head, in that of the inner signal.
        predictor: Taps of the linear predictor, oldest sample first; None for none.
    """

    stack: StackArrays
    hidden: LinearArrays
    output: LinearArrays
    head: str
    num_mixtures: int
    bits: int
    gain: float
    residual_std: float
    predictor: Array | None


@dataclass(frozen=True)
class FlowArrays:
    """An affine flow: a stack without skips, and its outputs, location and log-scale."""

    stack: StackArrays
    output: LinearArrays


@dataclass(frozen=True)
class StudentArrays:
    """The flows of an IAF WaveNet in the order in which noise passes them."""

    flows: list[FlowArrays]
    log_scale_min: float
    log_scale_max: float


def teacher_arrays(model: WaveNet) -> TeacherArrays:
    """A teacher's arrays, as it stands.

    Raises:
        ValueError: If a weight is not finite.
    """
    config = model.config
    return TeacherArrays(
        stack=_stack(model.input, model.stack),
        hidden=_linear(model.hidden),
        output=_linear(model.output),
        head=config.head,
        num_mixtures=config.num_mixtures,
        bits=(config.bits or 0) if config.head == "logistics" else 0,
        gain=float(model.gain),
        residual_std=float(model.residual_std),
        predictor=None if model.predictor is None else _array(model.predictor.weight[0]),
    )


def student_arrays(student: IAFWaveNet) -> StudentArrays:
    """A student's arrays, as it stands: its flows, without its gain and synthesis filter.

    Raises:
        ValueError: If a weight is not finite.
    """
    flows = [cast("AffineIAF", flow) for flow in student.flows]
    return StudentArrays(
        flows=[flow_arrays(flow) for flow in flows],
        log_scale_min=-9.0,  # the clamp of AffineIAF.shape
        log_scale_max=7.0,
    )


def flow_arrays(flow: AffineIAF) -> FlowArrays:
    """A flow's arrays, as it stands.

    Raises:
        ValueError: If a weight is not finite.
    """
    return FlowArrays(_stack(flow.input, flow.stack), _linear(flow.output))


def _stack(first: nn.Linear, stack: GatedStack) -> StackArrays:
    layers = [cast("GatedLayer", layer) for layer in stack.layers]
    return StackArrays(
        filter_width=layers[0].conv.filter_width,
        input=_linear(first),
        layers=[
            LayerArrays(layer.conv.dilation, _linear(layer.conv.taps), _linear(layer.out))
            for layer in layers
        ],
        projection=None if stack.project is None else _linear(stack.project),
    )


def _linear(layer: nn.Linear) -> LinearArrays:
    bias: Tensor | None = layer.bias  # typed as a Tensor, None where a layer has none
    return LinearArrays(_array(layer.weight), None if bias is None else _array(bias))


def _array(parameter: Tensor) -> Array:
    if not bool(torch.isfinite(parameter).all()):
        raise ValueError(
            f"{int((~torch.isfinite(parameter)).sum())} of {parameter.numel()} weights of a layer "
            "are not finite; go back to a checkpoint from before they became so"
        )
    array: Array = parameter.detach().to("cpu", torch.float32).contiguous().numpy()
    return array

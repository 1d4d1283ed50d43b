"""The graph of a voice's part, whole and in its precision, and what there is to know of it."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from wavestill.machine import wavestill_version
from wavestill.nn.frames import FrameEncoder
from wavestill.publish.folder import Voice
from wavestill.publish.onnx.graph import OPSET
from wavestill.publish.onnx.student import student_graph, student_states
from wavestill.publish.onnx.teacher import teacher_graph
from wavestill.publish.parts import Part, Precision


def build(
    voice: Voice, part: Part, precision: Precision
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The model and its description; arguments as for `export`.

    Raises:
        ValueError: If the voice lacks the part or it takes no frames.
    """
    half = precision == "float16"
    if part == "teacher":
        graph = teacher_graph(voice.require_teacher(), half=half)
    else:
        graph = student_graph(voice.require_student(), streams=part == "stream", half=half)
    description = _description(voice, part, precision)
    model = graph.model({})
    description["inputs"] = [_tensor(value) for value in model.graph.input]
    description["outputs"] = [_tensor(value) for value in model.graph.output]
    if precision == "int8":
        model = _quantised(model)
    return model, description


def _description(voice: Voice, part: Part, precision: Precision) -> dict[str, Any]:
    states = []
    if part == "stream":
        for state in student_states(voice.require_student(), half=precision == "float16"):
            kind = np.dtype(state.dtype).name
            states.append({"name": state.name, "type": kind, "shape": list(state.shape)})
    model = voice.require_teacher() if part == "teacher" else voice.require_student()
    return {
        "part": part,
        "precision": precision,
        "opset": OPSET,
        "wavestill": wavestill_version(),
        "base": model.base,
        "states": states,
        "lookahead_frames": FrameEncoder.LOOKAHEAD_FRAMES,
        "level_dbfs": voice.level_dbfs,
        "speakers": list(voice.speakers),
        "spec": voice.spec.to_dict(),
    }


def _tensor(value: onnx.ValueInfoProto) -> dict[str, Any]:
    kind = value.type.tensor_type
    shape = [axis.dim_param or axis.dim_value for axis in kind.shape.dim]
    return {
        "name": value.name,
        "type": helper.tensor_dtype_to_np_dtype(kind.elem_type).name,
        "shape": shape,
    }


def _quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the products of its layers in 8 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    products = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul"
        and ("/layer" in node.name or node.input[1].endswith("project.weight"))
    ]
    # else a line on standard error advises a step that is for graphs of others
    helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "whole.onnx", Path(folder) / "small.onnx"
        onnx.save(model, whole)
        quantize_dynamic(
            whole,
            small,
            per_channel=True,
            # in 7 bits: without it sums of pairs overflow on processors that have no VNNI
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=products,
        )
        return onnx.load(small)

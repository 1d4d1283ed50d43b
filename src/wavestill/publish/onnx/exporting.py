"""A voice's models as ONNX files, with what a caller must know beside them."""

import json
import tempfile
from collections.abc import Mapping
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

PROPERTY = "wavestill"
"""The metadata property that holds the description, as JSON."""


def export(
    voice: Voice, path: Path | str, *, part: Part = "student", precision: Precision = "float32"
) -> dict[str, Any]:
    """Write a part of a voice as an ONNX file.

    Noise is an input, so that the same inputs give the same sound.

    Arguments:
        voice: The voice.
        path: The file.
        part: `student`: frames and noise to sound and its law, whole utterances. `stream`: the
            same piece by piece, with its state among inputs and outputs. `teacher`: sound and
            frames to the log-probability of each sample.
        precision: Of the gated stacks; inputs, heads and laws are float32. `float16`: weights
            and activations. `int8`: weights, and activations as they come, between their extremes
            in each call.

    Returns:
        What a caller must know, and what stands in the file's metadata: inputs and outputs,
        states, opset, and how frames are made.

    Raises:
        ValueError: If the voice lacks the part or it takes no frames, or the file cannot be
            written.

    Example:
        >>> import tempfile, wavestill
        >>> from wavestill.audio import MelSpec
        >>> from wavestill.nn.conditioning import ConditioningConfig
        >>> spec = MelSpec(8000, 512, 100, 400, 64, 0.0, 4000.0)
        >>> conditioning = ConditioningConfig(spec.num_features, spec.hop_samples, 8000)
        >>> config = wavestill.IAFWaveNetConfig((2,), channels=4, conditioning=conditioning)
        >>> voice = wavestill.Voice(spec, student=wavestill.IAFWaveNet(config))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [tensor["name"] for tensor in export(voice, f"{folder}/voice.onnx")["inputs"]]
        ['frames', 'noise']
    """
    path = Path(path)
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
    helper.set_model_props(model, {PROPERTY: json.dumps(description)})
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(model.SerializeToString())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        reason = error.strerror or error
        raise ValueError(f"'{path}' cannot be written ({reason}); choose another file") from error
    return description


def description_of(path: Path | str) -> dict[str, Any]:
    """What `export` said of a file it wrote.

    Raises:
        ValueError: If the file is none of ours.
    """
    try:
        properties = onnx.load(path, load_external_data=False).metadata_props
        [text] = [entry.value for entry in properties if entry.key == PROPERTY]
        description: dict[str, Any] = json.loads(text)
    except Exception as error:  # protobuf's own errors have no common base
        raise ValueError(f"'{path}' was not written by 'wavestill export'") from error
    return description


def begin_states(description: Mapping[str, Any], batch: int = 1) -> dict[str, np.ndarray]:
    """The states that the first call of a stream is given, by input."""
    return {
        f"state_{state['name']}": np.zeros((batch, *state["shape"]), state["type"])
        for state in description["states"]
    }


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

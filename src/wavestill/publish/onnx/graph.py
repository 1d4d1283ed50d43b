"""An ONNX graph while it is written down: values are their names, constants stand in place.

PyTorch's exporters trace a model at example lengths; what our models decide by length (what is
ready of a stream, which past a layer needs) they would fix or refuse. So the equations are written
once more, in ONNX's operators, and tests hold them to the models.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import Tensor

OPSET = 17
"""Of the default domain: read by ONNX Runtime from 1.11 and onnxruntime-web from 1.14 on."""

_IR_VERSION = 8  # what opset 17 came with

END = 2**62
"""The end of a slice that runs to the end."""

Operand = str | int | float | Sequence[int] | np.ndarray


class Graph:
    """Nodes, weights, inputs and outputs as they are added.

    Arguments:
        name: Of the graph.
        is_body: Whether it stands within another (in `Scan`), whose names it must not take.

    Example:
        >>> graph = Graph("double")
        >>> x = graph.input("x", np.float32, ["batch"])
        >>> graph.output("y", graph.op("Mul", x, 2.0), np.float32, ["batch"])
        >>> [opset.version for opset in graph.model({}).opset_import]
        [17]
    """

    def __init__(self, name: str, *, is_body: bool = False) -> None:
        self._name = name
        self._within = [name] if is_body else []
        self._scopes = list(self._within)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._used: dict[str, int] = {}

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Within it names begin with `name/`."""
        self._scopes.append(name)
        yield
        self._scopes.pop()

    def input(self, name: str, dtype: Any, shape: Sequence[int | str]) -> str:  # noqa: ANN401
        """A named input; text in a shape stands for a length that is free."""
        self._inputs.append(helper.make_tensor_value_info(name, _element(dtype), shape))
        return name

    def output(self, name: str, value: str, dtype: Any, shape: Sequence[int | str]) -> None:  # noqa: ANN401
        """Hand `value` out as `name`."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))
        self._outputs.append(helper.make_tensor_value_info(name, _element(dtype), shape))

    def op(self, kind: str, *operands: Operand, **attributes: Any) -> str:
        """The one output of a node; whole numbers become int64, others float32 constants."""
        return self.ops(kind, 1, *operands, **attributes)[0]

    def ops(self, kind: str, num_outputs: int, *operands: Operand, **attributes: Any) -> list[str]:
        """The outputs of a node."""
        name = self._fresh(kind)
        outputs = [name] if num_outputs == 1 else [f"{name}.{i}" for i in range(num_outputs)]
        inputs = [
            operand if isinstance(operand, str) else self._constant(operand)
            for operand in operands
        ]
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        return outputs

    def weight(self, name: str, value: Tensor | np.ndarray) -> str:
        """A weight of the model, named within the scope."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        full = "/".join([*self._scopes, name])
        self._weights[full] = numpy_helper.from_array(np.ascontiguousarray(array), full)
        return full

    def cast(self, value: str, dtype: Any) -> str:  # noqa: ANN401
        """`value` as `dtype`."""
        return self.op("Cast", value, to=_element(dtype))

    def slice(self, value: str, start: Operand, end: Operand, axis: int) -> str:
        """`value[start:end]` along `axis`, as Python would."""
        return self.op("Slice", value, _vector(start), _vector(end), [axis])

    def length(self, value: str, axis: int) -> str:
        """Length along an axis, as a tensor of one number."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def linear(self, x: str, name: str, weight: Tensor, bias: Tensor | None = None) -> str:
        """`x W^T + b`."""
        out = self.op("MatMul", x, self.weight(f"{name}.weight", weight.T))
        return out if bias is None else self.op("Add", out, self.weight(f"{name}.bias", bias))

    def body(self) -> onnx.GraphProto:
        """What was written, as a graph within another."""
        weights = list(self._weights.values())
        return helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, weights)

    def model(self, properties: Mapping[str, str]) -> onnx.ModelProto:
        """What was written, checked, with properties as its metadata."""
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            self.body(), opset_imports=opsets, ir_version=_IR_VERSION, producer_name="wavestill"
        )
        helper.set_model_props(model, dict(properties))
        onnx.checker.check_model(model, full_check=True)
        return model

    def _constant(self, value: Any) -> str:  # noqa: ANN401
        array = np.asarray(value)
        if not isinstance(value, np.ndarray):
            array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        small = array.size <= 8
        own = f"{array.dtype} {array.tolist()}"
        name = "/".join([*self._within, own]) if small else self._fresh("constant")
        self._weights[name] = numpy_helper.from_array(array, name)
        return name

    def _fresh(self, kind: str) -> str:
        name = "/".join([*self._scopes, kind])
        self._used[name] = self._used.get(name, -1) + 1
        return f"{name}_{self._used[name]}"


def _element(dtype: Any) -> int:  # noqa: ANN401
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _vector(bound: Operand) -> Operand:
    return [bound] if isinstance(bound, int) else bound

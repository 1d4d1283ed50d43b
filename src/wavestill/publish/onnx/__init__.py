"""Voices as ONNX files, for programs without Python or PyTorch."""

from wavestill.publish.onnx.exporting import (
    begin_states,
    description_of,
    export,
)

__all__ = ["begin_states", "description_of", "export"]

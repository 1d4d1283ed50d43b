"""A voice's models as ONNX files, with what a caller must know beside them.

Importing this needs no extra: without one, too, `wavestill.export` can be named and the help of
`wavestill export` be read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wavestill.publish.folder import Voice
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
    from onnx import helper

    from wavestill.publish.onnx.building import build

    path = Path(path)
    model, description = build(voice, part, precision)
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
    import onnx

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

"""`wavestill export`."""

from pathlib import Path

from wavestill import publish
from wavestill.commands.terminal import Outcome, say, waiting
from wavestill.publish.parts import Part, Precision


def export(
    model: Path,
    out: Path,
    *,
    part: Part = "student",
    precision: Precision = "float32",
) -> Outcome:
    """Write a voice's student, or its teacher's likelihood, as an ONNX file.

    A student's file holds all from mel frames and noise to sound: conditioning, harmonic source,
    flows. Its metadata and --json say what goes in and out, and how frames are made.

    Arguments:
        model: Folder of a voice.
        out: The .onnx file.
        part: student: frames and noise to sound, whole utterances. stream: the same piece by
            piece, its state among inputs and outputs. teacher: sound and frames to the
            log-probability of each sample, in nats.
        precision: Of the gated stacks: float32, float16 (half the size), int8 (a third of the
            size; needs onnxruntime).
    """
    from wavestill.publish import onnx

    if out.suffix.lower() != ".onnx":
        raise ValueError(f"'{out}' is not a .onnx file; give one")
    with waiting("exporting") as show:
        voice = publish.load(model)
        show("exporting", 0.3)
        description = onnx.export(voice, out, part=part, precision=precision)
    size = out.stat().st_size
    say(f"{out}: {part}, {precision}, {size / 1e6:.2f} MB, opset {description['opset']}")
    for tensor in (*description["inputs"], "->", *description["outputs"]):
        say(tensor if isinstance(tensor, str) else _line(tensor))
    return Outcome({**description, "bytes": size})


def _line(tensor: dict[str, object]) -> str:
    return f"  {tensor['name']}: {tensor['type']} {tensor['shape']}".replace("'", "")

"""The page as plain files, with the student for browsers: no server of ours is needed."""

import json
import shutil
from pathlib import Path

from wavestill.input_frames import frames_of_recording
from wavestill.publish import Voice
from wavestill.serving.limits import Limits
from wavestill.serving.pages import page_files

RUNTIME_VERSION = "1.30.0"
"""Of onnxruntime-web, with which the page is tested."""

RUNTIME_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)

_RUNTIME_LICENCE = """\
The files in this folder are of onnxruntime-web (https://github.com/microsoft/onnxruntime),
distributed under the MIT licence:

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def export(voice: Voice, name: str, folder: Path, runtime: Path | None) -> list[str]:
    """Write the page, the student as ONNX and a demo recording with its frames.

    Arguments:
        voice: Whose student it is.
        name: What the page calls it.
        folder: Where; files of the same names are replaced.
        runtime: The folder `dist` of the npm package onnxruntime-web; None leaves it out, and the
            page waits for it in `ort/`.

    Returns:
        The files, relative to the folder.

    Raises:
        ValueError: If the voice has no student, or the runtime lacks a file.
    """
    from wavestill.publish.onnx import export as export_onnx

    voice.require_student()
    for needed in RUNTIME_FILES if runtime is not None else ():
        if not (Path(runtime or "") / needed).is_file():
            raise ValueError(
                f"'{runtime}' lacks {needed}; give the folder dist/ of onnxruntime-web "
                f"{RUNTIME_VERSION}"
            )
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in page_files().items():
        (folder / file).write_bytes(
            content.replace(b'data-mode="service"', b'data-mode="student"')
        )
    told = export_onnx(voice, folder / "student.onnx", part="stream", precision="float32")
    demo = frames_of_recording(folder / "demo.flac", voice)
    (folder / "demo_frames.bin").write_bytes(demo.frames.astype("<f4").tobytes())
    voice_json = {
        **told,
        "id": name,
        "num_features": voice.spec.num_features,
        "max_seconds": Limits().max_seconds,
    }
    (folder / "voice.json").write_text(json.dumps(voice_json, indent=1) + "\n")
    (folder / "demo.json").write_text(json.dumps({"gain_db": demo.gain_db}) + "\n")
    if runtime is not None:
        (folder / "ort").mkdir(exist_ok=True)
        for needed in RUNTIME_FILES:
            shutil.copyfile(runtime / needed, folder / "ort" / needed)
        (folder / "ort" / "LICENCE.txt").write_text(_RUNTIME_LICENCE)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

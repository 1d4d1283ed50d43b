"""Try an installation of wavestill as a user has it: no checkout, no extras. Exits with 0 if fine.

python scripts/try_installed.py [--extras]    in any folder but the checkout's
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import wavestill
from wavestill import IAFWaveNet, IAFWaveNetConfig, Voice, WaveNet, WaveNetConfig
from wavestill.audio import MelSpec
from wavestill.nn.conditioning import ConditioningConfig


def main() -> None:
    """Make a voice, let it sound, and ask the doctor; with --extras, export it too."""
    if (Path.cwd() / "src" / "wavestill") in Path(wavestill.__file__).parents:
        sys.exit("this is the checkout, not an installation; run me elsewhere")
    spec = MelSpec(8000, 512, 100, 400, 64, 0.0, 4000.0)
    given = ConditioningConfig(spec.num_features, spec.hop_samples, spec.sample_rate, channels=8)
    torch.manual_seed(0)
    teacher = WaveNet(WaveNetConfig(4, 4, 8, 8, 8, num_mixtures=2, conditioning=given))
    student = IAFWaveNet(IAFWaveNetConfig((4, 4), channels=8, conditioning=given))
    for model in (teacher, student):
        model.calibrate(0.05 * torch.randn(1000))
    with tempfile.TemporaryDirectory() as folder:
        voice, frames = Path(folder) / "voice", Path(folder) / "frames.npy"
        wavestill.save(Voice(spec, teacher, student), voice)
        np.save(frames, np.random.default_rng(0).normal(-4, 1, (20, 64)).astype(np.float32))
        for sampler in ("student", "native"):
            command("synth", voice, frames, "-o", f"{folder}/{sampler}.wav", "--sampler", sampler)
        if "--extras" in sys.argv:
            for part in ("student", "stream", "teacher"):
                command("export", voice, f"{folder}/{part}.onnx", "--part", part)
        command("completion", "bash", quiet=True)
        command("doctor", voice, "--json", f"{folder}/doctor.json")
        kernel = json.loads(Path(f"{folder}/doctor.json").read_text())["kernel"]
    print(f"wavestill {wavestill.__version__} at {wavestill.__file__} works; kernel {kernel}")


def command(*arguments: object, quiet: bool = False) -> None:
    """Run a command as a user does."""
    line = [sys.executable, "-m", "wavestill.cli", *map(str, arguments)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL if quiet else None)


if __name__ == "__main__":
    main()

"""The voice that comes with wavestill works right after installation, by its name."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from wavestill import cli, publish
from wavestill.publish import Voice, packaged_voices

pytestmark = pytest.mark.usefixtures("one_thread")


def test_its_files_are_whole_and_small() -> None:
    folder = packaged_voices()["kathleen"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12e6
    voice = publish.load("kathleen")
    assert voice.require_teacher().base == voice.require_student().base == "logistic"
    assert "kl_nats_per_sample" in voice.measured["student"]


def test_it_speaks_from_the_command_line(recordings: Path, tmp_path: Path) -> None:
    source = min(recordings.rglob("*.wav"))
    out = tmp_path / "copy.wav"
    assert cli.run(["synth", "kathleen", str(source), "-o", str(out)]) == 0
    copy, rate = soundfile.read(out)
    assert rate == 16000
    assert np.sqrt(np.mean(copy**2)) > 0.005


def test_a_folder_of_ones_own_goes_before_its_name(
    voice_path: Path, tiny_voice: Voice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kathleen").symlink_to(voice_path)
    monkeypatch.chdir(tmp_path)
    assert publish.load("kathleen").spec == tiny_voice.spec
    monkeypatch.chdir(tmp_path.parent)
    assert publish.load("kathleen").spec != tiny_voice.spec


def test_half_precision_halves_matrices_and_leaves_vectors(
    tiny_voice: Voice, tmp_path: Path
) -> None:
    for precision in ("float32", "float16"):
        publish.save(tiny_voice, tmp_path / precision, precision=precision)
    whole, half = (
        load_file(tmp_path / name / "model.safetensors") for name in ("float32", "float16")
    )
    assert {value.dtype for value in half.values() if value.dim() > 1} == {torch.float16}
    for name, value in whole.items():
        kept = half[name].float()
        assert (
            torch.equal(kept, value)
            if value.dim() < 2
            else torch.allclose(kept, value, rtol=2**-11, atol=1e-7)
        )
    loaded = publish.load(tmp_path / "float16").require_student()
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}

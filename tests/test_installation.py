"""What a shell completes, and what the doctor says of an installation and a voice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wavestill import cli
from wavestill.diagnosis import _features, diagnose
from wavestill.models.packed_flow import kernel_set
from wavestill.nn.native import instruction_sets


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.run(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = script(shell, capsys)
    for command in cli.COMMANDS:
        assert command in said
    assert "--sampler" in said or "-l sampler" in said
    assert "speculative" in said


def test_bash_completes_commands_options_and_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "script").write_text(script("bash", capsys))
    for words, expected in (
        (["ex"], ["export"]),
        (["export", "--pre"], ["--precision"]),
        (["synth", "--sampler", "spec"], ["speculative"]),
    ):
        line = f"COMP_WORDS=(wavestill {' '.join(words)}); COMP_CWORD={len(words)}"
        body = f"source {tmp_path}/script; {line}; _shtab_wavestill; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", body], capture_output=True, text=True, check=True)
        assert done.stdout.split() == expected


def test_the_doctor_tells_what_a_report_needs(
    voice_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "doctor.json"
    status = cli.run(["doctor", str(voice_path), "--json", str(figures)])
    said = json.loads(figures.read_text())
    assert status == bool(said["problems"])
    assert said["voice"]["has"] == ["teacher", "student"]
    assert said["versions"]["torch"]
    assert said["kernel"] == {"runs_here": list(instruction_sets()), "used": kernel_set()}
    assert {"export", "eval"} <= set(said["extras"])
    shown = capsys.readouterr().out
    assert f"kernel: runs_here {' '.join(said['kernel']['runs_here']) or 'none'}, used" in shown
    assert all(f"{name}: " in shown for name in said if name != "problems")
    (tmp_path / "voice").mkdir()
    assert cli.run(["doctor", str(tmp_path / "voice")]) == 1
    assert "is no voice: config.json is missing" in capsys.readouterr().out


def test_the_doctor_misses_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavestill.diagnosis.native.instruction_sets", list)
    required = ["wavestill-no-such>=1", 'wavestill-nor-this; extra == "odd"']
    monkeypatch.setattr("wavestill.diagnosis.metadata.requires", lambda _: required)
    said = diagnose()
    assert said["extras"] == {"odd": "lacks wavestill-nor-this"}
    assert said["problems"][0] == "wavestill-no-such is not installed"
    assert "native kernel is not built" in said["problems"][1]


def test_the_doctor_reads_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "processor\t: 0\nflags\t\t: fpu avx2 sse avx512f fma\n"
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: told)
    assert _features() == ["avx2", "fma", "avx512f"]
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    assert _features() == []


def test_what_an_extra_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli._extra_of("onnxruntime.quantization") == "export"
    assert cli._extra_of("jinja2") == "eval"


def test_without_its_extra_export_fails_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError(name='onnx')")
    command = [sys.executable, "-m", "wavestill.cli", "export", "kathleen", "a.onnx"]
    surroundings = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, cwd=tmp_path)
    assert done.returncode == 1
    lacks = "wavestill: the package 'onnx' is not installed: pip install 'wavestill[export]'\n"
    assert done.stderr == lacks

"""Bad inputs as a user may give them: one line that says what to do, and nothing lost."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from wavestill import cli, publish
from wavestill.audio import Corpus, prepare, write_sound
from wavestill.audio.features import load_frames
from wavestill.publish import Voice
from wavestill.training.config import TrainingConfig
from wavestill.training.folder import open_run
from wavestill.training.history import History
from wavestill.training.recipe import load_recipe

from .test_cli import command, one_line, tiny_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = ["--no_speed", "--num_clips", 1, "--max_seconds", 0.2]


def npy(header: str) -> bytes:
    text = header.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(960)


def archive(*, method: int = 0, flags: int = 0) -> bytes:
    """An `.npz` whose entries claim a compression method or to be encrypted."""
    file = io.BytesIO()
    np.savez(file, frames=np.zeros((3, 64), np.float32), spec=np.array("{}"))
    data = bytearray(file.getvalue())
    for entry in re.finditer(rb"PK\x01\x02", bytes(data)):
        data[entry.start() + 8] |= flags
        data[entry.start() + 10] = method
    for entry in re.finditer(rb"PK\x03\x04", bytes(data)):
        data[entry.start() + 6] |= flags
        data[entry.start() + 8] = method
    return bytes(data)


def deflated_rubbish() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("frames.npy", np.random.default_rng(0).bytes(3000))
    data = bytearray(file.getvalue())
    data[40:90] = b"\xff" * 50
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("huge.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 64)}")),
        ("over.npy", npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**22}, 64)}}")),
        ("open.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 64, ")),
        ("quote.npy", npy("{'descr': '<f4', '''fortran_order': False, 'shape': (3, 64)}")),
        ("zlib.npz", deflated_rubbish()),
        ("encrypted.npz", archive(flags=1)),
        ("method.npz", archive(method=77)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_frames_are_named(
    name: str, content: bytes, tmp_path: Path, tiny_voice: Voice
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: not readable as frames"):
        load_frames(tmp_path / name, tiny_voice.spec)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--seed", -1], "'seed' is -1; it must lie between 0 and 4294967295"),
        (["--seed", 2**70], "it must lie between"),
        (["--temperature", -1], "'temperature' is -1.0; it must be 0 or more"),
        (["--json", "."], "'.' is a folder"),
    ],
)
def test_options_are_checked_before_the_work(
    options: list[object],
    complaint: str,
    voice_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save(tmp_path / "frames.npy", np.full((2, 64), -4, np.float32))
    out = tmp_path / "out.wav"
    assert command("synth", voice_path, tmp_path / "frames.npy", "-o", out, *options) == 1
    assert complaint in one_line(capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    ("part", "values", "complaint"),
    [
        ("teacher", {"layers": 0}, "teacher: 'layers' is 0; it must be positive"),
        ("teacher", {"predictor_order": -3}, "'teacher.predictor_order' is -3"),
        ("teacher", {"conditioning": {"channels": -1}}, "'teacher.conditioning.channels' is -1"),
        ("teacher", {"num_mixtures": 0}, "teacher: 'num_mixtures' is 0"),
        ("teacher", {"dropout": 3.0}, "teacher: 'dropout' is 3.0"),
        ("student", {"flows": []}, "student: 'flows' is []; each flow needs a layer"),
        ("student", {"flows": [2, 0]}, "student: 'flows' is [2, 0]"),
        ("fit", {"minutes": float("nan")}, "'fit.minutes' is nan but must be a finite number"),
        ("fit", {"minutes": float("inf")}, "'fit.minutes' is inf"),
        ("fit", {"minutes": -1}, "'minutes' is -1.0; it must be positive"),
        ("fit", {"minutes": 1, "betas": [2, 3]}, "'betas' is (2.0, 3.0)"),
        ("fit", {"minutes": 1, "warmup_steps": -4}, "'warmup_steps' is -4"),
        ("seed", -1, "'seed' is -1"),
    ],
)
def test_recipes_out_of_range(
    part: str, values: object, complaint: str, tmp_path: Path, corpus: Corpus
) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        load_recipe(tiny_recipe(tmp_path, corpus, **{part: values}))


def test_a_recipe_nested_too_deeply(tmp_path: Path) -> None:
    (tmp_path / "deep.yaml").write_text("[" * 5000)
    with pytest.raises(ValueError, match="not readable as YAML"):
        load_recipe(tmp_path / "deep.yaml")


@pytest.mark.parametrize(
    ("part", "change", "complaint"),
    [
        ("teacher", {"residual_channels": -4}, "damaged"),
        ("teacher", {"residual_channels": 10**12}, "has shape (4, 1), not (1000000000000, 1)"),
        ("spec", {"hop_samples": 50}, "'teacher' has hop_samples 100 but 'spec' 50"),
        (None, {"speakers": [1, 2]}, "must be a list of names"),
        (None, {"level_dbfs": float("nan")}, "'level_dbfs' is nan"),
        (None, {"measured": [1]}, "'measured' is [1] but must hold keys"),
    ],
)
def test_voices_that_contradict_themselves(
    part: str | None, change: dict[str, Any], complaint: str, voice_path: Path, tmp_path: Path
) -> None:
    shutil.copytree(voice_path, tmp_path / "voice")
    path = tmp_path / "voice" / "config.json"
    config = json.loads(path.read_text())
    (config if part is None else config[part]).update(change)
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=re.escape(complaint)):
        publish.load(tmp_path / "voice")


def test_saving_a_voice_keeps_what_else_is_there(
    tiny_voice: Voice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voice = tmp_path / "voice"
    publish.save(tiny_voice, voice)
    (voice / "sounds").mkdir()
    (voice / "sounds" / "a.wav").write_text("mine")
    (tmp_path / "link").symlink_to(voice)
    publish.save(tiny_voice, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    monkeypatch.chdir(voice)
    publish.save(tiny_voice, Path())
    assert (voice / "sounds" / "a.wav").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"voice", "link"}
    assert publish.load(voice).student is not None


def test_fitting_anew_does_not_drop_a_student(
    tiny_voice: Voice, tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(tmp_path, corpus)
    publish.save(tiny_voice, tmp_path / "run" / "voice")
    assert command("fit", recipe) == 1
    assert "holds a student of an earlier teacher" in one_line(capsys)
    assert not (tmp_path / "run" / "teacher").exists()
    shutil.rmtree(tmp_path / "run" / "voice")
    (tmp_path / "run" / "voice").mkdir()
    (tmp_path / "run" / "voice" / "mine.txt").write_text("mine")
    assert command("fit", recipe) == 1
    assert "will not be overwritten" in one_line(capsys)
    assert not (tmp_path / "run" / "teacher").exists()


def test_a_run_that_failed_at_once_may_begin_again(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", {"a": 1}, 0, resume=False)
    run.metrics.write_text("\r\n")
    open_run(tmp_path / "run", {"a": 1}, 0, resume=False)
    run.metrics.write_text("step\r\n1\r\n")
    with pytest.raises(ValueError, match="holds a run already"):
        open_run(tmp_path / "run", {"a": 1}, 0, resume=False)


def test_resuming_keeps_the_recipe_it_began_with(tmp_path: Path) -> None:
    run = open_run(tmp_path, {"a": 1}, 0, resume=False)
    run.checkpoints.last.write_text("")
    open_run(tmp_path, {"a": 1}, 0, resume=True)
    with pytest.raises(ValueError, match="began with another recipe: a 1 -> 2"):
        open_run(tmp_path, {"a": 2}, 0, resume=True)
    open_run(tmp_path, {"a": 2}, 0, resume=True, allow_changes=True)
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text()) == {"a": 2}
    assert yaml.safe_load((tmp_path / "recipe_before_2.yaml").read_text()) == {"a": 1}
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match=r"run\.json' is damaged"):
        open_run(tmp_path, {"a": 2}, 0, resume=True)


@pytest.mark.parametrize("content", [b"step,nats\n1,x\n", b"nats\n1\n", b"\xff\x00"])
def test_damaged_figures_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"metrics\.csv' is damaged"):
        History(tmp_path / "metrics.csv")


@pytest.mark.parametrize("content", [b"", b"rubbish" * 9, {"global_step": 3}, [1]])
def test_damaged_checkpoints_are_named(
    content: object, tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "run" / "teacher" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    if isinstance(content, bytes):
        checkpoint.write_bytes(content)
    else:
        torch.save(content, checkpoint)
    assert command("fit", tiny_recipe(tmp_path, corpus), "--resume") == 1
    assert "last.ckpt' is damaged" in one_line(capsys)


@pytest.mark.parametrize("change", [{"spec": None}, {"speakers": 3}, {"clips": []}, {"shards": 1}])
def test_damaged_indexes_are_named(change: dict[str, Any], tmp_path: Path, corpus: Corpus) -> None:
    shutil.copytree(corpus.path, tmp_path / "corpus")
    path = tmp_path / "corpus" / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=r"index\.json: damaged"):
        Corpus(tmp_path / "corpus")


def test_evaluate_complains_before_it_measures(
    voice_path: Path,
    corpus: Corpus,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("occupied")
    with monkeypatch.context() as patch:
        patch.setattr("wavestill.evaluation.evaluate", lambda *a, **k: pytest.fail("measured"))
        for out in (tmp_path / "file", tmp_path / "file" / "below"):
            assert command("evaluate", voice_path, corpus.path, "--out", out, *SHORT) == 1
            assert "cannot hold the results" in one_line(capsys)
    shutil.copytree(corpus.path, tmp_path / "corpus")
    frames = np.load(tmp_path / "corpus" / "frames-00000.npy")
    np.save(tmp_path / "corpus" / "frames-00000.npy", np.full_like(frames, np.nan))
    out = tmp_path / "out"
    assert command("evaluate", voice_path, tmp_path / "corpus", "--out", out, *SHORT) == 1
    assert "its checksum is another; prepare the corpus again" in one_line(capsys)


@pytest.mark.parametrize("options", [["--minutes", 0], ["--corpus", "nowhere"]])
def test_the_demo_complains_before_it_trains(
    options: list[object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "wavestill.commands.demo.learn_known_truth", lambda: pytest.fail("trained")
    )
    assert command("demo", "--out", "demo", *options) == 1
    assert str(options[1]) in one_line(capsys)


def test_names_that_no_index_can_hold(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    rng = np.random.default_rng(0)
    write_sound(source / "good.wav", 0.1 * rng.normal(size=8000), 8000)
    shutil.copy(source / "good.wav", source / "two\nlines.wav")
    shutil.copy(source / "good.wav", os.fsencode(source) + b"/caf\xe9.wav")
    report = prepare(source, tmp_path / "corpus", preset="wavestill_8k")
    assert sum(report.num_clips.values()) == 1
    assert [skipped.source for skipped in report.skipped] == ["caf\\udce9.wav", "two\\nlines.wav"]
    assert "\ntwo" not in str(report)


def test_an_id_too_long_for_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_sound(tmp_path / "a.wav", 0.1 * rng.normal(size=8000), 8000)
    (tmp_path / "metadata.psv").write_text(f"id|text\na|x\n{'b' * 5000}|y\n")
    report = prepare(tmp_path, tmp_path / "corpus", preset="wavestill_8k")
    assert sum(report.num_clips.values()) == 1
    assert report.skipped[0].source == "metadata.psv line 3"


def test_interrupted_while_it_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_function", interrupted)
    assert command("fit", "recipe.yaml") == 130
    assert "interrupted" in one_line(capsys)


def test_too_large_for_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], voice_path: Path
) -> None:
    def exhausted(*arguments: object, **options: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("wavestill.synthesis.synth", exhausted)
    assert command("synth", voice_path, "a.wav", "-o", "b.wav") == 1
    assert "not enough memory" in one_line(capsys)


def test_a_terminal_without_our_signs(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "wavestill.cli", "prepare", "×", "out"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"wavestill: \\xd7: no such folder")


def test_settings_are_checked_in_python_too() -> None:
    with pytest.raises(ValueError, match="'betas'"):
        TrainingConfig(max_steps=1, betas=(0.9, 1.0))

"""The command line as a new user meets it: what it makes, and what it says when it cannot."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from wavestill import cli, publish
from wavestill.audio import Corpus, read_sound, save_frames, write_sound
from wavestill.publish import Voice

pytestmark = pytest.mark.usefixtures("one_thread")


def command(*arguments: object) -> int:
    try:
        return cli.run([str(argument) for argument in arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What stands on standard error: one line of ours, no traceback."""
    error = capsys.readouterr().err
    assert re.fullmatch(r"wavestill: [^\n]+\n", error), error
    return error


@pytest.mark.parametrize("name", [None, *cli.COMMANDS])
def test_every_help_works(name: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*([name] if name else []), "--help") == 0
    shown = capsys.readouterr().out
    assert "<class" not in shown
    assert (f"wavestill [options] {name}" if name else "{demo,prepare,fit") in shown


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["fit"], ["synth", "a"], ["fit", "r", "--steps", "3"]]
)
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*arguments) == 2
    assert "usage: wavestill" in capsys.readouterr().err


def tiny_recipe(tmp_path: Path, corpus: Corpus, **changes: object) -> Path:
    training = {
        "max_steps": 3,
        "clip_samples": 1000,
        "batch_size": 2,
        "validation_clips": 2,
        "log_every_steps": 1,
    }
    recipe = {
        "corpus": str(corpus.path),
        "out": str(tmp_path / "run"),
        "teacher": {
            "layers": 3,
            "dilation_cycle": 3,
            "residual_channels": 4,
            "gate_channels": 4,
            "skip_channels": 4,
            "num_mixtures": 2,
            "predictor_order": 4,
            "conditioning": {"channels": 4},
        },
        "fit": {**training, "sound_minutes": 10},
        "student": {"flows": [2, 2], "channels": 4},
        "objective": {"skip_samples": 100, "weights": {"magnitude": 1.0}},
        "distill": training,
        **changes,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_from_recipe_to_sound(
    tmp_path: Path, corpus: Corpus, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, figures = tiny_recipe(tmp_path, corpus), tmp_path / "figures.json"
    assert command("distill", recipe) == 1
    assert "run 'wavestill fit' first" in one_line(capsys)
    assert command("fit", recipe, "--json", figures) == 0
    assert np.isfinite(json.loads(figures.read_text())["teacher"]["valid_nats_per_sample"])
    assert {path.name for path in (tmp_path / "run" / "teacher" / "sounds").iterdir()} == {
        "recording.wav",
        "step_0000003.wav",
    }
    assert command("distill", recipe, "--json", figures) == 0
    assert json.loads(figures.read_text())["student"]["valid_kl_nats"] > 0
    capsys.readouterr()
    assert command("fit", recipe) == 1
    assert "--resume" in one_line(capsys)
    voice = tmp_path / "run" / "voice"
    assert publish.load(voice).student is not None
    assert command("synth", voice, recordings / "buzz0.wav", "-o", tmp_path / "copy.flac") == 0
    assert read_sound(tmp_path / "copy.flac").sample_rate == 8000


def test_a_reader_that_has_left_is_no_error():
    command = f"{sys.executable} -m wavestill.cli completion bash | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("sampler", ["student", "cached", "naive"])
def test_synth_is_seeded(sampler: str, voice_path: Path, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).normal(-4, 1, (3, 64)).astype(np.float32)
    np.save(tmp_path / "frames.npy", frames)
    sounds = []
    for name, seed, temperature in (("a", 1, 1.0), ("b", 1, 1.0), ("c", 2, 1.0), ("d", 1, 0.0)):
        out = tmp_path / f"{name}.wav"
        options = ["--sampler", sampler, "--seed", seed, "--temperature", temperature]
        assert command("synth", voice_path, tmp_path / "frames.npy", "-o", out, *options) == 0
        sounds.append(soundfile.read(out)[0])
    assert len(sounds[0]) == 300
    assert np.array_equal(sounds[0], sounds[1])
    assert not np.array_equal(sounds[0], sounds[2])
    assert sounds[3].std() < sounds[0].std()


def test_cached_and_naive_are_the_same_draw(voice_path: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", np.full((2, 64), -4, np.float32))
    for sampler in ("cached", "naive"):
        out = tmp_path / f"{sampler}.wav"
        assert (
            command("synth", voice_path, tmp_path / "frames.npy", "-o", out, "--sampler", sampler)
            == 0
        )
    cached, naive = (soundfile.read(tmp_path / f"{s}.wav")[0] for s in ("cached", "naive"))
    np.testing.assert_allclose(cached, naive, atol=2 / 32768)


def test_a_copy_has_the_recordings_level(
    voice_path: Path, recordings: Path, tmp_path: Path
) -> None:
    wave = read_sound(recordings / "buzz1.wav").wave
    levels = {}
    for gain in (1.0, 0.25):
        write_sound(tmp_path / "in.wav", gain * wave, 8000)
        out = tmp_path / f"out{gain}.wav"
        assert command("synth", voice_path, tmp_path / "in.wav", "-o", out) == 0
        levels[gain] = soundfile.read(out)[0].std()
    assert levels[0.25] / levels[1.0] == pytest.approx(0.25, rel=0.05)


def test_several_inputs_the_bad_ones_named(
    voice_path: Path,
    recordings: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tiny_voice: Voice,
) -> None:
    sources = [
        recordings / "buzz0.wav",
        tmp_path / "zero.wav",
        tmp_path / "none.wav",
        tmp_path / "text.wav",
    ]
    (tmp_path / "zero.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("not a sound, though long enough to look like one")
    write_sound(tmp_path / "silent.wav", np.zeros(8000, np.float32), 8000)
    write_sound(tmp_path / "short.wav", np.full(5, 0.1, np.float32), 8000)
    for name, frames in {
        "nan": np.full((3, 64), np.nan, np.float32),
        "empty": np.zeros((0, 64), np.float32),
        "wide": np.zeros((3, 80), np.float32),
        "flat": np.zeros(64, np.float32),
    }.items():
        np.save(tmp_path / f"{name}.npy", frames)
        sources.append(tmp_path / f"{name}.npy")
    other = type(tiny_voice.spec)(**{**tiny_voice.spec.to_dict(), "hop_samples": 80})
    save_frames(tmp_path / "other.npz", np.zeros((3, 64), np.float32), other)
    sources += [tmp_path / "silent.wav", tmp_path / "short.wav", tmp_path / "other.npz"]
    figures = tmp_path / "figures.json"
    assert command("synth", voice_path, *sources, "-o", tmp_path / "out", "--json", figures) == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["buzz0.wav"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(sources) - 1
    for line, source in zip(lines, sources[1:], strict=True):
        assert line.startswith(f"wavestill: skipped {source}: ")
    assert set(json.loads(figures.read_text())["failed"]) == {
        str(source) for source in sources[1:]
    }
    assert "hop_samples" in lines[-1]


def test_a_voice_without_what_is_asked_for(
    tiny_voice: Voice, tmp_path: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = recordings / "buzz0.wav"
    publish.save(Voice(tiny_voice.spec, teacher=tiny_voice.teacher), tmp_path / "voice")
    assert command("synth", tmp_path / "voice", source, "-o", tmp_path / "a.wav") == 1
    assert "no student yet; use --sampler cached" in one_line(capsys)
    publish.save(Voice(tiny_voice.spec, student=tiny_voice.student), tmp_path / "voice")
    assert (
        command(
            "synth", tmp_path / "voice", source, "-o", tmp_path / "a.wav", "--sampler", "cached"
        )
        == 1
    )
    assert "no teacher" in one_line(capsys)
    assert (
        command("synth", tmp_path / "voice", source, "-o", tmp_path / "a.wav", "--speaker", "eve")
        == 1
    )
    assert "no speaker 'eve'" in one_line(capsys)
    assert command("synth", tmp_path / "voice", source, "-o", tmp_path / "a.mp3") == 1
    assert "neither a folder nor a .wav" in one_line(capsys)
    assert command("synth", tmp_path / "voice", source, source, "-o", tmp_path / "a.wav") == 1
    assert "is one file" in one_line(capsys)
    assert command("synth", tmp_path / "voice", source, "-o", source) == 1
    assert "overwrite its own input" in one_line(capsys)
    assert command("synth", tmp_path, source, "-o", tmp_path / "a.wav") == 1
    assert "is no voice" in one_line(capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "MISSING.yaml"],
        ["distill", "MISSING.yaml"],
        ["prepare", "MISSING", "OUT"],
        ["evaluate", "MISSING", "MISSING"],
        ["synth", "MISSING", "a.wav", "-o", "b.wav"],
        ["demo", "--corpus", "MISSING", "--out", "FILE"],
        ["fit", "FILE"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_what_is_not_there_is_named(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "FILE").write_text("occupied")
    here = [
        str(tmp_path / a) if a.split(".")[0] in ("MISSING", "OUT", "FILE") else a
        for a in arguments
    ]
    assert command(*here) == 1
    assert "MISSING" in (line := one_line(capsys)) or "FILE" in line


def test_a_recipe_that_does_not_suit_its_corpus(
    tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(tmp_path, corpus, teacher={"conditioning": {"num_harmonics": 2}})
    assert command("fit", recipe) == 1
    assert "prepare it with --pitch" in one_line(capsys)
    recipe = tiny_recipe(tmp_path, corpus, fit={"max_steps": 1, "clip_samples": 10**6})
    assert command("fit", recipe) == 1
    assert "longest clip" in one_line(capsys)
    recipe.write_text(recipe.read_text().replace(str(corpus.path), str(tmp_path / "nowhere")))
    assert command("fit", recipe) == 1
    assert "nowhere" in one_line(capsys)


def test_evaluate_writes_results_and_a_report(
    voice_path: Path, corpus: Corpus, tmp_path: Path
) -> None:
    pytest.importorskip("jinja2")
    out = tmp_path / "evaluation"
    arguments = ["--out", out, "--num-clips", 1, "--max-seconds", 0.1]
    assert command("evaluate", voice_path, corpus.path, *arguments) == 0
    results = json.loads((out / "results.json").read_text())
    assert np.isfinite(results["teacher"]["nll_nats_per_sample"])
    assert np.isfinite(results["student"]["kl_nats_per_sample"])
    samplers = {"naive", "cached", "jacobi", "speculative", "student"}
    assert set(results["speed"]) - {"native"} == samplers  # where the kernel is not built
    assert "<audio" in (out / "report.html").read_text()
    assert "nll_nats_per_sample" in (voice_path / "README.md").read_text()
    sounds = {path.name for path in out.glob("sounds/*/*.wav")}
    assert sounds == {f"{name}.wav" for name in ("recording", "teacher", "student", "griffin_lim")}


@pytest.mark.slow
def test_the_demo(tmp_path: Path, recordings: Path) -> None:
    assert command("demo", "--out", tmp_path / "demo", "--minutes", 1, "--corpus", recordings) == 0
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    truth = results["known_truth"]
    assert abs(truth["teacher_nll_nats_per_sample"] - truth["true_nll_nats_per_sample"]) < 0.003
    assert truth["student_kl_nats_per_sample"] < 0.002
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000

"""`wavestill bench` as a user meets it: its table, its figures, its picture, its complaints."""

import json
import math
import re
from pathlib import Path

import pytest

from wavestill import cli, publish
from wavestill.evaluation.bench.table import ROWS
from wavestill.publish import Voice

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = ["--seconds", "0.01", "--repeats", "2", "--threads", "1"]
LITTLE = ["--samplers", "student", *QUICK]  # what would be measured if nobody complained
KEYS = {
    *("label", "precision", "num_streams", "num_samples"),
    *("samples_per_second", "samples_per_second_min", "samples_per_second_max"),
    *("times_real_time", "first_sound_ms", "first_sound_ms_min", "first_sound_ms_max"),
    *("flops_per_sample", "gflops", "share_of_matrix_product"),
    *("step_weight_bytes", "gbytes_per_second", "share_of_streaming_read"),
}


def command(*arguments: object) -> int:
    try:
        return cli.run([str(argument) for argument in arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


def numbers(figures: object) -> list[float]:
    if isinstance(figures, dict):
        return [value for part in figures.values() for value in numbers(part)]
    if isinstance(figures, list):
        return [value for part in figures for value in numbers(part)]
    return [figures] if isinstance(figures, int | float) else []


def test_a_voice_is_measured_and_drawn(
    voice_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pytest.importorskip("matplotlib.image")
    out, plot = tmp_path / "bench.json", tmp_path / "growth.png"
    assert command("bench", voice_path, *QUICK, "--json", out, "--plot", plot) == 0
    figures = json.loads(out.read_text())
    assert set(figures) == {
        *("command", "machine", "version", "commit", "date", "settings", "subject"),
        *("peaks", "samplers", "growth", "skipped"),
    }
    assert set(figures["samplers"]) | set(figures["skipped"]) == set(ROWS)
    assert {"naive", "cached", "jacobi", "speculative", "student"} <= set(figures["samplers"])
    for name, own in figures["samplers"].items():
        assert set(own) >= KEYS, name
        assert own["samples_per_second_min"] <= own["samples_per_second"]
        assert own["samples_per_second"] <= own["samples_per_second_max"]
        assert own["times_real_time"] == pytest.approx(own["samples_per_second"] / 8000)
        assert own["first_sound_ms"] > 0
        assert own["gflops"] > 0
    assert figures["samplers"]["speculative"]["samples_per_round"] >= 1
    assert figures["settings"] == {"threads": 1, "repeats": 2, "seconds": 0.01}
    assert all(math.isfinite(value) for value in numbers(figures))
    assert set(figures["growth"]) >= {"naive", "cached", "student"}
    for grown in figures["growth"].values():
        assert len(grown["num_samples"]) == len(grown["seconds"]) > 0

    picture = image.imread(plot)
    pixels = (picture[..., :3] * 255).round().astype(int)
    orange = (pixels == (0xD5, 0x5E, 0x00)).all(-1)  # naive: a line from end to end, and its name
    columns = orange.any(0).nonzero()[0]
    assert orange.sum() > 500
    assert columns.max() - columns.min() > 0.6 * picture.shape[1]

    shown = capsys.readouterr()
    assert shown.err == ""
    for own in figures["samplers"].values():
        assert re.search(rf"^{re.escape(own['label'])} +[\d,.]+ ", shown.out, re.MULTILINE)
    assert "matrix product" in shown.out


def test_without_a_voice_the_papers_shapes_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    arguments = ["--samplers", "student", "--json", out, "--seconds", 0.01, "--repeats", 1]
    assert command("bench", *arguments) == 0
    figures = json.loads(out.read_text())
    assert figures["subject"]["trained"] is False
    assert figures["subject"]["student"]["parameters"] > 2_000_000
    assert "random weights" in capsys.readouterr().out


def test_a_voice_without_a_student_has_its_teacher_measured(
    tiny_voice: Voice, tmp_path: Path
) -> None:
    path, out = tmp_path / "voice", tmp_path / "bench.json"
    publish.save(Voice(spec=tiny_voice.spec, teacher=tiny_voice.teacher), path)
    assert command("bench", path, "--samplers", "cached,jacobi", *QUICK, "--json", out) == 0
    figures = json.loads(out.read_text())
    assert set(figures["samplers"]) == {"cached", "jacobi"}
    assert figures["skipped"] == {"jacobi_with_student": "this voice has no student"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["{tmp}/nowhere"], "there is no voice at '.*nowhere'"),
        (["--samplers", "fast"], "no sampler 'fast'; there are naive, cached"),
        (["--samplers", "speculative"], "'speculative' cannot be measured: .*name a voice"),
        (["--repeats", "0"], "repeats 0 .* must be positive"),
        (["--threads", "-1"], "threads -1,.* must be positive"),
        (["--seconds", "0"], "seconds 0 must be positive"),
        (["--plot", "{tmp}/growth.jpg", *LITTLE], "growth.jpg' is not a .png file"),
        (["--plot", "{tmp}/nowhere/growth.png", *LITTLE], "growth.png' cannot be written"),
        (["--recording", "{tmp}/a.wav", *LITTLE], "name one"),
        (["{voice}", "--recording", "{tmp}/a.wav"], "a.wav"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str],
    reason: str,
    voice_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [argument.format(tmp=tmp_path, voice=voice_path) for argument in arguments]
    assert command("bench", *given) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(rf"wavestill: [^\n]*{reason}[^\n]*\n", error), error

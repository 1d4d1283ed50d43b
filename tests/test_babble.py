"""The babbling example, on buzzes and an untrained voice: it runs, and says what it lacks."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from wavestill import IAFWaveNet, IAFWaveNetConfig, prepare, publish
from wavestill.audio import Corpus, read_sound
from wavestill.nn.conditioning import ConditioningConfig
from wavestill.publish import Voice

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "04_babble.py"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *map(str, arguments)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")


@pytest.mark.slow
def test_babbles_with_any_corpus_and_voice(recordings, tmp_path, monkeypatch, capsys, one_thread):
    pytest.importorskip("matplotlib").use("Agg")
    prepare(recordings, tmp_path / "corpus", preset="wavestill_8k", pitch=True, valid_fraction=0.2)
    conditioning = ConditioningConfig(66, hop_samples=100, sample_rate=8000, channels=4)
    torch.manual_seed(0)
    student = IAFWaveNet(IAFWaveNetConfig(flows=(2,), channels=4, conditioning=conditioning))
    student.calibrate(0.07 * torch.randn(1000))
    spec = Corpus(tmp_path / "corpus").spec
    publish.save(Voice(spec=spec, student=student.eval()), tmp_path / "voice")
    shape = ["--corpus", tmp_path / "corpus", "--channels", 16, "--seconds", 0.3]
    run(
        monkeypatch, *shape, "--voice", tmp_path / "voice", "--minutes", 0.005,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert "nats per held-out frame" in capsys.readouterr().out
    wave, sample_rate, _ = read_sound(tmp_path / "out" / "babble.wav")
    assert (len(wave), sample_rate) == (2400, 8000)
    assert (tmp_path / "out" / "babble.png").exists()
    with pytest.raises(SystemExit, match="nowhere"):
        run(
            monkeypatch, *shape, "--voice", tmp_path / "nowhere",
            "--prior", tmp_path / "out" / "prior.pt", "--out", tmp_path / "out",
        )  # fmt: skip

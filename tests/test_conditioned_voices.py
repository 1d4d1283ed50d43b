"""From recordings to sound with what a voice may be conditioned on: speakers, labels, pitch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_cli import command, one_line, tiny_recipe
from wavestill import IAFWaveNet, publish
from wavestill.audio import Corpus, read_sound, write_sound
from wavestill.audio.linguistic import LinguisticSpec
from wavestill.publish import Voice

pytestmark = pytest.mark.usefixtures("one_thread")

RATE = 8000


def buzz(f0_hz: float, seconds: float, seed: int) -> np.ndarray:
    time_s = np.arange(round(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * k * f0_hz * time_s) / k for k in range(1, 9))
    noise = np.random.default_rng(seed).normal(size=len(time_s))
    return (0.1 * wave + 0.003 * noise).astype(np.float32)


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    """Twelve recordings of two speakers with labels beside them: a vowel between silences."""
    source = tmp_path / "source"
    (source / "wavs").mkdir(parents=True)
    rows = ["id|text|speaker|split"]
    splits = ["train"] * 8 + ["valid"] * 2 + ["test"] * 2
    for number, split in enumerate(splits):
        speaker = ("anna", "bert")[number % 2]
        seconds = 0.4 + 0.05 * number
        wave = buzz(220 if speaker == "anna" else 110, seconds, number)
        wave[: RATE // 10] *= 0.01
        write_sound(source / "wavs" / f"r{number}.wav", wave, RATE)
        vowel, end = ("aa", "iy")[number % 3 == 0], round(seconds * 1e7)
        (source / "wavs" / f"r{number}.lab").write_text(
            f"0 1000000 sil\n1000000 {end - 500000} {vowel}\n{end - 500000} {end} sil\n"
        )
        rows.append(f"r{number}|a sentence {number}|{speaker}|{split}")
    (source / "metadata.psv").write_text("\n".join(rows) + "\n")
    return source


def trained_voice(tmp_path: Path, corpus: Corpus) -> Path:
    """A voice of three steps, teacher and student."""
    recipe = tiny_recipe(tmp_path, corpus)
    assert command("fit", recipe) == 0
    assert command("distill", recipe) == 0
    return tmp_path / "run" / "voice"


def evaluated(voice: Path, corpus: Path, out: Path) -> dict[str, Any]:
    """The results of one short clip."""
    options = ["--num-clips", 1, "--max-seconds", 0.2, "--no-speed"]
    assert command("evaluate", voice, corpus, "--out", out, *options) == 0
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    return results


@pytest.fixture(name="voice_of_two")
def _voice_of_two(tiny_voice: Voice, student_of_two: IAFWaveNet, tmp_path: Path) -> Path:
    """An untrained student of two speakers."""
    path = tmp_path / "voice_of_two"
    publish.save(Voice(tiny_voice.spec, student=student_of_two, speakers=("anna", "7")), path)
    return path


def test_a_speaker_is_chosen_by_name_or_number(
    voice_of_two: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = recordings / "buzz0.wav"
    for options in ([], ["--speaker=carl"], ["--speaker=2"], ["--speaker=-1"], ["--speaker="]):
        assert command("synth", voice_of_two, recording, "-o", tmp_path / "x.wav", *options) == 1
        assert "; this voice has anna (0), 7 (1)" in one_line(capsys)
    sounds = {}
    for speaker in ("anna", "0", "7", "1"):
        target = tmp_path / f"by_{speaker}.wav"
        assert command("synth", voice_of_two, recording, "-o", target, "--speaker", speaker) == 0
        sounds[speaker] = read_sound(target).wave
    assert np.array_equal(sounds["anna"], sounds["0"])
    assert np.array_equal(sounds["7"], sounds["1"])
    assert not np.array_equal(sounds["anna"], sounds["7"])


@pytest.mark.slow
def test_two_speakers_from_recordings_to_sound(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    assert command("prepare", source, out, "--preset", "wavestill_8k") == 0
    assert Corpus(out).speakers == ("anna", "bert")
    path = trained_voice(tmp_path, Corpus(out))
    voice = publish.load(path)
    assert voice.speakers == ("anna", "bert")
    for model in (voice.require_teacher(), voice.require_student()):
        assert model.config.conditioning is not None
        assert model.config.conditioning.num_speakers == 2
    assert "| speakers | anna, bert |" in (path / "README.md").read_text()
    recording, target = source / "wavs" / "r11.wav", tmp_path / "bert.wav"
    assert command("synth", path, recording, "-o", target, "--speaker", "bert") == 0
    assert evaluated(path, out, tmp_path / "evaluated")["student"]["kl_nats_per_sample"] > 0


def test_a_voice_without_speakers_refuses_one(
    voice_path: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "x.wav"
    assert command("synth", voice_path, recordings / "buzz0.wav", "-o", target, "--speaker=0") == 1
    assert "this voice has one speaker without a name" in one_line(capsys)


@pytest.fixture(name="labelled")
def _labelled(source: Path) -> Path:
    """The same as a plain folder of one speaker; one file of labels is gone, one is damaged."""
    (source / "metadata.psv").unlink()
    (source / "wavs" / "r1.lab").unlink()
    (source / "wavs" / "r2.lab").write_text("0 1000000 aa\n0 1000000 iy\n")
    return source / "wavs"


def prepared(wavs: Path, out: Path) -> list[object]:
    """The command that makes a corpus of them."""
    fractions = ["--valid-fraction", 0.2, "--test-fraction", 0.2, "--workers", 1]
    return ["prepare", wavs, out, "--preset", "wavestill_8k", "--labels", wavs, *fractions]


def test_labels_become_features_that_fit_the_sound(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    assert command(*prepared(labelled, tmp_path / "corpus"), "--json", report) == 0
    assert "3 phones with 2 neighbours" in capsys.readouterr().out
    left_out = json.loads(report.read_text())["skipped"]
    skipped = {one["source"]: one["reason"] for one in left_out}
    assert skipped["r1.wav"] == "it has no label file"
    assert "r2.lab: line 2: 'iy' begins at 0 s, before" in skipped["r2.wav"]
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.spec == LinguisticSpec(RATE, 100, ("aa", "iy", "sil"))
    for clip in corpus.split("train"):
        vowel = clip.frames[:, 2 * 3 : 3 * 3].argmax(1)  # who is said here
        loud = np.abs(clip.wave).reshape(-1, 100).max(1) > 0.02
        assert (vowel[:8] == 2).all()
        assert not loud[:7].any()
        assert (vowel[10:-6] < 2).all()


@pytest.mark.slow
def test_labels_from_recordings_to_sound(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "corpus"
    assert command(*prepared(labelled, out)) == 0
    path = trained_voice(tmp_path, Corpus(out))
    capsys.readouterr()
    sounds = tmp_path / "sounds"
    given = [labelled / name for name in ("r0.lab", "r4.wav", "r1.wav", "r3.lab")]
    assert command("synth", path, *given, "-o", sounds) == 1
    assert "r1.lab or .TextGrid lies beside it" in one_line(capsys)
    assert {file.name for file in sounds.iterdir()} == {"r0.wav", "r3.wav", "r4.wav"}
    assert len(read_sound(sounds / "r0.wav").wave) == round(0.4 * RATE)
    results = evaluated(path, out, tmp_path / "evaluated")
    assert "griffin_lim" not in results["quality"]
    assert any("Griffin-Lim is left out" in note for note in results["notes"])
    assert "3 phones with 2 neighbours" in (path / "README.md").read_text()


def test_a_mel_voice_refuses_labels_and_mels_refuse_other_specs(
    voice_path: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = source / "wavs" / "r0.lab"
    assert command("synth", voice_path, labels, "-o", tmp_path / "x.wav") == 1
    assert "labels, but this voice takes mels" in one_line(capsys)
    assert command("prepare", source, tmp_path / "c", "--labels", tmp_path / "none") == 1
    assert "no such folder of label files" in one_line(capsys)
    (tmp_path / "empty").mkdir()
    assert command("prepare", source, tmp_path / "c", "--labels", tmp_path / "empty") == 1
    assert "that of 'r0' would be r0.lab" in one_line(capsys)

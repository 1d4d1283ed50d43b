"""Many inputs at once: each sounds as by itself, bad ones are left out, nothing is overwritten."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from wavestill import WaveNet, publish, synthesis
from wavestill.audio import extract, read_sound, save_frames
from wavestill.commands import synth as commands_synth
from wavestill.publish import Voice
from wavestill.synthesis import synth

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTHS = (3, 9, 4, 4, 8, 1, 7)


@pytest.fixture(name="inputs")
def _inputs(tiny_voice: Voice, tmp_path: Path) -> list[Path]:
    """Frames of several lengths, as files."""
    rng = np.random.default_rng(0)
    paths = []
    for number, length in enumerate(LENGTHS):
        path = tmp_path / f"clip{number}.npz"
        frames = rng.normal(-4, 1, (length, tiny_voice.spec.num_features)).astype(np.float32)
        save_frames(path, frames, tiny_voice.spec)
        paths.append(path)
    return paths


def sounds(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: read_sound(path).wave for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("max_batch_samples", [1, 1600, 10**6])
def test_batches_of_any_size_give_the_same_files(
    max_batch_samples: int,
    voice_path: Path,
    inputs: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[list[int]] = []
    draw = synthesis.synthesise_batch

    def watched(voice: Voice, batch: list[np.ndarray], **options: object) -> list[np.ndarray]:
        drawn.append([len(frames) for frames in batch])
        return draw(voice, batch, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(synthesis, "synthesise_batch", watched)
    report = synth(voice_path, inputs, tmp_path / "all", max_batch_samples=max_batch_samples)
    assert list(report.written) == [str(path) for path in inputs]
    assert sorted(itertools.chain(*drawn)) == sorted(LENGTHS)
    for batch in drawn:
        assert len(batch) == 1 or len(batch) * max(batch) * 100 <= max_batch_samples
        assert min(batch) >= 0.75 * max(batch)
    assert (max(len(batch) for batch in drawn) > 1) == (max_batch_samples > 1)
    for path, length in zip(inputs, LENGTHS, strict=True):
        synth(voice_path, [path], tmp_path / "alone" / f"{path.stem}.wav")
        assert len(read_sound(tmp_path / "alone" / f"{path.stem}.wav").wave) == 100 * length
    alone = sounds(tmp_path / "alone")
    for name, wave in sounds(tmp_path / "all").items():
        np.testing.assert_allclose(wave, alone[name], atol=1.01 / 32768)


def test_few_inputs_are_read_ahead(
    voice_path: Path, inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    read, draw = synthesis.frames_of, synthesis.synthesise_batch
    monkeypatch.setattr(
        synthesis, "frames_of", lambda *given: events.append("read") or read(*given)
    )
    monkeypatch.setattr(
        synthesis,
        "synthesise_batch",
        lambda *given, **options: events.append("draw") or draw(*given, **options),
    )
    synth(voice_path, inputs, tmp_path / "out", max_batch_samples=300)
    assert events.index("draw") == 2  # 3 and 9 frames are four batches' worth


def test_what_exists_is_left_unless_told_otherwise(
    voice_path: Path, inputs: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "clip1.wav").write_bytes(b"dear to somebody")
    report = synth(voice_path, inputs[:3], out)
    assert list(report.written) == [str(inputs[0]), str(inputs[2])]
    assert report.failed == {
        str(inputs[1]): f"'{out / 'clip1.wav'}' exists; --overwrite replaces it"
    }
    assert (out / "clip1.wav").read_bytes() == b"dear to somebody"
    assert {path.name for path in out.iterdir()} == {f"clip{i}.wav" for i in range(3)}
    again = synth(voice_path, inputs[:3], out, overwrite=True)
    assert not again.failed
    assert len(read_sound(out / "clip1.wav").wave) == 900


def test_processes_share_the_inputs(
    voice_path: Path, inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    written = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        outcome = commands_synth.synth(voice_path, inputs, tmp_path / "out")
        written.append(list(outcome.figures["written"]))
    assert written == [[str(path) for path in inputs[rank::2]] for rank in range(2)]
    with pytest.raises(ValueError, match=r"'share' is \(2, 2\)"):
        synth(voice_path, inputs, tmp_path / "more", share=(2, 2))


def test_one_that_cannot_be_drawn_spoils_no_other(
    voice_path: Path, inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, bad = synthesis.synthesise_batch, inputs[3]

    def picky(voice: Voice, batch: list[np.ndarray], **options: object) -> list[np.ndarray]:
        if any(np.array_equal(frames, np.load(bad)["frames"]) for frames in batch):
            raise ValueError("the conditioning is not finite")
        return draw(voice, batch, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(synthesis, "synthesise_batch", picky)
    report = synth(voice_path, inputs, tmp_path / "out")
    assert report.failed == {str(bad): "the conditioning is not finite"}
    assert list(report.written) == [str(path) for path in inputs if path != bad]


def test_mels_alone_will_do_for_a_voice_with_pitch(
    tiny_voice: Voice, recordings: Path, tmp_path: Path
) -> None:
    spec = dataclasses.replace(tiny_voice.spec, pitch=True)
    config = tiny_voice.require_teacher().config
    assert config.conditioning is not None
    conditioning = dataclasses.replace(
        config.conditioning, num_features=spec.num_features, num_harmonics=2
    )
    torch.manual_seed(0)
    teacher = WaveNet(dataclasses.replace(config, conditioning=conditioning)).eval()
    publish.save(Voice(spec, teacher=teacher), tmp_path / "voice")
    frames = extract(read_sound(recordings / "buzz3.wav").wave, spec)[:20]
    np.save(tmp_path / "whole.npy", frames)
    np.save(tmp_path / "mels.npy", frames[:, :-2])
    save_frames(tmp_path / "spec.npz", frames[:, :-2], tiny_voice.spec)
    np.save(tmp_path / "wrong.npy", frames[:, :-1])
    names = ("whole.npy", "mels.npy", "spec.npz", "wrong.npy")
    report = synth(
        tmp_path / "voice",
        [tmp_path / name for name in names],
        tmp_path / "out",
        sampler="native",
    )
    assert list(report.failed) == [str(tmp_path / "wrong.npy")]
    assert "this spec's are of shape (frames, 66)" in report.failed[str(tmp_path / "wrong.npy")]
    assert set(report.notes) == {str(tmp_path / "mels.npy"), str(tmp_path / "spec.npz")}
    for (note,) in report.notes.values():
        assert note.startswith("F0 estimated from its mels (")
    drawn = sounds(tmp_path / "out")
    assert np.array_equal(drawn["mels.wav"], drawn["spec.wav"])

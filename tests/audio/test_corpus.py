"""Reading a prepared corpus back, and refusing a damaged one in one line."""

import json

import numpy as np
import pytest
import soundfile

from wavestill.audio.corpus import Corpus
from wavestill.audio.preparation import prepare


@pytest.fixture
def folder(voice, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(5):
        soundfile.write(tmp_path / "in" / f"{i}.wav", voice(0.2 + 0.05 * i, 8000, seed=i), 8000)
    prepare(
        tmp_path / "in",
        tmp_path / "out",
        preset="wavestill_8k",
        valid_fraction=0.4,
        test_fraction=0.0,
    )
    return tmp_path / "out"


def test_clips_are_slices_of_memory_mapped_arrays(folder):
    corpus = Corpus(folder)
    train = corpus.split("train")
    assert isinstance(train.audio, np.memmap)
    assert corpus.level_dbfs == corpus.index["level_dbfs"] == -23.0
    assert len(train) == 3
    assert len(list(train)) == 3
    position = 0
    for clip, entry in zip(train, train.entries, strict=True):
        assert clip.wave.dtype == clip.frames.dtype == np.float32
        assert entry.offset_samples == position
        end = position + len(clip.wave)
        np.testing.assert_array_equal(clip.wave * 32768, train.audio[position:end])
        np.testing.assert_array_equal(clip.frames, train.frames[position // 100 : end // 100])
        position = end
    assert position == len(train.audio)
    assert corpus.seconds("train") == pytest.approx(position / 8000)


def test_an_empty_split_is_empty(folder):
    test = Corpus(folder).split("test")
    assert len(test) == 0
    assert test.seconds == 0
    assert list(test) == []


def test_statistics_are_of_training_frames(folder):
    corpus = Corpus(folder)
    frames = np.concatenate([clip.frames for clip in corpus.split("train")]).astype(np.float64)
    mean, std = corpus.frame_statistics()
    np.testing.assert_allclose(mean, frames.mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, frames.std(0), rtol=1e-5)


def test_no_such_split(folder):
    with pytest.raises(ValueError, match="no split 'dev'; a corpus has train, valid, test"):
        Corpus(folder).split("dev")


DAMAGE = {
    "no index": (lambda f: (f / "index.json").unlink(), "run 'wavestill prepare' first"),
    "no JSON": (lambda f: (f / "index.json").write_text("{"), "not readable as JSON"),
    "another's JSON": (
        lambda f: (f / "index.json").write_text("[1]"),
        "not the index of a prepared corpus",
    ),
    "newer": (lambda f: edit(f, format_version=2), "format version 2, but this version reads 1"),
    "no clips": (lambda f: edit(f, clips=None), "damaged"),
    "odd clips": (lambda f: edit(f, clips=[{"id": "a", "notes": []}]), "damaged"),
    "odd spec": (lambda f: edit(f, spec={"hop": 1}), "no field hop"),
    "no sounds": (
        lambda f: (f / "train_audio.npy").unlink(),
        "train_audio.npy: missing or damaged",
    ),
    "empty frames": (
        lambda f: (f / "valid_frames.npy").write_bytes(b""),
        "valid_frames.npy: missing or",
    ),
    "cut sounds": (
        lambda f: shorten(f / "train_audio.npy"),
        "train_audio.npy: missing or damaged",
    ),
    "other sounds": (
        lambda f: np.save(f / "train_audio.npy", np.zeros(100, np.int16)),
        r"holds int16 of shape \(100,\)",
    ),
}


def edit(folder, **values):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, **values}))


def shorten(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(("damage", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_in_one_line(folder, damage, reason):
    damage(folder)
    with pytest.raises(ValueError, match=reason) as caught:
        Corpus(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)

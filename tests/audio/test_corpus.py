"""Reading a prepared corpus back, of either format, and refusing a damaged one in one line."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavestill.audio.corpus import Corpus
from wavestill.audio.crops import Crops
from wavestill.audio.preparation import prepare
from wavestill.audio.shards import DamagedClip
from wavestill.audio.splits import SPLITS
from wavestill.audio.verification import verify


@pytest.fixture(scope="module")
def made_once(voice, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("made")
    (tmp_path / "in").mkdir()
    rows = ["id|speaker|text\n"]
    for i in range(5):
        soundfile.write(tmp_path / "in" / f"{i}.wav", voice(0.2 + 0.05 * i, 8000, seed=i), 8000)
        rows.append(f"{i}|{'Zoë' if i % 2 else 'Ann'}|Satz «{i}».\n")
    (tmp_path / "in" / "metadata.psv").write_text("".join(rows))
    prepare(
        tmp_path / "in",
        tmp_path / "out",
        preset="wavestill_8k",
        valid_fraction=0.4,
        test_fraction=0.0,
    )
    return tmp_path / "out"


@pytest.fixture
def folder(made_once, tmp_path):
    """Five clips of two speakers; three train, two are for validation."""
    return Path(shutil.copytree(made_once, tmp_path / "out"))


def as_version_1(corpus, folder):
    """The corpus as version 0.1 of this package wrote it."""
    folder.mkdir()
    clips = []
    for split in SPLITS:
        position = 0
        own = corpus.split(split)
        np.save(folder / f"{split}_audio.npy", own.audio)
        np.save(folder / f"{split}_frames.npy", own.frames)
        for entry in own.entries:
            facts = {**asdict(entry), "offset_samples": position, "notes": list(entry.notes)}
            for name in ("shard", "first_frame", "audio_crc32", "frames_crc32"):
                del facts[name]
            position += entry.num_frames * corpus.spec.hop_samples
            clips.append(facts)
    spec = corpus.spec.to_dict()
    for name in ("padding", "mel_scale", "filter_norm"):
        del spec[name]
    index = {name: corpus.index[name] for name in ("format", "source", "level_dbfs", "seed")}
    index |= {"format_version": 1, "spec": spec, "speakers": list(corpus.speakers)}
    (folder / "index.json").write_text(json.dumps({**index, "clips": clips, "report": {}}))
    return folder


def test_clips_are_pieces_of_the_shards(folder):
    corpus = Corpus(folder)
    audio = np.load(folder / "audio-00000.npy", mmap_mode="r")
    frames = np.load(folder / "frames-00000.npy", mmap_mode="r")
    assert corpus.level_dbfs == corpus.index["level_dbfs"] == -23.0
    assert [len(corpus.split(split)) for split in SPLITS] == [3, 2, 0]
    position = 0
    found = {c.id: (c, e) for s in SPLITS for c, e in zip(*2 * [corpus.split(s)], strict=True)}
    entries = {e.id: e for split in SPLITS for e in corpus.split(split).entries}
    for i in range(5):  # shards hold the clips in the source's order, whatever their splits
        clip, entry = found[str(i)][0], entries[str(i)]
        assert clip.wave.dtype == clip.frames.dtype == np.float32
        assert entry.first_frame == position
        end = position + entry.num_frames
        np.testing.assert_array_equal(clip.wave * 32768, audio[position * 100 : end * 100])
        np.testing.assert_array_equal(clip.frames, frames[position:end])
        assert clip.text == entry.text == f"Satz «{i}»."
        assert corpus.speakers[clip.speaker] == entry.speaker == ("Zoë" if i % 2 else "Ann")
        assert entry.source == f"{i}.wav"
        position = end
    assert position == len(frames) == len(audio) / 100
    train = corpus.split("train")
    assert corpus.seconds("train") == pytest.approx(len(train.audio) / 8000)
    assert train.audio.tolist() == [v for c in train for v in (c.wave * 32768).astype(int)]
    np.testing.assert_array_equal(train.frames, np.concatenate([c.frames for c in train]))


def test_a_piece_is_what_the_whole_has_there(folder):
    for clips in (Corpus(folder).split("train"), Corpus(folder).split("train")):
        cut = clips.piece(1, 3, 7)  # the first read of the clip, and at the next turn a later one
        whole = clips.piece(1)
        np.testing.assert_array_equal(cut.frames, whole.frames[3:7])
        np.testing.assert_array_equal(cut.audio, whole.audio[300:700])
        np.testing.assert_array_equal(clips.piece(1, 3, 7).frames, cut.frames)
    assert [entry.id for entry in clips.entries[1:]] == [entry.id for entry in clips.entries][1:]


def test_an_empty_split_is_empty(folder):
    test = Corpus(folder).split("test")
    assert len(test) == 0
    assert test.seconds == 0
    assert list(test) == []
    assert test.audio.shape == (0,)
    assert test.frames.shape == (0, 64)


def test_statistics_are_of_training_frames(folder):
    corpus = Corpus(folder)
    frames = np.concatenate([clip.frames for clip in corpus.split("train")]).astype(np.float64)
    mean, std = corpus.frame_statistics()
    np.testing.assert_allclose(mean, frames.mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, frames.std(0), rtol=1e-5)


def test_no_such_split(folder):
    with pytest.raises(ValueError, match="no split 'dev'; a corpus has train, valid, test"):
        Corpus(folder).split("dev")


def test_a_corpus_of_format_1_reads_the_same(folder, tmp_path):
    new = Corpus(folder)
    old = Corpus(as_version_1(new, tmp_path / "old"))
    assert (old.spec, old.speakers, old.level_dbfs) == (new.spec, new.speakers, new.level_dbfs)
    for split in SPLITS:
        for here, there in zip(old.split(split), new.split(split), strict=True):
            assert here[:3] == there[:3]
            np.testing.assert_array_equal(here.wave, there.wave)
            np.testing.assert_array_equal(here.frames, there.frames)
    batches = [
        Crops(corpus.split("train"), clip_frames=10, batch_size=6).batch(1)
        for corpus in (old, new)
    ]
    assert batches[0].x.equal(batches[1].x)
    assert "all readable (format 1 has no checksums)" in str(verify(tmp_path / "old"))


def edit(folder, **values):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, **values}))


def shorten(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


EITHER = {
    "no index": (lambda f: (f / "index.json").unlink(), "run 'wavestill prepare' first"),
    "no JSON": (lambda f: (f / "index.json").write_text("{"), "not readable as JSON"),
    "another's JSON": (
        lambda f: (f / "index.json").write_text("[1]"),
        "not the index of a prepared corpus",
    ),
    "newer": (
        lambda f: edit(f, format_version=3),
        "format version 3, but this version reads 1 and 2",
    ),
    "no clips": (lambda f: edit(f, clips=None), "damaged"),
    "odd clips": (lambda f: edit(f, clips=[{"id": "a", "notes": []}]), "damaged"),
    "odd spec": (lambda f: edit(f, spec={"hop": 1}), "no field hop"),
}
DAMAGE_1 = {
    **EITHER,
    "no sounds": (lambda f: (f / "train_audio.npy").unlink(), "train_audio.npy: No such file"),
    "empty frames": (
        lambda f: (f / "valid_frames.npy").write_bytes(b""),
        "valid_frames.npy: not an array",
    ),
    "cut sounds": (lambda f: shorten(f / "train_audio.npy"), "train_audio.npy: cut short"),
    "other sounds": (
        lambda f: np.save(f / "train_audio.npy", np.zeros(100, np.int16)),
        r"holds int16 of shape \(100,\)",
    ),
}
DAMAGE_2 = {
    **EITHER,
    "no shards": (lambda f: edit(f, shards=[]), "shard is not listed"),
    "odd shards": (lambda f: edit(f, shards=["x"]), "damaged"),
    "fewer speakers": (lambda f: edit(f, speakers=["Ann"]), "speaker is not listed"),
    "no table": (lambda f: (f / "clips.npy").unlink(), "clips.npy is missing or damaged"),
    "cut table": (lambda f: shorten(f / "clips.npy"), "clips.npy is missing or damaged"),
    "other table": (lambda f: flip(f / "clips.npy", -1), "checksum of clips.npy"),
    "other words": (lambda f: flip(f / "strings.npy", -1), "checksum of strings.npy"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGE_2.values(), ids=DAMAGE_2)
def test_damage_to_the_index_is_named_in_one_line(folder, damage, reason):
    damage(folder)
    with pytest.raises(ValueError, match=reason) as caught:
        Corpus(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("damage", "reason"), DAMAGE_1.values(), ids=DAMAGE_1)
def test_damage_to_format_1_is_named_in_one_line(folder, tmp_path, damage, reason):
    old = as_version_1(Corpus(folder), tmp_path / "old")
    damage(old)
    with pytest.raises(ValueError, match=reason) as caught:
        Corpus(old)
    assert str(old) in str(caught.value)
    assert "\n" not in str(caught.value)


SHARD_DAMAGE = {
    "a bit of a sample": (lambda f: flip(f / "audio-00000.npy", 200), "checksum", ["0"]),
    "a bit of a frame": (lambda f: flip(f / "frames-00000.npy", -1), "checksum", ["4"]),
    "no end": (lambda f: shorten(f / "audio-00000.npy"), "cut short", ["4"]),
    "no header": (lambda f: flip(f / "audio-00000.npy", 3), "first bytes", list("01234")),
    "empty": (lambda f: (f / "frames-00000.npy").write_bytes(b""), "first bytes", list("01234")),
    "gone": (lambda f: (f / "frames-00000.npy").unlink(), "No such file", list("01234")),
    "another": (
        lambda f: np.save(f / "audio-00000.npy", np.zeros(8, np.int16)),
        r"holds int16 of shape \(8,\)",
        list("01234"),
    ),
}


@pytest.mark.parametrize(("damage", "reason", "spoiled"), SHARD_DAMAGE.values(), ids=SHARD_DAMAGE)
def test_a_damaged_shard_costs_no_more_than_its_clips(folder, damage, reason, spoiled):
    whole = {clip.id: clip for split in SPLITS for clip in Corpus(folder).split(split)}
    assert str(verify(folder)) == f"{folder}: 5 clips in 1 shards, all whole"
    damage(folder)
    corpus = Corpus(folder)
    for split in SPLITS:
        clips = corpus.split(split)
        for i, entry in enumerate(clips.entries):
            if entry.id not in spoiled:
                np.testing.assert_array_equal(clips[i].wave, whole[entry.id].wave)
                continue
            for read in (lambda i=i, clips=clips: clips[i], lambda i=i, c=clips: c.piece(i, 0, 2)):
                with pytest.raises(DamagedClip, match=reason) as caught:
                    read()
                assert caught.value.id == entry.id
                assert str(caught.value).startswith(str(caught.value.path))
                assert "\n" not in str(caught.value)
    found = verify(folder)
    assert sorted(clip.id for clip in found.damaged) == spoiled
    assert list(found.files.values()) == [len(spoiled)]
    [name] = found.files
    assert name in str(found)
    assert found.to_dict()["damaged_files"] == found.files


def test_a_shard_damaged_while_it_is_in_use_raises_no_signal(folder):
    clips = Corpus(folder).split("train")
    clips.piece(0)
    shutil.move(folder / "audio-00000.npy", folder / "away.npy")
    with pytest.raises(DamagedClip, match="No such file"):
        clips.piece(0, 0, 2)
    (folder / "audio-00000.npy").write_bytes((folder / "away.npy").read_bytes()[:300])
    with pytest.raises(DamagedClip, match="cut short"):
        clips.piece(0, 5, 9)


def test_verification_counts_to_the_end(folder):
    calls = []
    verify(folder, progress=lambda *done: calls.append(done))
    assert calls == [(i, 5) for i in range(6)]

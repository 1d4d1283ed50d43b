"""Crops: frames and samples of one place, drawn as said, the same again after a resumption."""

import pickle
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from wavestill.audio.clip_table import ClipEntry, ClipTable
from wavestill.audio.corpus import Clips
from wavestill.audio.crops import Crops
from wavestill.audio.mel import MelSpec
from wavestill.audio.shards import DamagedClip, Shards
from wavestill.audio.writing import ShardWriter

SPEC = MelSpec(8000, 64, 4, 64, 8, 0.0, 4000.0)
LENGTHS = (10, 30, 3, 60)
FIRST = np.cumsum(LENGTHS) - LENGTHS


def clips_in(folder, speakers="ba", shard_bytes=1 << 20) -> Clips:
    """Clips in which every sample and frame says where it is."""
    writer = ShardWriter(folder, SPEC, shard_bytes)
    places, entries = writer.places(LENGTHS), []
    for i, (first, num, at) in enumerate(zip(FIRST.tolist(), LENGTHS, places, strict=True)):
        frames = np.repeat(np.arange(first, first + num, dtype=np.float32)[:, None], 8, 1)
        sums = writer.add(np.arange(first * 4, (first + num) * 4, dtype=np.int16), frames)
        who = speakers[i % 2] if speakers else None
        facts = (str(i), "train", None, who, f"{i}.wav", *at, num, 0.0, (), *sums[:2])
        entries.append(ClipEntry(*facts))
    writer.close_shard()
    table = ClipTable.of(entries)
    return Clips(SPEC, table, table.rows_of("train"), Shards(folder, writer.shards, 4, 8))


@pytest.fixture
def clips(tmp_path) -> Clips:
    return clips_in(tmp_path)


def place(first_frame: float) -> int:
    return int(np.searchsorted(FIRST, first_frame, "right")) - 1


def test_samples_frames_and_speaker_are_of_the_same_place_within_one_clip(clips):
    crops = Crops(clips, clip_frames=5, batch_size=64, seed=3)
    batch = crops.batch(0)
    assert batch.x.shape == (64, 20)
    assert batch.x.dtype == batch.context.frames.dtype == torch.float32
    assert batch.context.frames.shape == (64, 5, 8)
    assert batch.context.speaker.dtype == torch.long
    for x, frames, speaker in zip(batch.x, *batch.context, strict=True):
        first = int(frames[0, 0])
        assert frames[:, 0].tolist() == list(range(first, first + 5))
        assert (x * 32768).tolist() == list(range(first * 4, first * 4 + 20))
        clip = place(first)
        assert place(first + 4) == clip
        assert speaker == clips.speaker(clip)


def test_clips_are_drawn_by_length_and_places_uniformly(clips):
    crops = Crops(clips, clip_frames=10, batch_size=4_000)
    first = crops.batch(0).context.frames[:, 0, 0].numpy()
    clip = np.array([place(f) for f in first])
    counts = np.bincount(clip, minlength=4)
    share = np.array([10, 30, 0, 60]) / 100
    assert counts[2] == 0  # shorter than a crop
    assert crops.num_too_short == 1
    np.testing.assert_allclose(counts / 4_000, share, atol=5 * np.sqrt(0.25 / 4_000))
    starts = first[clip == 3] - FIRST[3]
    assert (starts.min(), starts.max()) == (0, 50)  # both ends included
    expected = len(starts) / 51
    np.testing.assert_allclose(
        np.bincount(starts.astype(int)), expected, atol=5 * np.sqrt(expected)
    )


def test_a_resumed_stream_is_the_uninterrupted_one(clips):
    options = {"clip_frames": 5, "batch_size": 3, "seed": 7}
    whole = list(islice(Crops(clips, **options), 8))
    resumed = list(islice(Crops(clips, **options, start_step=5), 3))
    for before, after in zip(whole[5:], resumed, strict=True):
        assert torch.equal(before.x, after.x)
        assert torch.equal(before.context.frames, after.context.frames)
    assert not torch.equal(whole[0].x, whole[1].x)
    other_seed = Crops(clips, **{**options, "seed": 8}).batch(0)
    assert not torch.equal(whole[0].x, other_seed.x)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_gives_the_batches_in_order(clips, num_workers):
    crops = Crops(clips, clip_frames=5, batch_size=3, start_step=2)
    loader = DataLoader(crops, batch_size=None, num_workers=num_workers)
    for step, batch in zip(range(2, 7), loader, strict=False):
        assert torch.equal(batch.x, crops.batch(step).x)
        assert torch.equal(batch.context.frames, crops.batch(step).context.frames)


def test_without_speakers_the_context_has_none(tmp_path):
    nameless = clips_in(tmp_path, speakers="")
    assert Crops(nameless, clip_frames=5, batch_size=2).batch(0).context.speaker is None


def test_some_rows_are_those_of_the_whole_batch(clips):
    crops = Crops(clips, clip_frames=5, batch_size=6, seed=1)
    whole = crops.batch(4)
    for rows in (slice(0, 3), slice(3, 6), slice(2, None, 2)):
        part = crops.batch(4, rows)
        assert torch.equal(part.x, whole.x[rows])
        assert torch.equal(part.context.frames, whole.context.frames[rows])
        assert torch.equal(part.context.speaker, whole.context.speaker[rows])


def test_where_shards_end_makes_no_difference(tmp_path, clips):
    (tmp_path / "small").mkdir()
    small = clips_in(tmp_path / "small", shard_bytes=40 * 40)
    assert {entry.shard for entry in small.entries} == {0, 1, 2}
    for step in range(3):
        drawn = [Crops(c, clip_frames=5, batch_size=9, seed=2).batch(step) for c in (clips, small)]
        assert torch.equal(drawn[0].x, drawn[1].x)
        assert torch.equal(drawn[0].context.frames, drawn[1].context.frames)


def spoil(clips: Clips, clip: int) -> None:
    """One bit of one sample of one clip."""
    path = clips._shards.folder / "audio-00000.npy"
    content = bytearray(path.read_bytes())
    content[128 + 8 * int(FIRST[clip]) + 5] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_damaged_clip_is_replaced_and_named_and_moves_no_other(tmp_path, num_workers):
    sound = Crops(clips_in(tmp_path), clip_frames=5, batch_size=8, seed=5)
    whole = [sound.batch(step) for step in range(4)]
    spoil(sound.clips, 3)
    options = {"clip_frames": 5, "batch_size": 8, "seed": 5}
    with pytest.raises(DamagedClip, match=r"audio-00000\.npy: clip '3': its checksum"):
        list(islice(Crops(clips_in_again(tmp_path), **options), 4))
    crops = Crops(clips_in_again(tmp_path), **options, damaged="skip")
    loader = DataLoader(crops, batch_size=None, num_workers=num_workers)
    replaced = 0
    for step, (before, after) in enumerate(zip(whole, loader, strict=False)):
        hit = np.array([place(f) == 3 for f in before.context.frames[:, 0, 0].tolist()])
        assert torch.equal(before.x[~hit], after.x[~hit])
        assert all(place(f) != 3 for f in after.context.frames[:, 0, 0].tolist())
        assert {error.id for error in after.damaged} <= {"3"}
        assert len(after.damaged) >= hit.sum()
        replaced += int(hit.sum())
        again = Crops(clips_in_again(tmp_path), **options, damaged="skip").batch(step)
        assert torch.equal(again.x, after.x)  # as after a resumption
    assert replaced > 4


def clips_in_again(folder) -> Clips:
    """The same clips as another process opens them: nothing is known to be whole."""
    other = folder / "other"
    other.mkdir(exist_ok=True)
    fresh = clips_in(other)
    fresh._shards = Shards(folder, fresh._shards.shards, 4, 8)
    return fresh


def test_a_corpus_all_damaged_is_given_up(tmp_path):
    clips = clips_in(tmp_path)
    (tmp_path / "frames-00000.npy").unlink()
    with pytest.raises(DamagedClip, match=r"frames-00000\.npy: clip '\d': No such file") as caught:
        Crops(clips, clip_frames=5, batch_size=2, damaged="skip").batch(0)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.path, copy.id) == (
        str(caught.value),
        caught.value.path,
        caught.value.id,
    )


def test_crops_that_fit_nowhere_are_refused(clips):
    with pytest.raises(ValueError, match="'clip_frames' is 61 but the longest clip has 60"):
        Crops(clips, clip_frames=61, batch_size=1)
    with pytest.raises(ValueError, match="at least 1"):
        Crops(clips, clip_frames=5, batch_size=0)
    table = ClipTable.of(list(clips.entries))
    empty = Clips(SPEC, table, table.rows_of("test"), clips._shards)
    with pytest.raises(ValueError, match="no clips"):
        Crops(empty, clip_frames=5, batch_size=1)

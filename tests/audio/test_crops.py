"""Crops: frames and samples of one place, drawn as said, the same again after a resumption."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from wavestill.audio.corpus import ClipEntry, Clips
from wavestill.audio.crops import Crops
from wavestill.audio.mel import MelSpec

SPEC = MelSpec(8000, 64, 4, 64, 8, 0.0, 4000.0)
LENGTHS = (10, 30, 3, 60)


@pytest.fixture
def clips() -> Clips:
    """Clips in which every sample and frame says where it is."""
    total = sum(LENGTHS)
    entries = tuple(
        ClipEntry(str(i), "train", None, "ba"[i % 2], f"{i}.wav", 0, num, 0.0, ())
        for i, num in enumerate(LENGTHS)
    )
    frames = np.repeat(np.arange(total, dtype=np.float32)[:, None], SPEC.num_features, 1)
    audio = np.arange(total * SPEC.hop_samples, dtype=np.int16)
    return Clips(SPEC, entries, audio, frames, ("a", "b"))


def place(clips: Clips, first_frame: float) -> int:
    return int(np.searchsorted(clips.first_frame, first_frame, "right")) - 1


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
        clip = place(clips, first)
        assert place(clips, first + 4) == clip
        assert speaker == clips.speaker(clip)


def test_clips_are_drawn_by_length_and_places_uniformly(clips):
    crops = Crops(clips, clip_frames=10, batch_size=20_000)
    first = crops.batch(0).context.frames[:, 0, 0].numpy()
    clip = np.array([place(clips, f) for f in first])
    counts = np.bincount(clip, minlength=4)
    share = np.array([10, 30, 0, 60]) / 100
    assert counts[2] == 0  # shorter than a crop
    assert crops.num_too_short == 1
    np.testing.assert_allclose(counts / 20_000, share, atol=5 * np.sqrt(0.25 / 20_000))
    starts = first[clip == 3] - clips.first_frame[3]
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


def test_without_speakers_the_context_has_none(clips):
    entries = tuple(
        ClipEntry(e.id, "train", None, None, e.source, 0, e.num_frames, 0.0, ())
        for e in clips.entries
    )
    nameless = Clips(SPEC, entries, clips.audio, clips.frames, ())
    assert Crops(nameless, clip_frames=5, batch_size=2).batch(0).context.speaker is None


def test_crops_that_fit_nowhere_are_refused(clips):
    with pytest.raises(ValueError, match="'clip_frames' is 61 but the longest clip has 60"):
        Crops(clips, clip_frames=61, batch_size=1)
    with pytest.raises(ValueError, match="at least 1"):
        Crops(clips, clip_frames=5, batch_size=0)
    empty = Clips(SPEC, (), clips.audio[:0], clips.frames[:0], ())
    with pytest.raises(ValueError, match="no clips"):
        Crops(empty, clip_frames=5, batch_size=1)

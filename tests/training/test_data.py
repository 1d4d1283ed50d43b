"""What a run is fed: crops as long as asked for, or a refusal in the settings' words."""

import copy

import pytest
import torch

import wavestill
from wavestill.training.data import CorpusSource, TensorSource, rows_of


def test_crops_longer_than_the_recordings_are_refused_by_the_settings_name(corpus, tiny_voice):
    teacher = copy.deepcopy(tiny_voice.teacher)
    with pytest.raises(
        ValueError, match="'clip_samples' is 5000 but the longest clip to train on"
    ):
        wavestill.fit(teacher, corpus, clip_samples=5000, max_steps=1)


def test_held_out_clips_may_be_shorter_than_the_crops(corpus):
    source = CorpusSource(corpus, "valid", batch_size=2, clip_samples=5000, seed=0)
    x = source.batch(0).x
    assert x.shape == (2, source.clip_samples)
    assert source.clip_samples == 4000


def test_clips_no_longer_than_what_is_left_out_are_not_validated_on(tiny_voice, corpus):
    data = torch.randn(4, 400)
    model = wavestill.WaveNet(wavestill.WaveNetConfig(layers=2, head="gaussian"))
    settings = {"max_steps": 1, "clip_samples": 200, "skip_samples": 100, "log_every_steps": 1}
    _, with_validation = wavestill.fit(model, data, validation=torch.randn(2, 150), **settings)
    _, without = wavestill.fit(model, data, validation=torch.randn(2, 90), **settings)
    assert torch.isfinite(torch.tensor(with_validation.last("valid_nats")))
    assert not torch.isfinite(torch.tensor(without.last("valid_nats")))


def test_sequences_of_frames_are_cropped_along_time():
    frames = torch.randn(6, 20, 5)
    prior = wavestill.FramePrior(wavestill.FramePriorConfig(5, pitch=False, channels=8))
    wavestill.fit(prior, frames, clip_samples=12, batch_size=3, max_steps=1)
    x = TensorSource(rows_of(frames), batch_size=3, clip_samples=12, seed=0).batch(0).x
    assert x.shape == (3, 12, 5)
    windows = frames.unfold(1, 12, 1).transpose(2, 3).reshape(-1, 12, 5)
    assert all(any(torch.equal(row, window) for window in windows) for row in x)

"""Pseudo-phones find the sounds that are there; labelled ones stand where the files say."""

import numpy as np
import pytest
import torch
from scipy.fft import dct

from wavestill.audio import Corpus
from wavestill.audio.corpus import Clip
from wavestill.audio.labelled_phones import LabelledPhones, find_labelled_phones, phones_of_frames
from wavestill.audio.labels import Label
from wavestill.audio.pseudo_phones import find_pseudo_phones, k_means, mel_cepstra


def test_mel_cepstra_are_the_cosine_transform():
    mels = torch.randn(5, 40, dtype=torch.float64)
    expected = dct(mels.numpy(), type=2, axis=1)[:, :13] / 40 / 2
    np.testing.assert_allclose(mel_cepstra(mels).numpy(), expected, atol=1e-12)


def test_k_means_finds_separate_clusters_and_is_a_fixed_point():
    generator = torch.Generator().manual_seed(0)
    truth = 10 * torch.randn(6, 4, generator=generator)
    owner = torch.arange(600) % 6
    points = truth[owner] + 0.1 * torch.randn(600, 4, generator=generator)
    centres = k_means(points, 6, generator)
    distance, found = torch.cdist(truth, centres).min(1)
    assert float(distance.max()) < 0.05
    assert sorted(found.tolist()) == list(range(6))
    nearest = torch.cdist(points, centres).argmin(1)
    means = torch.stack([points[nearest == k].mean(0) for k in range(6)])
    torch.testing.assert_close(means, centres)


def test_k_means_survives_fewer_points_than_differ():
    points = torch.zeros(10, 2)
    points[5:] = 1.0
    centres = k_means(points, 4, torch.Generator().manual_seed(0))
    assert torch.isfinite(centres).all()
    assert float(torch.cdist(points, centres).min(1).values.max()) == 0


def test_pseudo_phones_are_seeded_ordered_by_level_and_tell_buzzes_apart(corpus: Corpus):
    clips = corpus.split("train")
    phones = find_pseudo_phones(clips, 8, seed=1)
    again = find_pseudo_phones(clips, 8, seed=1)
    assert torch.equal(phones.centres, again.centres)
    assert (phones.centres[:, 0].diff() >= 0).all()
    classes = [phones(clip) for clip in clips]
    for clip, labels in zip(clips, classes, strict=True):
        assert labels.shape == (len(clip.frames),)
    # a steady buzz is mostly one class, and not all buzzes are the same
    shares = [float((labels == labels.mode().values).float().mean()) for labels in classes]
    assert np.mean(shares) > 0.7
    assert len({int(labels.mode().values) for labels in classes}) > 3


def test_too_many_pseudo_phones_are_refused(corpus: Corpus):
    with pytest.raises(ValueError, match="100000 pseudo-phones cannot be made of"):
        find_pseudo_phones(corpus.split("train"), 100_000)


def test_frames_get_the_phone_under_their_centre():
    labels = [Label(0.0, 0.0149, "a"), Label(0.0151, 0.04, "b")]
    # centres at 5, 15, 25, 35 and 45 ms: the second falls between, the last after the labels
    assert phones_of_frames(labels, 5, ["a", "b"], 0.01).tolist() == [0, -1, 1, 1, -1]


def test_phones_come_from_label_files_by_the_clips_name(tmp_path):
    (tmp_path / "one.lab").write_text("0 100000 sil\n100000 400000 a\n")
    phones = find_labelled_phones(tmp_path, ["one", "two"], 100, 8000)
    assert phones == LabelledPhones(tmp_path, ("a", "sil"), 100, 8000)
    frames = np.zeros((3, 1), np.float32)
    clips = [Clip(name, None, None, np.zeros(300, np.float32), frames) for name in ("one", "two")]
    assert phones(clips[0]).tolist() == [1, 0, 0]
    assert phones(clips[1]).tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match="name 0 phones of these clips; they are looked for as"):
        find_labelled_phones(tmp_path, ["two"], 100, 8000)

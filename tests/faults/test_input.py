"""What a run is fed may break while it is fed: it is named, counted, and the run goes on."""

import json
import shutil
import threading

import numpy as np
import pytest
import torch

import wavestill
from wavestill.audio import Corpus
from wavestill.training.data import CorpusSource
from wavestill.training.feeding import Steps

SETTINGS = {
    "max_steps": 12,
    "batch_size": 4,
    "clip_samples": 800,
    "log_every_steps": 1,
    "averaging": 0.0,
}


def teacher(corpus):
    torch.manual_seed(0)
    conditioning = wavestill.nn.conditioning.ConditioningConfig(
        num_features=corpus.spec.num_features,
        hop_samples=corpus.spec.hop_samples,
        sample_rate=corpus.spec.sample_rate,
        channels=4,
    )
    return wavestill.WaveNet(
        wavestill.WaveNetConfig(
            layers=2,
            residual_channels=4,
            gate_channels=4,
            skip_channels=4,
            head="gaussian",
            conditioning=conditioning,
        )
    )


def spoilt(corpus, folder):
    """A copy of the corpus in which the middle of one training clip's samples was overwritten."""
    shutil.copytree(corpus.path, folder)
    wave = corpus.split("train")[1].wave
    needle = (wave[1000:1200] * 32768).round().astype(np.int16).tobytes()
    for path in folder.glob("*.npy"):
        content = path.read_bytes()
        if needle in content:
            path.write_bytes(content.replace(needle, bytes(len(needle))))
    return Corpus(folder)


def test_a_shard_spoilt_after_preparation_is_named_skipped_and_counted(
    corpus, tmp_path, caplog, one_thread
):
    broken = spoilt(corpus, tmp_path / "corpus")
    name = corpus.split("train").entries[1].id
    _, history = wavestill.fit(teacher(corpus), broken, out=tmp_path / "run", **SETTINGS)
    assert history.last("step") == 12
    assert history.last("damaged_clips") == 1
    assert caplog.text.count(name) == 1
    (note,) = json.loads((tmp_path / "run" / "run.json").read_text())[-1]["notes"]
    assert name in note
    assert "other crops take its place" in note


def test_what_takes_a_damaged_clips_place_depends_on_seed_and_step_alone(corpus, tmp_path):
    broken = spoilt(corpus, tmp_path / "corpus")
    whole, first, again = (
        CorpusSource(c, "train", batch_size=8, clip_samples=800, seed=0)
        for c in (corpus, broken, broken)
    )
    moved = 0
    for step in range(5):
        expected, ours = whole.batch(step).x, first.batch(step).x
        moved += int((expected != ours).any(-1).sum())
        assert torch.equal(ours, again.batch(step).x)
    assert 0 < moved < 40
    assert list(first.damaged) == [corpus.split("train").entries[1].id]


def test_a_part_of_a_batch_is_that_part(corpus):
    source = CorpusSource(corpus, "train", batch_size=6, clip_samples=800, seed=0)
    whole = source.batch(3)
    for number in range(3):
        one, other = whole.part(number, 3), source.part(3, number, 3)
        assert one.shape == other.shape == (2, 800)
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.context.frames, other.context.frames)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reader_that_dies_is_named_and_the_run_reads_for_itself(
    corpus, tmp_path, monkeypatch, caplog, one_thread
):
    wanted, _ = wavestill.fit(teacher(corpus), corpus, **SETTINGS)
    make = Steps.batch

    def dying(self, step):
        if threading.current_thread() is not threading.main_thread() and step >= 5:
            raise SystemExit  # ends a thread without a word
        return make(self, step)

    monkeypatch.setattr(Steps, "batch", dying)
    model, history = wavestill.fit(teacher(corpus), corpus, **SETTINGS)
    assert "the thread that reads batches has ended at step 5" in caplog.text
    for ours, theirs in zip(model.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert history.last("step") == 12


def test_an_error_of_reading_ends_the_run_by_its_own_name(corpus, monkeypatch):
    def failing(self, step):
        raise OSError(5, "Input/output error", "audio.npy")

    monkeypatch.setattr(CorpusSource, "batch", failing)
    with pytest.raises(OSError, match="Input/output error"):
        wavestill.fit(teacher(corpus), corpus, **SETTINGS)


def test_the_share_of_time_spent_waiting_is_measured(corpus, monkeypatch):
    make = CorpusSource.batch

    def slow(self, step):
        threading.Event().wait(0.3)
        return make(self, step)

    def shares(num_steps):
        _, history = wavestill.fit(teacher(corpus), corpus, **{**SETTINGS, "max_steps": num_steps})
        return history.column("waiting_share")

    quick = shares(4)
    monkeypatch.setattr(CorpusSource, "batch", slow)
    starved = shares(4)
    assert all(0 <= share <= 1 for share in [*quick, *starved])
    assert sum(starved) > sum(quick) + 0.4

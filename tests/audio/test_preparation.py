"""From a folder with every kind of file to a corpus, whole or not at all."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavestill.audio import preparation
from wavestill.audio.corpus import Corpus
from wavestill.audio.features import extract
from wavestill.audio.levels import rms_dbfs
from wavestill.audio.mel import MEL_PRESETS
from wavestill.audio.preparation import prepare
from wavestill.audio.splits import SPLITS

SPEC = MEL_PRESETS["wavestill_8k"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def recordings(voice, tmp_path) -> Path:
    """Six good files."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for i in range(6):
        soundfile.write(folder / f"good{i}.wav", voice(0.3 + 0.01 * i, 8000, seed=i), 8000)
    return folder


def test_every_kind_of_file_is_skipped_or_converted_and_named(voice, recordings, tmp_path):
    good = voice(0.4, 8000)
    loud_click = good.copy()
    loud_click[50] = 0.99
    with_nan = good.copy()
    with_nan[9] = np.nan
    (recordings / "empty.wav").write_bytes(b"")
    (recordings / "text.wav").write_text("no sound")
    soundfile.write(recordings / "nan.wav", with_nan, 8000, subtype="FLOAT")
    soundfile.write(recordings / "none.wav", good[:0], 8000)
    soundfile.write(recordings / "short.wav", good[:150], 8000)
    soundfile.write(recordings / "silent.wav", 0 * good, 8000)
    soundfile.write(recordings / "constant.wav", 0 * good + 0.5, 8000)
    soundfile.write(recordings / "stereo.wav", np.stack([good, good], 1), 8000)
    soundfile.write(recordings / "stereo_cancelling.wav", np.stack([good, -good], 1), 8000)
    soundfile.write(recordings / "bits8.wav", good, 8000, subtype="PCM_U8")
    soundfile.write(recordings / "bits24.wav", good, 8000, subtype="PCM_24")
    soundfile.write(recordings / "bits32.wav", good, 8000, subtype="PCM_32")
    soundfile.write(recordings / "fast.wav", voice(0.4, 22050), 22050)
    soundfile.write(recordings / "slow.wav", voice(0.4, 4000), 4000)
    soundfile.write(recordings / "click.wav", loud_click, 8000)
    soundfile.write(recordings / "over.wav", 4 * good / np.abs(good).max(), 8000, subtype="FLOAT")
    (recordings / "cut.wav").write_bytes((recordings / "good0.wav").read_bytes()[:-100])
    (recordings / "song.m4a").write_bytes(b"-")

    report = prepare(recordings, tmp_path / "out", preset="wavestill_8k")
    corpus = Corpus(tmp_path / "out")

    skipped = dict(report.skipped)
    expected = {
        "empty.wav": "empty file",
        "text.wav": "not a sound file",
        "nan.wav": "1 of 3,200 samples are not finite",
        "none.wav": "holds no samples",
        "short.wav": "too short: 0.013 s in whole frames, less than 0.026 s",
        "silent.wav": "silent",
        "constant.wav": "silent",
        "stereo_cancelling.wav": "silent",
        "cut.wav": "truncated",
        "song.m4a": "convert it",
    }
    assert skipped.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in skipped[name], name
    notes = {
        "stereo.wav": ("2 channels averaged to one",),
        "bits8.wav": ("8-bit samples: noise of 1/256 of full scale is in the recording",),
        "bits24.wav": ("24-bit samples",),
        "bits32.wav": ("32-bit samples, of which 24 are kept",),
        "fast.wav": ("resampled from 22,050 Hz",),
        "slow.wav": ("resampled from 4,000 Hz", "nothing above 2,000 Hz is in the recording"),
        "click.wav": ("below -23 dBFS RMS, since its peak is at the limit",),
        "over.wav": ("floating-point samples",),
    }
    assert report.converted == notes

    summary = str(report)
    for name in [*expected, *notes]:
        assert name in summary
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert index["report"] == {k: v for k, v in report.to_dict().items() if k != "converted"}
    noted = {e.source: e.notes for s in SPLITS for e in corpus.split(s).entries if e.notes}
    assert noted == report.converted
    clips = [clip for split in ("train", "valid", "test") for clip in corpus.split(split)]
    assert {clip.id for clip in clips} == {f"good{i}" for i in range(6)} | {
        Path(n).stem for n in notes
    }
    assert sum(report.num_clips.values()) == len(clips)
    for clip in clips:
        assert len(clip.wave) == len(clip.frames) * SPEC.hop_samples
        assert np.abs(clip.wave).max() < 0.9
        if clip.id != "click":
            assert rms_dbfs(clip.wave) == pytest.approx(-23, abs=0.01)
        np.testing.assert_array_equal(clip.frames, extract(clip.wave, SPEC))


def test_what_is_stored_is_the_recording_within_a_level_and_a_half(voice, recordings, tmp_path):
    prepare(
        recordings, tmp_path / "out", preset="wavestill_8k", valid_fraction=0.0, test_fraction=0.0
    )
    clips = Corpus(tmp_path / "out").split("train")
    assert len(clips) == 6
    for i, clip in enumerate(clips):
        original = soundfile.read(recordings / f"good{i}.wav", dtype="float32")[0][
            : len(clip.wave)
        ]
        gain = 10 ** (clips.entries[i].gain_db / 20)
        assert np.abs(clip.wave - gain * original).max() < 2 / 32768
        assert len(original) // SPEC.hop_samples == len(clip.frames)


def test_resampling_keeps_pitch_and_length(voice, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    soundfile.write(source / "a.wav", voice(1.0, 24000, f0_hz=200.0, glide=0.0), 24000)
    prepare(source, tmp_path / "out", preset="wavestill_8k", pitch=True)
    clip = Corpus(tmp_path / "out").split("train")[0]
    assert len(clip.wave) == 8000
    assert clip.frames.shape == (80, 66)
    np.testing.assert_allclose(np.exp(clip.frames[10:-10, -2]), 200.0, rtol=0.005)
    assert clip.frames[10:-10, -1].all()


def test_the_same_source_gives_the_same_bytes_and_replaces_its_corpus(recordings, tmp_path):
    out = tmp_path / "out"
    prepare(recordings, out, preset="wavestill_8k")
    before = contents(out)
    assert set(before) == {
        *("index.json", "clips.npy", "strings.npy", "audio-00000.npy", "frames-00000.npy")
    }
    prepare(recordings, out, preset="wavestill_8k")
    assert contents(out) == before
    prepare(recordings, out, preset="wavestill_8k", level_dbfs=-26.0)
    assert contents(out) != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "recordings"]


def test_a_folder_that_holds_anything_else_is_left_alone(recordings, tmp_path):
    out = tmp_path / "out"
    prepare(recordings, out, preset="wavestill_8k")
    other = tmp_path / "other"
    shutil.copytree(recordings, other)
    foreign, file = tmp_path / "foreign", tmp_path / "file"
    shutil.copytree(out, foreign)
    (foreign / "thesis.txt").write_text("years of work")
    file.write_text("a file")
    before = contents(out)
    for source, folder, options, reason in [
        (recordings, out, {"preset": "wavestill_16k"}, "sample_rate 16000 against 8000"),
        (recordings, out, {"preset": "wavestill_8k", "pitch": True}, "pitch True against False"),
        (
            other,
            out,
            {"preset": "wavestill_8k"},
            f"holds a corpus of {recordings}, not of {other}",
        ),
        (
            recordings,
            foreign,
            {"preset": "wavestill_8k"},
            "'thesis.txt', which 'prepare' did not make",
        ),
        (recordings, recordings, {"preset": "wavestill_8k"}, "did not make"),
        (recordings, file, {"preset": "wavestill_8k"}, "is a file"),
    ]:
        with pytest.raises(ValueError, match=reason) as caught:
            prepare(source, folder, **options)
        assert "choose another folder" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert contents(out) == before
    assert (foreign / "thesis.txt").exists()
    assert len(list(recordings.iterdir())) == 6


def test_an_empty_folder_may_be_filled_and_missing_parents_are_made(recordings, tmp_path):
    (tmp_path / "out").mkdir()
    prepare(recordings, tmp_path / "out", preset="wavestill_8k")
    prepare(recordings, tmp_path / "a" / "b", preset="wavestill_8k")
    assert Corpus(tmp_path / "a" / "b").seconds("train") > 0


def test_progress_counts_to_the_end(recordings, tmp_path):
    calls: list[tuple[int, int]] = []
    prepare(
        recordings,
        tmp_path / "out",
        preset="wavestill_8k",
        progress=lambda *done: calls.append(done),
    )
    assert calls == [(i, 6) for i in range(7)]


def test_metadata_splits_are_kept_and_leaks_moved_and_reported(voice, tmp_path):
    source = tmp_path / "in"
    (source / "flac").mkdir(parents=True)
    rows = [
        ("a", "train", "Ann", "One."),
        ("b", "dev", "Bob", "Two."),
        ("c", "test", "Ann", "Three."),
        ("d", "test", "Bob", "one!"),
        ("e", "holdout", "Bob", "Four."),
    ]
    for i, row in enumerate(rows):
        soundfile.write(source / "flac" / f"{row[0]}.flac", voice(0.3, 8000, seed=i), 8000)
    (source / "metadata.psv").write_text(
        "id|split|speaker|text\n" + "".join("|".join(r) + "\n" for r in rows)
    )
    report = prepare(source, tmp_path / "out", preset="wavestill_8k")
    corpus = Corpus(tmp_path / "out")
    assert [(c.id, c.speaker, c.text) for c in corpus.split("train")] == [
        ("a", 0, "One."),
        ("d", 1, "one!"),
    ]
    assert [(c.id, c.speaker) for c in corpus.split("valid")] == [("b", 1)]
    assert [(c.id, c.speaker) for c in corpus.split("test")] == [("c", 0)]
    assert corpus.speakers == ("Ann", "Bob")
    assert report.moved_to_train == ["flac/d.flac"]
    assert [tuple(s) for s in report.skipped] == [
        ("flac/e.flac", "its split 'holdout' is none of train, valid, test")
    ]
    assert "flac/d.flac" in str(report)


def test_ljspeech_takes_of_one_sentence_stay_together(voice, tmp_path):
    source = tmp_path / "in"
    (source / "wavs").mkdir(parents=True)
    lines = []
    for i in range(20):
        soundfile.write(source / "wavs" / f"{i}.wav", voice(0.2, 8000, seed=i), 8000)
        lines.append(f"{i}|x|Sentence {i % 10}.\n")
    (source / "metadata.csv").write_text("".join(lines))
    report = prepare(
        source, tmp_path / "out", preset="wavestill_8k", valid_fraction=0.2, test_fraction=0.2
    )
    assert report.num_clips == {"train": 12, "valid": 4, "test": 4}
    corpus = Corpus(tmp_path / "out")
    texts = [{clip.text for clip in corpus.split(split)} for split in ("train", "valid", "test")]
    assert not texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2]
    assert corpus.split("train").speaker(0) is None


def test_identical_files_without_texts_stay_together(recordings, tmp_path):
    for i in range(6):
        shutil.copy(recordings / f"good{i}.wav", recordings / f"copy{i}.wav")
    prepare(
        recordings, tmp_path / "out", preset="wavestill_8k", valid_fraction=0.3, test_fraction=0.3
    )
    corpus = Corpus(tmp_path / "out")
    for split in ("train", "valid", "test"):
        ids = [clip.id for clip in corpus.split(split)]
        assert {i[-1] for i in ids if i.startswith("good")} == {
            i[-1] for i in ids if i.startswith("copy")
        }
        assert ids


def test_a_file_that_may_not_be_read_is_skipped(recordings, tmp_path, monkeypatch):
    if os.geteuid() == 0:  # root may read everything
        path_open = Path.open

        def refuse(path: Path, *arguments: object, **options: object) -> object:
            if path.name == "good2.wav":
                raise PermissionError(13, "Permission denied", str(path))
            return path_open(path, *arguments, **options)

        monkeypatch.setattr(Path, "open", refuse)
    else:
        (recordings / "good2.wav").chmod(0)
    report = prepare(recordings, tmp_path / "out", preset="wavestill_8k")
    assert [tuple(s) for s in report.skipped] == [("good2.wav", "Permission denied")]
    assert sum(report.num_clips.values()) == 5


def test_users_mistakes_are_refused_in_one_line_before_any_work(recordings, tmp_path):
    own = replace(SPEC, num_mels=20)
    for options, reason in [
        ({"preset": "44k"}, "no mel preset '44k'; there are hifigan_22k"),
        ({"preset": "wavestill_8k", "spec": own}, "not both"),
        ({"level_dbfs": 3.0}, "'level_dbfs' is 3.0"),
        ({"valid_fraction": 0.7, "test_fraction": 0.3}, "sum below 1"),
        ({"valid_fraction": -0.1}, "negative"),
        ({"workers": 0}, "'workers' is 0"),
        ({"shard_mib": 0}, "'shard_mib' 0"),
    ]:
        with pytest.raises(ValueError, match=reason) as caught:
            prepare(recordings, tmp_path / "out", **options)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert prepare(recordings, tmp_path / "own", spec=own).spec == own


def test_a_source_without_one_usable_file_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"none of its 1 recordings can be used; the first: a\.wav: empty"
    ):
        prepare(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_report_names_the_pitch_estimator(recordings, tmp_path):
    report = prepare(recordings, tmp_path / "out", preset="wavestill_8k", pitch=True)
    assert report.pitch_estimator == preparation.pitch_estimator()
    assert report.pitch_estimator in str(report)
    assert report.elapsed_s is not None


KATHLEEN = Path("/work/shared/data/kathleen_24k")


@pytest.mark.slow
@pytest.mark.skipif(not KATHLEEN.is_dir(), reason="the development corpus is not here")
def test_held_out_clips_of_the_development_corpus(tmp_path):
    header, *rows = (KATHLEEN / "metadata.psv").read_text().splitlines()
    rows = [row for row in rows if row.split("|")[1] != "train"]
    (tmp_path / "in" / "flac").mkdir(parents=True)
    (tmp_path / "in" / "metadata.psv").write_text("\n".join([header, *rows]))
    for row in rows:
        name = f"flac/{row.split('|')[0]}.flac"
        (tmp_path / "in" / name).symlink_to(KATHLEEN / name)
    report = prepare(tmp_path / "in", tmp_path / "out", preset="wavestill_16k", pitch=True)
    assert report.num_clips == {"train": 0, "valid": 71, "test": 60}
    assert report.skipped == []
    assert report.moved_to_train == []
    frames = Corpus(tmp_path / "out").split("valid").frames
    assert 140 < np.exp(np.median(frames[:, -2][frames[:, -1] > 0])) < 180  # 157 Hz

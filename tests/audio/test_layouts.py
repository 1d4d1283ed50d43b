"""Layouts with metadata and plain folders, and what in them is named as skipped."""

from pathlib import Path

import pytest

from wavestill.audio.layouts import find_recordings


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"-")


def test_a_plain_folder_is_searched_to_its_depth(tmp_path):
    touch(tmp_path, "b.WAV", "a/x.flac", "a/b/y.ogg", "z.mp3", "b.flac", "notes.txt", "song.m4a")
    (tmp_path / "folder.wav").mkdir()
    layout = find_recordings(tmp_path)
    assert layout.name == "folder"
    assert [r.id for r in layout.recordings] == ["a/b/y", "a/x", "b", "b.flac", "z"]
    assert all(r.text is None and r.split is None and r.speaker is None for r in layout.recordings)
    assert [s.source for s in layout.skipped] == ["song.m4a"]
    assert "convert it" in layout.skipped[0].reason


def test_ljspeech(tmp_path):
    touch(tmp_path, "wavs/one.wav", "wavs/two.wav", "wavs/extra.wav", "wavs/odd.wav")
    (tmp_path / "metadata.csv").write_text(
        'one|Dr. A said "no".|Doctor A said "no".\r\ntwo|2|\nthree|Gone.|Gone.\n'
        "odd\n\none|Again.|Again.\n"
    )
    layout = find_recordings(tmp_path)
    assert layout.name == "ljspeech"
    assert [(r.id, r.text) for r in layout.recordings] == [
        ("one", 'Doctor A said "no".'),
        ("two", "2"),
    ]
    assert [tuple(s) for s in layout.skipped] == [
        ("metadata.csv line 4", "has 1 cells; LJSpeech's have 3 (id|text|normalised text)"),
        ("metadata.csv line 3", "no sound file of id three is there"),
        ("metadata.csv line 6", "a second row of id one"),
        ("wavs/extra.wav", "not listed in metadata.csv"),
        ("wavs/odd.wav", "not listed in metadata.csv"),
    ]


def test_metadata_psv(tmp_path):
    touch(tmp_path, "flac/a.flac", "flac/b.flac", "wavs/c.wav", "extra.wav")
    (tmp_path / "metadata.psv").write_text(
        "\ufeffid|split|speaker|seconds|text\na|test|Ann|1.0|Yes.\nb||Bob|2.0|No.\nc|train||2.0|\n|train|Bob|1|x\nd|train|x\n"
    )
    layout = find_recordings(tmp_path)
    assert layout.name == "metadata.psv"
    assert [tuple(r[:5]) for r in layout.recordings] == [
        ("a", tmp_path / "flac/a.flac", "Yes.", "test", "Ann"),
        ("b", tmp_path / "flac/b.flac", "No.", "train", "Bob"),
        ("c", tmp_path / "wavs/c.wav", None, "train", "unnamed"),
    ]
    assert [s.source for s in layout.skipped] == [
        "metadata.psv line 6",
        "metadata.psv line 5",
        "extra.wav",
    ]


def test_a_psv_without_splits_and_speakers_says_nothing_of_them(tmp_path):
    touch(tmp_path, "a.wav")
    (tmp_path / "metadata.psv").write_text("text|id\nYes.|a\n")
    recording = find_recordings(tmp_path).recordings[0]
    assert (recording.text, recording.split, recording.speaker) == ("Yes.", None, None)


LABELS = {
    "beside": ("a/x.wav", "a/x.lab"),
    "parallel, in the same folders": ("a/x.wav", "lab/a/x.lab"),
    "parallel, without the first folder": ("wav48/p1/x.wav", "labels/p1/x.lab"),
    "all in one folder": ("a/b/x.wav", "TextGrid/x.TextGrid"),
}


@pytest.mark.parametrize(("sound", "labels"), LABELS.values(), ids=LABELS)
def test_label_files_are_found(tmp_path, sound, labels):
    touch(tmp_path, sound, labels, "z/y.wav", "a/other.lab", "lab/q/x.lab")
    found = {r.path.stem: r.labels for r in find_recordings(tmp_path).recordings}
    assert found == {"x": tmp_path / labels, "y": None}


def test_what_is_no_corpus_is_refused_in_one_line(tmp_path):
    touch(
        tmp_path, "file", "text/a.txt", "latin/a.wav", "headless/a.wav", "gone/x.txt", "none/a.m4a"
    )
    (tmp_path / "latin/metadata.psv").write_bytes(b"id|text\na|caf\xe9\n")
    (tmp_path / "headless/metadata.psv").write_text("a|Yes.\n")
    (tmp_path / "gone/metadata.psv").write_text("id|text\nb|Yes.\n")
    (tmp_path / "empty").mkdir()
    for name, reason in {
        "absent": "no such folder",
        "file": "not a folder",
        "empty": "holds no recordings",
        "text": "holds no recordings",
        "latin": "not UTF-8 at byte 13",
        "headless": "'id' among them",
        "gone": "1 skipped; the first: metadata.psv line 2: no sound file of id b",
        "none": "a.m4a: .m4a is not read",
    }.items():
        with pytest.raises(ValueError, match=reason) as caught:
            find_recordings(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_an_id_that_leads_out_of_the_folder_is_named_and_skipped(tmp_path):
    touch(tmp_path, "corpus/wavs/one.wav", "secret.wav")
    (tmp_path / "corpus" / "metadata.csv").write_text("one|One.|One.\n../../secret|Two.|Two.\n")
    layout = find_recordings(tmp_path / "corpus")
    assert [r.id for r in layout.recordings] == ["one"]
    assert ("metadata.csv line 2", "its id ../../secret leads out of the folder") in [
        tuple(s) for s in layout.skipped
    ]

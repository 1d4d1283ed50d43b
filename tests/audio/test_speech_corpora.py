"""VCTK and LibriTTS as they are published, with what is odd in them."""

from pathlib import Path

import pytest

from wavestill.audio.layouts import find_recordings


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"-")


def write(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def vctk(tmp_path) -> Path:
    """Two microphones; p280 without the second, p315 without it and without texts; s5."""
    for utterance in ("p225/p225_001", "p225/p225_003", "s5/s5_001"):
        touch(tmp_path, *(f"wav48_silence_trimmed/{utterance}_mic{n}.flac" for n in (1, 2)))
    touch(tmp_path, "wav48_silence_trimmed/p280/p280_001_mic1.flac")
    for number in ("001", "002"):
        touch(tmp_path, f"wav48_silence_trimmed/p315/p315_{number}_mic1.flac")
    write(
        tmp_path,
        {
            "txt/p225/p225_001.txt": "Please call Stella.\n",
            "txt/p225/p225_003.txt": "Six spoons.\n",
            "txt/s5/s5_001.txt": "Please call Stella.\n",
            "txt/p280/p280_001.txt": "\ufeffPlease call\nStella.  ",
            "speaker-info.txt": "ID  AGE\np225 23\n",
            "log.txt": "-",
        },
    )
    return tmp_path


def test_vctk(vctk):
    layout = find_recordings(vctk)
    assert layout.name == "vctk"
    assert [(r.id, r.speaker, r.text, r.split) for r in layout.recordings] == [
        ("p225_001", "p225", "Please call Stella.", None),
        ("p225_003", "p225", "Six spoons.", None),
        ("p280_001", "p280", "Please call Stella.", None),
        ("p315_001", "p315", None, None),
        ("p315_002", "p315", None, None),
        ("s5_001", "s5", "Please call Stella.", None),
    ]
    assert all("mic2" not in r.path.name for r in layout.recordings)
    assert [tuple(s) for s in layout.skipped] == [
        (
            "wav48_silence_trimmed/*_mic2",
            "3 takes by the second microphone, of recordings that are used",
        )
    ]
    assert layout.notes == ("p315: 2 recordings without a text, each a prompt of its own",)


def test_vctks_oddities_are_named(vctk):
    folder = "wav48_silence_trimmed/p225"
    touch(vctk, f"{folder}/p225_004_mic2.flac", f"{folder}/p226_001_mic1.flac")
    touch(vctk, f"{folder}/p225_001_mic1.wav", f"{folder}/noise.wav", f"{folder}/x.txt")
    skipped = dict(find_recordings(vctk).skipped)
    assert skipped[f"{folder}/p225_004_mic2.flac"].startswith("only the second microphone")
    assert skipped[f"{folder}/p225_001_mic1.wav"] == "a second recording of id p225_001"
    for name in ("p226_001_mic1.flac", "noise.wav"):
        assert "not named as VCTK" in skipped[f"{folder}/{name}"]
    assert len(skipped) == 5


def test_vctk_080_has_one_microphone_and_labels_by_id(tmp_path):
    touch(tmp_path, "wav48/p225/p225_001.wav", "wav48/p225/p225_002.wav", "lab/p225/p225_001.lab")
    write(tmp_path, {"txt/p225/p225_001.txt": "Yes."})
    first, second = find_recordings(tmp_path).recordings
    assert (first.id, first.text) == ("p225_001", "Yes.")
    assert first.labels == tmp_path / "lab/p225/p225_001.lab"
    assert (second.text, second.labels) == (None, None)


def test_labels_of_vctk_092_are_named_without_the_microphone(vctk):
    touch(vctk, "lab/p225/p225_003.lab")
    labels = {r.id: r.labels for r in find_recordings(vctk).recordings if r.labels}
    assert labels == {"p225_003": vctk / "lab/p225/p225_003.lab"}


def test_a_folder_that_only_looks_like_vctk_is_a_folder(tmp_path):
    touch(tmp_path, "wav48/mine.wav")
    assert find_recordings(tmp_path).name == "folder"


@pytest.fixture
def libritts(tmp_path) -> Path:
    """Three subsets, one clip each, and a text that is missing."""
    for subset, speaker in (("train-clean-100", 103), ("dev-clean", 84), ("test-other", 1688)):
        stem = f"{subset}/{speaker}/7/{speaker}_7_000000_000001"
        touch(tmp_path, f"{stem}.wav")
        write(
            tmp_path,
            {f"{stem}.normalized.txt": f"Said by {speaker}.", f"{stem}.original.txt": "x"},
        )
    touch(tmp_path, "train-clean-100/103/7/103_7_000000_000002.wav", "LICENSE.txt", "x.wav")
    return tmp_path


def test_libritts(libritts):
    layout = find_recordings(libritts)
    assert layout.name == "libritts"
    assert [(r.id, r.split, r.speaker, r.text) for r in layout.recordings] == [
        ("84_7_000000_000001", "dev", "84", "Said by 84."),
        ("1688_7_000000_000001", "test", "1688", "Said by 1688."),
        ("103_7_000000_000001", "train", "103", "Said by 103."),
        ("103_7_000000_000002", "train", "103", None),
    ]
    assert layout.notes == ("103: 1 recordings without a text, each a prompt of its own",)


def test_subsets_of_one_kind_say_nothing_of_splits(libritts):
    for source in (libritts / "train-clean-100", libritts / "dev-clean"):
        layout = find_recordings(source)
        assert layout.name == "libritts"
        assert {r.split for r in layout.recordings} == {None}

"""A preparation that is interrupted goes on, and ends in the bytes of one that was not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavestill.audio.corpus import Corpus
from wavestill.audio.preparation import prepare
from wavestill.audio.splits import SPLITS

NUM = 12
SHARD_MIB = 1  # of 12 clips of 5 s at 8 kHz, about 180 kB each: three shards


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def source(voice, tmp_path_factory) -> Path:
    """Recordings of some seconds, one of which cannot be used."""
    folder = tmp_path_factory.mktemp("recordings")
    for i in range(NUM):
        soundfile.write(folder / f"{i:02}.wav", voice(5 + 0.1 * i, 8000, seed=i), 8000)
    (folder / "04.wav").write_bytes(b"not a sound")
    return folder


@pytest.fixture(scope="module")
def uninterrupted(source, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    prepare(source, out, preset="wavestill_8k", shard_mib=SHARD_MIB)
    assert sorted(p.name for p in out.glob("audio-*")) == [f"audio-0000{n}.npy" for n in range(3)]
    return contents(out)


def interrupted(source: Path, out: Path, at: int, **options: object) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go_on(source, out, progress=interrupt, **options)


def go_on(source: Path, out: Path, **options: object):
    options = {"preset": "wavestill_8k", "shard_mib": SHARD_MIB, **options}
    return prepare(source, out, **options)


def beside(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir())


@pytest.mark.parametrize("at", [0, 5, 11, 12])
def test_it_goes_on_and_gives_the_same_bytes(source, uninterrupted, tmp_path, at):
    out = tmp_path / "out"
    interrupted(source, out, at)
    assert beside(out) == ["out.partial"]
    calls = []
    report = go_on(source, out, progress=lambda *done: calls.append(done))
    assert calls == [(i, NUM) for i in range(at, NUM + 1)]
    assert contents(out) == uninterrupted
    assert beside(out) == ["out"]
    assert [s.source for s in report.skipped] == ["04.wav"]


def test_shards_are_bounded_and_hold_every_clip(uninterrupted, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name, content in uninterrupted.items():
        (out / name).write_bytes(content)
    for number in range(3):
        sizes = [len(uninterrupted[f"{kind}-0000{number}.npy"]) for kind in ("audio", "frames")]
        assert 0.4 < (sum(sizes) - 256) / (SHARD_MIB << 20) <= 1
    corpus = Corpus(out)
    assert sum(len(corpus.split(split)) for split in SPLITS) == NUM - 1
    assert {entry.shard for split in SPLITS for entry in corpus.split(split).entries} == {0, 1, 2}


def test_a_clip_longer_than_a_shard_has_one_to_itself(voice, tmp_path):
    (tmp_path / "in").mkdir()
    for name, seconds in {"a": 1, "b": 40, "c": 1}.items():
        soundfile.write(tmp_path / "in" / f"{name}.wav", voice(seconds, 8000), 8000)
    go_on(tmp_path / "in", tmp_path / "out")
    clips = [c for s in SPLITS for c in Corpus(tmp_path / "out").split(s).entries]
    assert {clip.id: clip.shard for clip in clips} == {"a": 0, "b": 1, "c": 2}


DAMAGE = {
    "the journal cut within a line": lambda f: cut(f / "journal.jsonl", 30),
    "the journal scrambled": lambda f: scramble(f / "journal.jsonl", -500),
    "the last clip not on the disk": lambda f: cut(f / "audio-00001.npy", 100),
    "zeros for the last clip": lambda f: zeros(f / "frames-00001.npy"),
    "a closed shard cut": lambda f: cut(f / "frames-00000.npy", 1),
    "a closed shard gone": lambda f: (f / "audio-00000.npy").unlink(),
    "a shard beyond the journal": lambda f: (f / "audio-00007.npy").write_bytes(b"x"),
    "more than the journal knows": lambda f: append(f / "audio-00001.npy"),
    "no journal lines": lambda f: (f / "journal.jsonl").write_bytes(b""),
}


def cut(path: Path, num_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:-num_bytes])


def scramble(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x80
    path.write_bytes(content)


def zeros(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-5000] + bytes(5000))


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"half a clip")


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_a_loss_of_power_leaves_is_mended(source, uninterrupted, tmp_path, damage):
    out = tmp_path / "out"
    interrupted(source, out, 9)
    damage(tmp_path / "out.partial")
    go_on(source, out)
    assert contents(out) == uninterrupted


def test_interrupted_twice_it_loses_nothing_twice(source, uninterrupted, tmp_path):
    out = tmp_path / "out"
    interrupted(source, out, 3)
    cut(tmp_path / "out.partial" / "journal.jsonl", 30)  # the third line
    interrupted(source, out, 9)
    calls = []
    go_on(source, out, progress=lambda *done: calls.append(done[0]))
    assert calls[0] == 9
    assert contents(out) == uninterrupted


def test_a_recording_that_changed_since_is_treated_anew(source, tmp_path):
    own, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(source, own)
    interrupted(own, out, 9)
    shutil.copy(own / "01.wav", own / "04.wav")
    calls = []
    go_on(own, out, progress=lambda *done: calls.append(done[0]))
    assert calls[0] == 4
    go_on(own, tmp_path / "anew")
    assert contents(out) == contents(tmp_path / "anew")


def test_the_old_corpus_stays_until_the_new_one_is_whole(source, uninterrupted, tmp_path):
    out = tmp_path / "out"
    go_on(source, out, level_dbfs=-26.0)
    before = contents(out)
    interrupted(source, out, 9)
    assert contents(out) == before
    go_on(source, out)
    assert contents(out) == uninterrupted
    assert beside(out) == ["out"]


def test_other_settings_are_refused_with_both_values(source, tmp_path):
    out = tmp_path / "out"
    interrupted(source, out, 3)
    before = contents(tmp_path / "out.partial")
    for change, reason in {
        "level_dbfs": (-26.0, "level_dbfs -23.0, now -26.0"),
        "seed": (1, "seed 0, now 1"),
        "shard_mib": (2, "shard_mib 1, now 2"),
        "preset": ("wavestill_16k", r"spec \{.*8000.*, now .*16000"),
        "pitch": (True, "pitch_estimator None, now"),
    }.items():
        with pytest.raises(ValueError, match=reason[1]) as caught:
            go_on(source, out, **{change: reason[0]})
        assert "out.partial" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert contents(tmp_path / "out.partial") == before
    go_on(source, out, valid_fraction=0.2)  # decided at the end, so it may change


def test_a_folder_of_that_name_that_is_not_ours_is_left_alone(source, tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"out\.partial: holds something that 'prepare' did not"):
        go_on(source, tmp_path / "out")
    assert beside(tmp_path / "out") == ["out.partial"]
    assert contents(tmp_path / "out.partial") == {"thesis.txt": b"years of work"}


def test_settings_that_cannot_be_read_are_refused(source, tmp_path):
    interrupted(source, tmp_path / "out", 3)
    (tmp_path / "out.partial" / "settings.json").write_text("{")
    with pytest.raises(ValueError, match=r"settings\.json: damaged .*; remove .*out\.partial"):
        go_on(source, tmp_path / "out")


SCRIPT = """
    import sys
    from wavestill.audio import prepare

    if __name__ == "__main__":
        print("ready", flush=True)
        prepare(
            sys.argv[1],
            sys.argv[2],
            preset="wavestill_8k",
            shard_mib=1,
            workers=int(sys.argv[3]),
            progress=lambda done, total: print(done, flush=True),
        )
"""


def run(script: Path, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )


def descendants(pid: int) -> set[int]:
    children = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        children |= {int(child) for child in task.read_text().split()}
    return children | {below for child in children for below in descendants(child)}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
@pytest.mark.parametrize("num_workers", [1, 2])
def test_killed_and_called_again(source, uninterrupted, tmp_path, num_workers):
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(textwrap.dedent(SCRIPT))
    process = run(script, source, out, num_workers)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "5":
            break
    with pytest.raises(ValueError, match="another 'prepare' is making this corpus now"):
        go_on(source, out)
    below = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    end = time.monotonic() + 10
    while (alive := {pid for pid in below if Path(f"/proc/{pid}/cmdline").exists()}) and (
        time.monotonic() < end
    ):
        time.sleep(0.05)
    assert not alive, "workers outlive the process that started them"
    lines = (tmp_path / "out.partial" / "journal.jsonl").read_text().splitlines()
    assert 5 <= len(lines) < NUM + 1
    assert not out.exists()
    go_on(source, out)
    assert contents(out) == uninterrupted
    assert np.load(out / "audio-00002.npy", mmap_mode="r").dtype == np.int16
    assert json.loads((out / "index.json").read_text())["format_version"] == 2

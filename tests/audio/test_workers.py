"""Several processes: the same outcomes in the same order, and a killed one costs one recording."""

import os
import textwrap
import time
from pathlib import Path

import pytest
import soundfile

from wavestill.audio import preparation
from wavestill.audio.corpus import Corpus
from wavestill.audio.mel import MEL_PRESETS
from wavestill.audio.preparation import prepare
from wavestill.audio.recordings import Recording
from wavestill.audio.splits import SPLITS
from wavestill.audio.treatment import Treatment
from wavestill.audio.workers import suitable_workers, treat_in_order


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def source(voice, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for i in range(9):
        soundfile.write(folder / f"{i}.wav", voice(0.3 + 0.4 * (i % 3), 16000, seed=i), 16000)
    (folder / "4.wav").write_bytes(b"not a sound")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [2, 3])
def test_any_number_of_workers_gives_the_same_bytes(source, tmp_path, num_workers):
    calls = []
    options = {"preset": "wavestill_8k", "pitch": True}
    one = prepare(source, tmp_path / "one", **options)
    many = prepare(
        source,
        tmp_path / "many",
        **options,
        workers=num_workers,
        progress=lambda *done: calls.append(done),
    )
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert many.to_dict() == one.to_dict()
    assert calls == [(i, 9) for i in range(10)]


DEADLY = """
    import os, signal, sys, threading, time
    from dataclasses import dataclass
    from pathlib import Path

    from wavestill.audio.treatment import Treatment


    @dataclass(frozen=True)
    class Deadly(Treatment):
        '''Is killed over 3 the first time, over 6 always, and soon after 7 is done; 0 is slow.'''

        def __call__(self, recording):
            mark = Path(__file__).with_name("mark")
            if recording.id == "0":
                time.sleep(0.5)
            if recording.id == "3" and not mark.exists():
                mark.write_text("-")
                os.kill(os.getpid(), signal.SIGKILL)
            if recording.id == "6":
                os.kill(os.getpid(), signal.SIGKILL)
            if recording.id == "7":
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
            return super().__call__(recording)
"""


def test_a_killed_worker_is_named_its_file_tried_again_alone_then_skipped(
    source, tmp_path, monkeypatch
):
    (tmp_path / "wavestill_test_deadly.py").write_text(textwrap.dedent(DEADLY))
    monkeypatch.syspath_prepend(tmp_path)
    from wavestill_test_deadly import Deadly

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "Treatment", Deadly)
        report = prepare(source, tmp_path / "out", preset="wavestill_8k", workers=2)
    assert list(report.killed) == ["3.wav", "6.wav"]
    assert "a worker was killed over: 3.wav, 6.wav" in str(report)
    reasons = dict(report.skipped)
    assert reasons.keys() == {"4.wav", "6.wav"}
    assert "was killed, twice" in reasons["6.wav"]
    corpus = Corpus(tmp_path / "out")
    assert {e.id for s in SPLITS for e in corpus.split(s).entries} == set("0123578")
    shortened = tmp_path / "without"
    shortened.mkdir()
    for path in source.iterdir():
        if path.stem not in "46":
            os.link(path, shortened / path.name)
    prepare(shortened, tmp_path / "one", preset="wavestill_8k")
    for name in ("audio-00000.npy", "frames-00000.npy", "clips.npy", "strings.npy"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


@pytest.mark.slow
def test_a_worker_killed_while_it_waits_costs_nothing(source, tmp_path, monkeypatch):
    (tmp_path / "wavestill_test_idle.py").write_text(textwrap.dedent(DEADLY))
    monkeypatch.syspath_prepend(tmp_path)
    from wavestill_test_idle import Deadly

    treatment = Deadly(MEL_PRESETS["wavestill_8k"], level_dbfs=-23.0, seed=0)
    recordings = [Recording(i, source / f"{i}.wav") for i in "77" + 18 * "1"]
    outcomes = []
    for outcome in treat_in_order(treatment, recordings, 2):
        outcomes.append(outcome)
        if len(outcomes) == 1:
            time.sleep(1)  # both workers come to their end of the queue, and are killed
    assert len(outcomes) == len(recordings)
    assert all(outcome.treated is not None for outcome in outcomes)


def test_a_recording_too_long_for_memory_is_skipped(tmp_path):
    class Failing(Treatment):
        def __call__(self, recording):
            raise MemoryError

    treatment = Failing(MEL_PRESETS["wavestill_8k"], level_dbfs=-23.0, seed=0)
    [outcome] = treat_in_order(treatment, [Recording("a", tmp_path / "a.wav")], 1)
    assert (outcome.treated, outcome.reason) == (None, "longer than fits into memory")


def test_few_recordings_are_not_worth_processes(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    assert [suitable_workers(num) for num in (1, 49, 100, 10_000)] == [1, 1, 2, 16]

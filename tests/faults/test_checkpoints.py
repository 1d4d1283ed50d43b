"""Checkpoints that cannot be written or believed: the good one is kept, or gone back to."""

import json
import os
import pickle
import resource
import shutil
from pathlib import Path

import pytest
import torch

from wavestill.nn.threads import torch_threads
from wavestill.training.checkpoint import read_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Bomb:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def cut_off(path: Path, trace: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def rotten(path: Path, trace: Path) -> None:
    """One bit of a weight: it loads, but its checksum differs."""
    content = bytearray(path.read_bytes())
    value = torch.load(path, weights_only=True)["state_dict"]["model.hidden.weight"]
    place = content.index(value.numpy().tobytes())
    content[place + 3] ^= 1
    path.write_bytes(content)


def empty(path: Path, trace: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path, trace: Path) -> None:
    """Of another model."""
    state = torch.load(path, weights_only=True)
    state["state_dict"] = {"model.other": torch.zeros(3)}
    torch.save(state, path)


def explosive(path: Path, trace: Path) -> None:
    torch.save({"state_dict": {}, "global_step": Bomb(trace)}, path)


def a_bare_pickle(path: Path, trace: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb(trace)))


DAMAGE = {
    harm.__name__: harm for harm in (cut_off, rotten, empty, foreign, explosive, a_bare_pickle)
}


@pytest.fixture(scope="module")
def half_run(tmp_path_factory):
    """A run of six steps with a checkpoint after each; where it is, and the way on from it."""
    from tests.faults.conftest import Runs

    out = tmp_path_factory.mktemp("half") / "run"
    settings = {"warmup_steps": 1, "final_rate_share": 1.0, "allow_changes": True}
    with torch_threads(1):  # as the tests have: sums round alike
        Runs().fit(out, max_steps=6, **settings)
        wanted, _ = Runs().fit(None, max_steps=9, **settings)
    return out, wanted, settings


@pytest.mark.parametrize("harm", DAMAGE)
def test_a_bad_checkpoint_is_named_and_the_one_before_is_gone_on_from(
    runs, half_run, same, tmp_path, caplog, harm
):
    source, wanted, settings = half_run
    out, trace = tmp_path / "run", tmp_path / "trace"
    shutil.copytree(source, out)
    last = out / "checkpoints" / "last.ckpt"
    DAMAGE[harm](last, trace)
    resumed, history = runs.fit(out, resume=True, max_steps=9, **settings)
    same(wanted, resumed)
    assert history.column("step") == [float(step) for step in range(1, 10)]
    assert f"'{last}'" in caplog.text
    assert "goes on from" in caplog.text
    assert str(last) in json.loads((out / "run.json").read_text())[-1]["notes"][0]
    assert not trace.exists()


@pytest.mark.parametrize("harm", DAMAGE)
def test_without_a_good_checkpoint_there_is_one_line_and_no_training(
    runs, half_run, tmp_path, harm
):
    source, _, settings = half_run
    out, trace = tmp_path / "run", tmp_path / "trace"
    shutil.copytree(source, out)
    for name in ("last.ckpt", "previous.ckpt"):
        DAMAGE[harm](out / "checkpoints" / name, trace)
    with pytest.raises(ValueError, match=r"last\.ckpt'.*previous\.ckpt'.*another folder") as told:
        runs.fit(out, resume=True, max_steps=9, **settings)
    assert "\n" not in str(told.value)
    assert not trace.exists()


def test_killed_between_the_two_moves_the_state_is_found(runs, half_run, same, tmp_path):
    source, wanted, settings = half_run
    out = tmp_path / "run"
    shutil.copytree(source, out)
    (out / "checkpoints" / "last.ckpt").replace(out / "checkpoints" / "previous.ckpt")
    resumed, _ = runs.fit(out, resume=True, max_steps=9, **settings)
    same(wanted, resumed)


def test_a_full_disk_leaves_the_checkpoint_as_it_was(runs, half_run, same, tmp_path):
    """The limit on a file's size stands for the disk's end: writing fails part of the way."""
    source, wanted, settings = half_run
    out, log = tmp_path / "run", tmp_path / "log"
    shutil.copytree(source, out)
    checkpoints = out / "checkpoints"
    before = {path.name: path.read_bytes() for path in checkpoints.iterdir()}

    def run() -> None:
        half = len(before["last.ckpt"]) // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (half, half))
        runs.fit(out, resume=True, max_steps=9, **settings)

    process = runs.apart(run, log)
    process.join(60)
    assert process.exitcode == 1
    (said,) = log.read_text().splitlines()
    assert "last.ckpt' could not be written (File too large)" in said
    assert "the checkpoint before it is as it was" in said
    assert {path.name: path.read_bytes() for path in checkpoints.iterdir()} == before
    resumed, _ = runs.fit(out, resume=True, max_steps=9, **settings)
    same(wanted, resumed)


def test_an_interrupted_write_leaves_no_half_file(monkeypatch, half_run, tmp_path):
    from wavestill.training.checkpoint import write_checkpoint

    source, _, _ = half_run
    last = tmp_path / "last.ckpt"
    shutil.copy(source / "checkpoints" / "last.ckpt", last)
    state = read_checkpoint(last)

    def full(number: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match="No space left on device"):
        write_checkpoint(state, last)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    read_checkpoint(last)


def test_a_voice_is_never_unpickled(voice_path, tmp_path):
    from wavestill import publish

    path, trace = tmp_path / "voice", tmp_path / "trace"
    shutil.copytree(voice_path, path)
    for harm in (explosive, a_bare_pickle):
        harm(path / "model.safetensors", trace)
        with pytest.raises(ValueError, match=r"model\.safetensors' is corrupted and cannot"):
            publish.load(path)
    (path / "config.json").write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(ValueError, match=r"config\.json' cannot be read"):
        publish.load(path)
    assert not trace.exists()

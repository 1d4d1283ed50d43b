"""A run that is ended from outside, at any moment, goes on as if it had not been."""

import os
import random
import signal

import pytest

from wavestill.training.history import History

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.mark.parametrize("kind", ["fit", pytest.param("distil", marks=pytest.mark.slow)])
def test_killed_at_random_and_resumed_the_weights_are_those_of_an_uninterrupted_run(
    runs, wait, same, tmp_path, kind
):
    """To the bit: batches, noise, dropout, averages, optimisers, discriminators and counters."""
    run, out = getattr(runs, kind), tmp_path / "killed"
    settings = {"max_steps": 30 if kind == "fit" else 12}
    whole, whole_history = run(tmp_path / "whole", **settings)
    chance = random.Random(0 if kind == "fit" else 1)
    for number in range(3):
        process = runs.apart(lambda: run(out, resume=True, **settings), tmp_path / f"{number}.log")
        if number == 0:
            wait((out / "checkpoints" / "last.ckpt").exists)
        process.join(chance.uniform(0.0, 0.4))
        process.kill()
        process.join()
    resumed, history = run(out, resume=True, **settings)
    same(whole, resumed)
    assert history.column("step") == whole_history.column("step")
    figure = "valid_nats" if kind == "fit" else "valid_kl_nats"
    assert history.column(figure) == pytest.approx(whole_history.column(figure), rel=1e-7)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 1)], ids=["SIGTERM", "Ctrl-C"]
)
def test_told_to_end_a_run_keeps_its_state_and_says_so(runs, wait, same, tmp_path, number, status):
    out, log = tmp_path / "run", tmp_path / "log"
    rarely = {"checkpoint_minutes": 100.0}  # so that what is kept was written because of it
    process = runs.apart(lambda: runs.fit(out, max_steps=100_000, **rarely), log)
    wait(lambda: (out / "metrics.csv").exists() and History(out / "metrics.csv").rows != [])
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == status, log.read_text()
    if number is signal.SIGTERM:
        assert "told to terminate (SIGTERM)" in log.read_text()
        assert "go on with --resume" in log.read_text()
    steps = int(History(out / "metrics.csv").last("step")) + 3
    settings = {"max_steps": steps, **rarely}
    _, history = runs.fit(out, resume=True, allow_changes=True, **settings)
    assert history.column("step") == [float(step) for step in range(1, steps + 1)]


def test_killed_while_writing_figures_the_whole_rows_are_kept(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    history = History(path)
    for step in (1.0, 2.0, 13.0):
        history.append({"step": step, "nats": 7.0 - step / 10})
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])  # of the last row "1" is left
    assert History(path).column("step") == [1.0, 2.0]

    path.write_bytes(whole)

    def killed(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", killed)  # all is written, and not yet in its place
    with pytest.raises(KeyboardInterrupt):
        History(path).forget_after(2)
    assert path.read_bytes() == whole

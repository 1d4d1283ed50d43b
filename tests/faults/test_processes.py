"""Several processes take the step that one would take; none waits for ever for one that died."""

import json
import os
import signal

import pytest
import torch

from wavestill.training.history import History

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.mark.parametrize("kind", ["fit", pytest.param("distil", marks=pytest.mark.slow)])
def test_two_processes_give_the_curve_of_one(runs, together, tmp_path, kind):
    """The parts of a batch have their own random numbers, so only the sum's rounding differs."""
    run = getattr(runs, kind)
    _, curve = run(tmp_path / "alone", accumulate=2, max_steps=6)
    logs = tmp_path / "logs"
    processes = together(lambda: run(tmp_path / "both", max_steps=6), 2, logs)
    for number, process in enumerate(processes):
        process.join(60)
        assert process.exitcode == 0, (logs / f"{number}.log").read_text()
    both = History(tmp_path / "both" / "metrics.csv")
    names = ["nats", "valid_nats"] if kind == "fit" else ["kl_nats", "magnitude", "valid_kl_nats"]
    for name in ["learning_rate", "gradient_norm", *names]:
        assert both.column(name) == pytest.approx(curve.column(name), rel=1e-5), name
    saved = torch.load(tmp_path / "both" / "checkpoints" / "last.ckpt", weights_only=True)
    wanted = torch.load(tmp_path / "alone" / "checkpoints" / "last.ckpt", weights_only=True)
    for name in (name for name in wanted["state_dict"] if name.startswith("model.")):
        value = wanted["state_dict"][name]
        torch.testing.assert_close(saved["state_dict"][name], value, rtol=1e-4, atol=1e-6)
    assert len(json.loads((tmp_path / "both" / "run.json").read_text())) == 1


def test_a_process_that_dies_ends_the_run_and_the_checkpoint_stays(
    runs, together, wait, same, tmp_path
):
    logs, out = tmp_path / "logs", tmp_path / "run"
    first, second = together(lambda: runs.fit(out, max_steps=100_000), 2, logs)
    wait((out / "checkpoints" / "previous.ckpt").exists)
    second.kill()
    first.join(30)
    assert first.exitcode == 1
    said = (logs / "0.log").read_text().strip().splitlines()
    assert len(said) == 1
    assert "another process of this run has ended" in said[0]
    assert "--resume" in said[0]
    step = int(History(out / "metrics.csv").last("step"))
    runs.fit(out, resume=True, max_steps=step + 3, allow_changes=True)


def test_batches_that_cannot_be_shared_equally_are_refused(runs):
    with pytest.raises(ValueError, match=r"'batch_size' is 4 clips .* a multiple of 3"):
        runs.fit(None, accumulate=3)


def test_a_termination_of_one_process_ends_all_at_the_same_step(runs, together, wait, tmp_path):
    logs, out = tmp_path / "logs", tmp_path / "run"
    processes = together(lambda: runs.fit(out, max_steps=100_000), 2, logs)
    wait((out / "checkpoints" / "last.ckpt").exists)
    os.kill(processes[1].pid, signal.SIGTERM)
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert "go on with --resume" in (logs / "1.log").read_text() + (logs / "0.log").read_text()

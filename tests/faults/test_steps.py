"""Steps that must not be made are skipped and counted; a run that keeps failing goes back."""

import json
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import wavestill
from wavestill.training.callbacks import guard
from wavestill.training.callbacks.guard import IN_A_ROW, TrainingDivergedError

KEEP_EVERY = 20  # for these tests

SETTINGS = {
    "batch_size": 8,
    "warmup_steps": 1,
    "final_rate_share": 1.0,
    "log_every_steps": 1,
    "patience": None,
}


class Poisoned(nn.Module):
    """A Gaussian of vectors whose log-probability is spoilt at chosen steps of training."""

    def __init__(self, spoil: Callable[[int, Tensor], Tensor]) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(3))
        self.spoil = spoil
        self.calls = 0

    def log_prob(self, x: Tensor, context: object = None) -> Tensor:
        log_prob = -0.5 * (x - self.mean).square().sum(-1)
        if not self.training:
            return log_prob
        self.calls += 1
        return self.spoil(self.calls, log_prob)

    def sample(self, num: int, context: object = None) -> Tensor:
        return self.mean.detach() + torch.randn(num, 3)


def trained(spoil: Callable[[int, Tensor], Tensor], **settings: object):
    data = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) + 2.0
    return wavestill.fit(Poisoned(spoil), data, **{**SETTINGS, **settings})


SPOILT = {
    "loss nan": lambda log_prob: log_prob * math.nan,
    "loss infinite": lambda log_prob: log_prob - math.inf,
    "gradient nan": lambda log_prob: log_prob + 0 * (0 * log_prob).sqrt(),
    "gradient exploded": lambda log_prob: 1e4 * log_prob - 9999 * log_prob.detach(),
}


@pytest.fixture(scope="module")
def healthy():
    """The weights after 25 steps of which none is spoilt."""
    model, _ = trained(lambda call, log_prob: log_prob, max_steps=25, averaging=0.0)
    return model.mean.detach()


@pytest.mark.parametrize("how", SPOILT)
def test_a_bad_batch_moves_nothing_and_is_counted_and_named(how, healthy, tmp_path, caplog):
    def spoil(call: int, log_prob: Tensor) -> Tensor:
        return SPOILT[how](log_prob) if call == 26 else log_prob

    model, history = trained(spoil, max_steps=26, averaging=0.0, out=tmp_path / "run")
    assert torch.equal(model.mean, healthy)
    assert history.column("skipped_steps") == [0.0] * 25 + [1.0]
    assert len(history.column("nats")) == 25
    assert all(math.isfinite(value) for row in history.rows for value in row.values())
    (note,) = json.loads((tmp_path / "run" / "run.json").read_text())[-1]["notes"]
    assert note.startswith("step 26 was skipped: ")
    assert note in caplog.text


def test_large_gradients_that_are_usual_are_no_accident():
    _, history = trained(lambda call, log_prob: log_prob * (1 + call % 50), max_steps=60)
    assert history.last("skipped_steps") == 0


@pytest.fixture
def states_often(monkeypatch):
    monkeypatch.setattr(guard, "KEEP_EVERY", KEEP_EVERY)


def test_after_repeated_failures_the_run_goes_back_and_on_at_a_lower_rate(tmp_path, states_often):
    """It fails from step 50 until it is restored: the state of step 20 is the older of two."""
    failing_since = 2 * KEEP_EVERY + 10

    def spoil(call: int, log_prob: Tensor) -> Tensor:
        fails = failing_since <= call < failing_since + IN_A_ROW
        return log_prob * math.nan if fails else log_prob

    last = failing_since + IN_A_ROW - 1
    settings = {"averaging": 0.0, "log_every_steps": 5, "out": tmp_path / "run"}
    model, history = trained(spoil, max_steps=last + 5, **settings)
    assert history.last("skipped_steps") == IN_A_ROW
    rates = history.column("learning_rate")
    assert rates[-1] == pytest.approx(rates[0] / 2)
    notes = json.loads((tmp_path / "run" / "run.json").read_text())[-1]["notes"]
    assert f"goes on from the state of step {KEEP_EVERY} at 0.5 times" in notes[-1]
    assert torch.isfinite(model.mean).all()


def test_going_back_restores_weights_and_averages(states_often):
    begin = 2 * KEEP_EVERY + 11

    def spoil(call: int, log_prob: Tensor) -> Tensor:
        return log_prob * math.nan if begin <= call < begin + IN_A_ROW else log_prob

    settings = {"averaging": 0.9, "log_every_steps": 1000}
    model, _ = trained(spoil, max_steps=begin + IN_A_ROW - 1, **settings)
    wanted, _ = trained(lambda call, log_prob: log_prob, max_steps=KEEP_EVERY, **settings)
    torch.testing.assert_close(model.mean, wanted.mean)


def test_a_run_that_cannot_be_mended_stops_with_a_remedy(tmp_path):
    with pytest.raises(TrainingDivergedError, match="lower 'learning_rate'") as told:
        trained(lambda call, log_prob: log_prob * math.nan, max_steps=1000, out=tmp_path / "run")
    assert "after 3 restorations" in str(told.value)
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


def test_a_run_without_a_single_step_is_no_success():
    with pytest.raises(TrainingDivergedError):
        trained(lambda call, log_prob: log_prob * math.nan, max_steps=3)


def test_the_judgement_goes_on_with_the_run(tmp_path):
    """A spike right after resuming is known for one: the usual norm was kept."""
    settings = {"out": tmp_path / "run", "allow_changes": True}
    trained(lambda call, log_prob: log_prob, max_steps=30, **settings)
    model, history = trained(
        lambda call, log_prob: log_prob * (1e6 if call == 1 else 1.0),
        max_steps=32,
        resume=True,
        **settings,
    )
    assert history.last("skipped_steps") == 1
    assert torch.isfinite(model.mean).all()

"""Vectors train in one line: early stopping keeps the best weights, contexts go along."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import wavestill
from wavestill.density import JointDraw
from wavestill.distributions import Normal

pytestmark = pytest.mark.usefixtures("one_thread")


class Table(nn.Module):
    """A softmax over cells that remembers every row it saw: it overfits at once."""

    def __init__(self, num_cells: int = 200) -> None:
        super().__init__()
        self.num_cells = num_cells
        self.logits = nn.Parameter(torch.zeros(num_cells))

    def log_prob(self, x: Tensor, context: object = None) -> Tensor:
        cell = (x[:, 0] * self.num_cells).long().clamp(0, self.num_cells - 1)
        return self.logits.log_softmax(0)[cell] + math.log(self.num_cells)

    def sample(self, num: int, context: object = None) -> Tensor:
        return torch.rand(num, 1)


class Line(nn.Module):
    """N(a c + b, 1): a density of one number under a context."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1, dtype=torch.float64)

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        return Normal(self.linear(context), torch.zeros_like(x)).log_prob(x).sum(-1)

    def sample(self, num: int, context: Tensor) -> Tensor:
        return self.linear(context) + torch.randn(num, 1, dtype=torch.float64)


class Shifted(nn.Module):
    """A student of one affine step: x = mu + s z, of which only the joint density is shown."""

    base = "normal"
    num_dims = 3

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(3))
        self.log_scale = nn.Parameter(torch.zeros(3))

    def rsample(self, noise: Tensor, context: object = None) -> JointDraw:
        law = Normal(self.loc.expand_as(noise), self.log_scale.expand_as(noise))
        x = law.from_noise(noise)
        return JointDraw(x, noise, law.log_prob(x).sum(-1))

    def log_prob(self, x: Tensor, context: object = None) -> Tensor:
        return Normal(self.loc, self.log_scale).log_prob(x).sum(-1)

    def sample(self, num: int, context: object = None) -> Tensor:
        return self.rsample(torch.randn(num, 3)).x


def nats(model: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return -float(model.log_prob(x).mean())  # type: ignore[operator]


def test_patience_ends_a_run_and_keeps_the_best_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    x, held_out = (torch.rand(n, 1, generator=generator) for n in (300, 500))
    model, history = wavestill.fit(
        Table(),
        x,
        validation=held_out,
        max_steps=2000,
        validate_every_steps=10,
        patience=3,
        learning_rate=0.05,
        averaging=0.9,
    )
    figures = history.column("valid_nats")
    assert history.last("step") < 1000
    assert figures[-4] == min(figures), "three validations without improvement, then the end"
    assert nats(model, held_out) == pytest.approx(min(figures), abs=1e-6)
    assert nats(model, held_out) < figures[-1] - 1e-3


def test_rows_are_held_out_only_for_the_patient() -> None:
    x = torch.rand(300, 1, generator=torch.Generator().manual_seed(0))
    settings = {"max_steps": 20, "validate_every_steps": 10, "learning_rate": 0.05}
    _, history = wavestill.fit(Table(), x, patience=5, **settings)
    assert len(history.column("valid_nats")) == 2
    _, history = wavestill.fit(Table(), x, patience=None, **settings)
    assert history.column("valid_nats") == []
    with pytest.raises(ValueError, match="give 'validation'"):
        wavestill.fit(Table(), x[:, 0], patience=5, **settings)


def test_a_density_under_contexts_is_fitted_to_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(2000, 1, generator=generator)
    x = 2 * context - 1 + torch.randn(2000, 1, generator=generator)
    model, _ = wavestill.fit(
        Line(), (x, context), max_steps=400, learning_rate=0.05, averaging=0.97
    )
    assert float(model.linear.weight.detach()) == pytest.approx(2.0, abs=0.1)
    assert float(model.linear.bias.detach()) == pytest.approx(-1.0, abs=0.1)
    with pytest.raises(ValueError, match="2000 rows of data but 1999 of context"):
        wavestill.fit(Line(), (x, context[1:]), max_steps=1)


def test_a_student_of_vectors_is_distilled_in_one_line_and_stops_when_it_is_there() -> None:
    law = torch.distributions.Normal(torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.5, 1.0, 2.0]))
    student, history = wavestill.distill(
        law,
        Shifted(),
        learning_rate=0.02,
        validate_every_steps=50,
        validation_clips=1024,
        patience=2,
        averaging=0.95,
    )
    torch.testing.assert_close(student.loc.detach(), law.mean, atol=0.02, rtol=0)
    assert history.last("step") < 5000
    assert min(history.column("valid_kl_nats")) < 1e-4


def test_the_best_validation_is_remembered_across_a_resumed_run(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    x, held_out = (torch.rand(n, 1, generator=generator) for n in (300, 500))
    settings = {
        "validation": held_out,
        "validate_every_steps": 10,
        "learning_rate": 0.05,
        "averaging": 0.9,
        "final_rate_share": 1.0,
        "out": tmp_path / "run",
    }
    _, before = wavestill.fit(Table(), x, max_steps=100, patience=20, **settings)
    model, after = wavestill.fit(
        Table(), x, max_steps=150, patience=20, resume=True, allow_changes=True, **settings
    )
    assert len(after.column("valid_nats")) == len(before.column("valid_nats")) + 5
    best = min(after.column("valid_nats"))
    assert best == pytest.approx(min(before.column("valid_nats"))), "from there on it overfits"
    assert nats(model, held_out) == pytest.approx(best, abs=1e-6)


def test_what_cannot_learn_is_refused_in_one_line():
    with pytest.raises(ValueError, match="a MAF draws in many passes or has no 'rsample'"):
        wavestill.distill(wavestill.MAF(2), wavestill.MAF(2), max_steps=1)

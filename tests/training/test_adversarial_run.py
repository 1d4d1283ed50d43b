"""A run with discriminators: they learn by their own optimiser, and resume with the student."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import wavestill
from tests.training.test_loop import interrupt, process_data, student, teacher, weights
from wavestill.distillation import AdversarialConfig, Objective, ObjectiveConfig
from wavestill.training.config import TrainingConfig
from wavestill.training.distillation import Distillation

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = {
    "max_steps": 10,
    "batch_size": 2,
    "clip_samples": 800,
    "log_every_steps": 2,
    "validate_every_steps": 5,
    "checkpoint_minutes": 1e-6,  # after every step
    "seed": 3,
}


def objective_for(learner: torch.nn.Module, after_steps: int = 3) -> Objective:
    torch.manual_seed(4)
    return ObjectiveConfig(
        weights={"adversarial": 1.0},
        adversarial=AdversarialConfig(after_steps=after_steps, channels=4),
    ).build(teacher(), learner, sample_rate=8000)


def test_a_resumed_run_has_the_same_student_and_the_same_discriminators(tmp_path: Path) -> None:
    def run(
        out: Path, *, resume: bool = False, stop_after: int | None = None
    ) -> tuple[dict[str, Tensor], list[float]]:
        learner = student()
        if stop_after is not None:
            interrupt(learner, stop_after)
        objective = objective_for(learner)
        learner, history = wavestill.distill(
            teacher(),
            learner,
            process_data(8, 2000),
            objective=objective,
            validation=process_data(2, 2000),
            out=out,
            resume=resume,
            **SETTINGS,
        )
        networks = {f"networks.{k}": v for k, v in weights(objective.networks).items()}
        return weights(learner) | networks, history.column("discriminator")

    whole, whole_lessons = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", stop_after=6)
    resumed, resumed_lessons = run(tmp_path / "parts", resume=True)
    assert any(name.startswith("networks.adversarial.discriminators") for name in whole)
    for (name, ours), theirs in zip(whole.items(), resumed.values(), strict=True):
        assert torch.equal(ours, theirs), name
    assert resumed_lessons == pytest.approx(whole_lessons, rel=1e-7)


def test_discriminators_learn_from_the_first_step_at_their_own_rate() -> None:
    learner = student()
    objective = objective_for(learner, after_steps=1000)
    before = weights(objective.networks)
    _, history = wavestill.distill(
        teacher(),
        learner,
        process_data(8, 2000),
        objective=objective,
        **(SETTINGS | {"max_steps": 30, "warmup_steps": 1}),
    )
    after = weights(objective.networks)
    moved = [k for k in before if k.endswith("original1") and not torch.equal(before[k], after[k])]
    assert moved
    lessons = history.column("discriminator")
    assert lessons[-1] < lessons[0]
    assert set(history.column("adversarial")) == {0.0}


def test_the_student_does_not_move_differently_while_it_hears_nothing() -> None:
    """Lessons share its backward pass and must not share its gradient's length or its Adam."""
    results = []
    for weighted in ({"adversarial": 1.0}, {}):
        learner = student()
        objective = ObjectiveConfig(
            weights=weighted, adversarial=AdversarialConfig(after_steps=1000, channels=4)
        ).build(teacher(), learner, sample_rate=8000)
        settings = SETTINGS | {"max_steps": 4, "clip_norm": 1e-3}
        wavestill.distill(
            teacher(), learner, process_data(8, 2000), objective=objective, **settings
        )
        results.append(weights(learner))
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-6, atol=1e-9, msg=name)


def test_only_the_student_is_averaged() -> None:
    learner = student()
    objective = objective_for(learner)
    task = Distillation(learner, objective, TrainingConfig(max_steps=1), 0)
    trained = {id(parameter) for parameter in task.trained()}
    assert not trained & {id(parameter) for parameter in objective.adversaries()}
    of_student, of_discriminators = task.configure_optimizers()
    assert {id(p) for group in of_student.param_groups for p in group["params"]} == trained
    assert [group["rate_share"] for group in of_discriminators.param_groups] == [0.5]

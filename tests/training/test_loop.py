"""Training learns what can be learnt, resumes to the bit, loses no work, names what is wrong."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import wavestill
from wavestill.distillation import ObjectiveConfig
from wavestill.known_truth import GaussianAR2
from wavestill.models import IAFWaveNet, IAFWaveNetConfig, WaveNet, WaveNetConfig
from wavestill.training.callbacks.guard import TrainingDivergedError
from wavestill.training.history import History

pytestmark = pytest.mark.usefixtures("one_thread")

TEACHER = WaveNetConfig(
    layers=3,
    dilation_cycle=3,
    residual_channels=8,
    gate_channels=8,
    skip_channels=8,
    head="gaussian",
)
STUDENT = IAFWaveNetConfig(flows=(3, 3), dilation_cycle=3, channels=8, base="normal")
PROCESS = GaussianAR2(0.9, 0.5, 0.1)


def teacher(*, dropout: float = 0.1) -> WaveNet:
    torch.manual_seed(0)
    return WaveNet(replace(TEACHER, dropout=dropout))


def student() -> IAFWaveNet:
    torch.manual_seed(1)
    return IAFWaveNet(STUDENT)


def process_data(num: int = 8, length: int = 500) -> Tensor:
    return PROCESS.sample(num, length, torch.Generator().manual_seed(0))


class VectorGaussian(nn.Module):
    """A density of vectors that gives log_prob and sample, nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(3))

    def log_prob(self, x: Tensor, context: object = None) -> Tensor:
        return torch.distributions.Normal(self.mean, 1.0).log_prob(x).sum(-1)

    def sample(self, num: int, context: object = None) -> Tensor:
        return self.mean.detach() + torch.randn(num, 3)


@pytest.mark.parametrize(
    "shape", [(4000,), (8, 500), (40, 3)], ids=["one sequence", "sequences", "vectors"]
)
def test_fit_takes_tensors_of_any_kind(shape: tuple[int, ...]) -> None:
    data = torch.randn(shape) + 2.0
    model, history = wavestill.fit(teacher(), data, max_steps=3, clip_samples=200, validation=data)
    assert not model.training
    assert history.column("step") == [3.0]
    assert math.isfinite(history.last("nats"))
    assert math.isfinite(history.last("valid_nats"))


def test_fit_learns_a_density_that_only_gives_log_prob() -> None:
    data = torch.randn(400, 3) + torch.tensor([1.0, -2.0, 0.5])
    model, _ = wavestill.fit(
        VectorGaussian(),
        data,
        max_steps=300,
        batch_size=64,
        learning_rate=0.05,
        warmup_steps=1,
        averaging=0.9,
    )
    torch.testing.assert_close(model.mean.detach(), data.mean(0), atol=0.05, rtol=0)


def test_fit_learns_a_process_of_known_entropy() -> None:
    data = process_data(32, 1000)
    model, _ = wavestill.fit(
        teacher(dropout=0.0), data, max_steps=300, learning_rate=1e-2, averaging=0.97
    )
    with torch.no_grad():
        nats = -model.conditionals(data)[:, 100:].log_prob(data[:, 100:]).mean()
        truth = -PROCESS.conditionals(data)[:, 98:].log_prob(data[:, 100:]).mean()
    assert abs(nats - truth) < 0.03


def test_distil_without_data_learns_the_teacher() -> None:
    taught = teacher(dropout=0.0)
    taught.calibrate(process_data())
    _, history = wavestill.distill(
        taught,
        student(),
        length=200,
        max_steps=200,
        learning_rate=1e-2,
        averaging=0.97,
        log_every_steps=20,
    )
    kl = history.column("kl_nats")
    assert history.last("valid_kl_nats") < 0.02 < kl[0]


def test_fit_and_distil_are_reproducible_and_leave_the_callers_random_numbers_alone() -> None:
    def run(seed: int) -> list[Tensor]:
        fresh, learner = teacher(), student()
        torch.manual_seed(5)
        settings = {"max_steps": 3, "clip_samples": 300, "seed": seed}
        model, _ = wavestill.fit(fresh, process_data(), **settings)
        learner, _ = wavestill.distill(teacher(dropout=0.0), learner, length=100, **settings)
        return [model.hidden.weight.detach(), learner.flows[0].output.weight.detach()]

    first, second, other = run(0), run(0), run(1)
    for ours, again, others in zip(first, second, other, strict=True):
        assert torch.equal(ours, again)
        assert not torch.equal(ours, others)
    taught, learner, data = teacher(), student(), process_data()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    wavestill.fit(taught, data, max_steps=1)
    wavestill.distill(taught, learner, length=100, max_steps=1)
    assert torch.equal(torch.rand(3), expected)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("task", ["fit", "distil"])
def test_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path: Path, task: str) -> None:
    def run(
        out: Path | None, *, resume: bool = False, stop_after: int | None = None
    ) -> tuple[nn.Module, History]:
        settings = {
            "max_steps": 12,
            "clip_samples": 300,
            "log_every_steps": 2,
            "validate_every_steps": 4,
            "warmup_steps": 5,
            "checkpoint_minutes": 1e-6,  # after every step
            "out": out,
            "resume": resume,
            "validation": process_data(4, 2000),
            "seed": 3,
        }
        if task == "fit":
            model = teacher()
            if stop_after is not None:
                interrupt(model, stop_after)
            return wavestill.fit(model, process_data(), **settings)
        learner = student()
        if stop_after is not None:
            interrupt(learner, stop_after)
        # gradient balance: the objective has a state of its own
        objective = ObjectiveConfig(weights={"magnitude": 1.0}).build(
            teacher(), learner, sample_rate=8000
        )
        settings["clip_samples"] = 800  # longer than the windows of the spectral term
        return wavestill.distill(
            teacher(), learner, process_data(8, 2000), objective=objective, **settings
        )

    whole, whole_history = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", stop_after=7)
    resumed, resumed_history = run(tmp_path / "parts", resume=True)
    for (name, ours), theirs in zip(
        weights(whole).items(), weights(resumed).values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert resumed_history.column("step") == whole_history.column("step")
    figure = "valid_nats" if task == "fit" else "valid_kl_nats"
    assert resumed_history.column(figure) == pytest.approx(whole_history.column(figure), rel=1e-7)
    assert resumed_history.last("elapsed_s") > 0


def interrupt(model: nn.Module, step: int) -> None:
    """Ctrl-C in the forward pass of a training step."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += model.training
        if calls > step:
            raise KeyboardInterrupt

    model.get_submodule(
        "input" if isinstance(model, WaveNet) else "flows.0.input"
    ).register_forward_pre_hook(count)


def test_a_run_folder_is_complete_and_refused_without_resume(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = {"max_steps": 4, "clip_samples": 300, "log_every_steps": 2, "out": out}
    wavestill.fit(teacher(), process_data(), **settings)
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "recipe.yaml",
        "run.json",
        "metrics.csv",
        "tensorboard",
        "checkpoints",
        "sounds",
    }
    assert History(out / "metrics.csv").column("step") == [2.0, 4.0]
    before = (out / "metrics.csv").read_text()
    with pytest.raises(ValueError, match="holds a run already; resume it"):
        wavestill.fit(teacher(), process_data(), **settings)
    assert (out / "metrics.csv").read_text() == before
    _, history = wavestill.fit(
        teacher(), process_data(), resume=True, **settings
    )  # nothing left to do
    assert history.column("step") == [2.0, 4.0]


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    settings = {"max_steps": 4, "clip_samples": 300}
    whole, _ = wavestill.fit(teacher(), process_data(), **settings)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").write_text("step,nats\n25,7.0\n")
    again, history = wavestill.fit(
        teacher(), process_data(), out=tmp_path / "run", resume=True, **settings
    )
    assert history.column("step") == [4.0]
    for (name, ours), theirs in zip(weights(whole).items(), weights(again).values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_a_checkpoint_that_cannot_be_gone_on_from_is_named(tmp_path: Path) -> None:
    settings = {"max_steps": 4, "clip_samples": 300, "out": tmp_path / "run"}
    wavestill.fit(teacher(), process_data(), **settings)
    wider = WaveNet(replace(TEACHER, residual_channels=9))
    with pytest.raises(ValueError, match="is of another model"):
        wavestill.fit(wider, process_data(), resume=True, **settings)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"last\.ckpt' is damaged"):
        wavestill.fit(teacher(), process_data(), resume=True, **settings)


def test_data_of_any_precision_train_a_model_of_any() -> None:
    for dtype in (torch.float32, torch.float64):
        model = teacher().to(dtype)
        _, history = wavestill.fit(model, process_data().double(), max_steps=2, clip_samples=100)
        assert math.isfinite(history.last("nats"))


def test_minutes_bound_a_run_and_the_rate_follows_them() -> None:
    _, history = wavestill.fit(
        teacher(),
        process_data(),
        minutes=0.03,
        clip_samples=300,
        log_every_steps=1,
        warmup_steps=1,
    )
    rates = history.column("learning_rate")
    assert 1.0 < history.last("elapsed_s") < 6.0
    assert rates[0] == pytest.approx(2e-3, rel=0.2)
    assert rates[-1] < 0.1 * rates[0]


def test_averaged_weights_are_kept() -> None:
    torch.manual_seed(0)
    model = VectorGaussian()
    data = torch.full((4, 3), 5.0)
    wavestill.fit(
        model,
        data,
        max_steps=20,
        learning_rate=0.1,
        warmup_steps=1,
        averaging=0.999,
        final_rate_share=1.0,
    )
    # Adam moves about 0.1 a step, so the last weights are at 2; their average lags behind
    assert 1.0 < float(model.mean.detach()[0]) < 1.9


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"max_step": 3}, "no training setting is called 'max_step'"),
        ({}, "neither 'max_steps' nor 'minutes'"),
        ({"max_steps": 0}, "'max_steps' is 0"),
        ({"max_steps": 3, "averaging": 1.0}, "'averaging' is 1.0"),
        ({"max_steps": 3, "clip_samples": 10, "skip_samples": 10}, "skip fewer"),
        ({"max_steps": 3, "resume": True}, "nothing to resume"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        wavestill.fit(teacher(), process_data(), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (torch.zeros(2, 3, 4), r"shape \(2, 3, 4\)"),
        (torch.full((100,), math.nan), "not finite"),
        (torch.zeros(0), "shape"),
        (torch.zeros(100), "not silent"),
    ],
)
def test_bad_data_are_named(data: Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        wavestill.fit(teacher(), data, max_steps=3)


def test_a_diverging_run_stops_with_a_remedy(tmp_path: Path) -> None:
    class Diverging(VectorGaussian):
        def log_prob(self, x: Tensor, context: object = None) -> Tensor:
            return super().log_prob(x) * (math.nan if self.training else 1.0)

    with pytest.raises(TrainingDivergedError, match="lower 'learning_rate'"):
        wavestill.fit(
            Diverging(), torch.randn(10, 3), max_steps=3, log_every_steps=1, out=tmp_path / "run"
        )
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


def test_steps_that_are_skipped_leave_the_weights_and_the_checkpoint_good(tmp_path: Path) -> None:
    class Lost(VectorGaussian):
        """Its loss is no number from the third step on."""

        steps = 0

        def log_prob(self, x: Tensor, context: object = None) -> Tensor:
            self.steps += self.training
            log_prob = -0.5 * (x - self.mean).square().sum(-1)
            return log_prob * (math.nan if self.steps >= 3 else 1.0)

    settings = {"batch_size": 10, "log_every_steps": 1, "checkpoint_minutes": 1e-9}
    data = torch.randn(10, 3)
    model, history = wavestill.fit(Lost(), data, max_steps=9, out=tmp_path / "run", **settings)
    wanted, _ = wavestill.fit(Lost(), data, max_steps=2, **settings)
    assert history.column("skipped_steps") == [0.0, 0.0, *(float(n) for n in range(1, 8))]
    assert len(history.column("nats")) == 2
    assert torch.isfinite(model.mean).all()
    torch.testing.assert_close(model.mean, wanted.mean, atol=1e-4, rtol=0)
    notes = json.loads((tmp_path / "run" / "run.json").read_text())[-1]["notes"]
    assert notes == ["step 3 was skipped: its loss is nan"]


def test_an_objective_of_another_student_is_refused() -> None:
    objective = ObjectiveConfig().build(teacher(), student())
    with pytest.raises(ValueError, match="another student than the one to train"):
        wavestill.distill(teacher(), student(), length=100, objective=objective, max_steps=1)


def test_held_out_figures_that_are_not_finite_are_seen() -> None:
    class Refusing(VectorGaussian):
        """Gives no mass to part of the held-out data."""

        def log_prob(self, x: Tensor, context: object = None) -> Tensor:
            return super().log_prob(x) + torch.where(x[:, 0] > 0, 0.0, -math.inf)

    data = torch.randn(64, 3).abs()
    _, history = wavestill.fit(Refusing(), data, max_steps=2, validation=-data)
    assert history.last("valid_nats") == math.inf

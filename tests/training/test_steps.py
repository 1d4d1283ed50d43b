"""A step is the same step however it is computed: in parts, in pieces, compiled, by several."""

import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import yaml
from torch import nn

import wavestill
from wavestill import WaveNet, WaveNetConfig
from wavestill.nn.conditioning import ConditioningConfig
from wavestill.training import TrainingConfig
from wavestill.training.data import Batch
from wavestill.training.history import History
from wavestill.training.likelihood import Likelihood

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = WaveNetConfig(
    layers=4,
    dilation_cycle=4,
    residual_channels=8,
    gate_channels=8,
    skip_channels=8,
    num_mixtures=2,
    predictor_order=3,
    conditioning=ConditioningConfig(
        num_features=5, hop_samples=20, sample_rate=8000, channels=4, num_speakers=2
    ),
)


def model(**changes: object) -> WaveNet:
    torch.manual_seed(0)
    built = WaveNet(replace(SHAPE, **changes))
    built.calibrate(0.1 * torch.randn(2000), torch.randn(100, 5))
    nn.init.normal_(built.predictor.weight, std=0.1)
    return built


def batch(num: int = 4, num_frames: int = 10) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = 0.1 * torch.randn(num, 20 * num_frames, generator=generator)
    frames = torch.randn(num, num_frames, 5, generator=generator)
    speaker = torch.arange(num) % 2
    context = wavestill.density.Conditioning(frames, speaker)
    return Batch(x, context, (num, 20 * num_frames))


def gradients(learner: WaveNet, material: Batch, **settings: object) -> dict[str, torch.Tensor]:
    config = TrainingConfig(max_steps=1, **settings)
    task = Likelihood(learner.double(), config, 0, skip_samples=15)
    context = material.context._replace(frames=material.context.frames.double())
    material = material._replace(x=material.require_x().double(), context=context)
    task.descend(material, 1.0)
    return {
        name: parameter.grad.clone()
        for name, parameter in learner.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("size", [1, 7, 40, 64, 200, 1000])
def test_pieces_have_the_laws_of_the_whole(size):
    learner, material = model().double(), batch()
    x = material.x.double()
    context = material.context._replace(frames=material.context.frames.double())
    whole = learner.conditionals(x, context).log_prob(x)
    laws = learner.pieces(x, context, piece_samples=size)
    parts = [law.log_prob(x[:, k * size : (k + 1) * size]) for k, law in enumerate(laws)]
    torch.testing.assert_close(torch.cat(parts, 1), whole)


def test_one_piece_has_the_gradient_of_the_whole_and_small_ones_only_a_truncated_one():
    whole = gradients(model(), batch())
    one = gradients(model(), batch(), chunk_samples=200)
    small = gradients(model(), batch(), chunk_samples=25)
    assert one.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(one[name], gradient, msg=name)
    differing = {name for name in whole if not torch.allclose(small[name], whole[name])}
    # what reads no past within the stack has its whole gradient; what feeds the past, a part of it
    assert {"input.weight", "stack.layers.0.conv.taps.weight"} <= differing
    assert not {"output.weight", "hidden.weight", "predictor.weight"} & differing
    for name in differing:
        similarity = torch.cosine_similarity(small[name].flatten(), whole[name].flatten(), 0)
        assert similarity > 0.8, name


def test_the_conditioning_networks_gradient_is_summed_over_the_pieces():
    """With no stack between them there is nothing to truncate: only the encoder's own path."""
    learner, material = model(layers=1, filter_width=1), batch()
    whole, pieces = gradients(learner, material), None
    learner.zero_grad()
    pieces = gradients(learner, material, chunk_samples=30)
    for name in ("encoder.near.weight", "encoder.wide.bias", "encoder.speaker.weight"):
        torch.testing.assert_close(pieces[name], whole[name], msg=name)


def test_training_in_pieces_learns(tmp_path):
    x = wavestill.known_truth.GaussianAR2(0.9, 0.5, 0.1).sample(
        8, 1000, torch.Generator().manual_seed(0)
    )
    shape = replace(SHAPE, conditioning=None, head="gaussian", predictor_order=0)
    settings = {"max_steps": 12, "learning_rate": 1e-2, "clip_samples": 500, "warmup_steps": 1}
    torch.manual_seed(0)
    _, whole = wavestill.fit(WaveNet(shape), x, log_every_steps=1, **settings)
    torch.manual_seed(0)
    _, pieces = wavestill.fit(WaveNet(shape), x, log_every_steps=1, chunk_samples=125, **settings)
    assert pieces.last("nats") == pytest.approx(whole.last("nats"), abs=0.05)
    assert pieces.last("nats") < pieces.column("nats")[0] - 0.1


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_take_the_step_of_the_whole(parts):
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) + 1.0
    settings = {"max_steps": 10, "batch_size": 8, "patience": None, "log_every_steps": 1}

    class Gaussian(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(3))

        def log_prob(self, x: torch.Tensor, context: object = None) -> torch.Tensor:
            return torch.distributions.Normal(self.mean, 1.0).log_prob(x).sum(-1)

        def sample(self, num: int, context: object = None) -> torch.Tensor:
            return self.mean.detach() + torch.randn(num, 3)

    whole, curve = wavestill.fit(Gaussian(), x, **settings)
    ours, own_curve = wavestill.fit(Gaussian(), x, accumulate=parts, **settings)
    torch.testing.assert_close(ours.mean, whole.mean, rtol=1e-5, atol=1e-7)
    for name in ("nats", "gradient_norm", "learning_rate"):
        assert own_curve.column(name) == pytest.approx(curve.column(name), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"accumulate": 0}, "'accumulate' is 0"),
        ({"accumulate": 3}, "'batch_size' is 4 .* multiple of 3"),
        ({"chunk_samples": -1}, "'chunk_samples' is -1"),
        ({"chunk_samples": 100, "compile": True}, "leave one of them out"),
        ({"explosion": 1.0}, "'explosion' is 1.0"),
    ],
)
def test_settings_of_steps_are_checked(settings, complaint):
    shape = replace(SHAPE, conditioning=None)
    with pytest.raises(ValueError, match=complaint):
        wavestill.fit(WaveNet(shape), torch.randn(2, 500), max_steps=1, **settings)


def test_a_student_is_not_drawn_in_pieces(tiny_voice):
    with pytest.raises(ValueError, match="'chunk_samples' is of likelihoods"):
        wavestill.distill(
            tiny_voice.teacher, tiny_voice.student, length=50, max_steps=1, chunk_samples=10
        )


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_a_recipe_trains_in_two_processes_from_the_command_line(corpus, tmp_path, launcher):
    recipe = {
        "corpus": str(corpus.path),
        "seed": 1,
        "teacher": {"layers": 2, "residual_channels": 4, "gate_channels": 4, "skip_channels": 4},
        "student": {"flows": [2], "channels": 4},
        "fit": {
            "max_steps": 6,
            "clip_samples": 800,
            "log_every_steps": 1,
            "validate_every_steps": 3,
            "validation_clips": 2,
        },
        "distill": {"max_steps": 1},
    }
    curves = []
    for number in (1, 2):
        out = tmp_path / f"{number}"
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump({**recipe, "out": str(out)}))
        command = [sys.executable, "-m", "wavestill.cli", "fit", str(path)]
        if number == 2 and launcher == "torchrun":
            torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
            command[1:1] = torchrun
            command.remove("-m")
            command = [sys.executable, *torchrun, "-m", "wavestill.cli", "fit", str(path)]
        elif number == 2:
            command += ["--trainer.devices", "2", "--trainer.accelerator", "cpu"]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 2, done.stdout  # one process speaks
        assert (out / "voice" / "model.safetensors").exists()
        curves.append(History(out / "teacher" / "metrics.csv"))
    for name in ("nats", "valid_nats", "gradient_norm"):
        assert curves[1].column(name) == pytest.approx(curves[0].column(name), rel=1e-4)
        assert all(math.isfinite(value) for value in curves[1].column(name))


@pytest.mark.slow
def test_a_compiled_run_gives_the_same_curve_and_survives_a_spoilt_cache(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch, wavestill\n"
        "torch.manual_seed(0)\n"
        "shape = wavestill.WaveNetConfig(layers=2, residual_channels=8, gate_channels=8,"
        " skip_channels=8, head='gaussian')\n"
        "model = wavestill.WaveNet(shape)\n"
        "x = 0.1 * torch.randn(4, 400)\n"
        "_, history = wavestill.fit(model, x, max_steps=3, clip_samples=400, log_every_steps=1,"
        " compile=sys.argv[1] == 'compiled', out=sys.argv[2], validation=x)\n"
        "print(*history.column('nats'))\n"
    )

    def run(how: str, out: str) -> list[float]:
        done = subprocess.run(
            [sys.executable, str(script), how, str(tmp_path / out)],
            capture_output=True,
            text=True,
            timeout=500,
            env={**os.environ, "JAXTYPING_DISABLE": "1", "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return [float(value) for value in done.stdout.split()]

    plain = run("plain", "plain")
    assert run("compiled", "run") == pytest.approx(plain, rel=1e-4)
    cache = tmp_path / "run" / "compiled" / "0"
    assert not (cache / "in_use").exists()
    spoilt = [path for path in cache.rglob("*") if path.is_file()]
    assert spoilt
    for path in spoilt:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (cache / "in_use").touch()  # as a run leaves it that was killed
    (tmp_path / "run" / "checkpoints").rename(tmp_path / "gone")
    (tmp_path / "run" / "metrics.csv").unlink()
    assert run("compiled", "run") == pytest.approx(plain, rel=1e-4)

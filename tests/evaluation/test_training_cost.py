"""Operations, weights and kept values of a step: on paper as PyTorch counts them."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from wavestill import IAFWaveNet, IAFWaveNetConfig, WaveNet, WaveNetConfig
from wavestill.density import Conditioning
from wavestill.distillation import ObjectiveConfig
from wavestill.evaluation import training_cost
from wavestill.evaluation.bench.conv1d_teacher import Conv1dTeacher
from wavestill.evaluation.training_cost import ACCELERATORS, step_seconds, sum_seconds
from wavestill.nn.conditioning import ConditioningConfig

CONDITIONINGS = {
    "nothing": None,
    "mels": ConditioningConfig(5, 20, 8000, 8),
    "mels and pitch": ConditioningConfig(6, 20, 8000, 8, num_harmonics=2),
    "speakers": ConditioningConfig(5, 20, 8000, 8, num_speakers=3),
}
BATCH, LENGTH = 2, 400


def teacher_of(name: str, *, channels: int = 8, layers: int = 4) -> WaveNet:
    torch.manual_seed(0)
    config = WaveNetConfig(
        layers, 2, channels, channels - 2, channels + 2, num_mixtures=3, predictor_order=4,
        conditioning=CONDITIONINGS[name],
    )  # fmt: skip
    return WaveNet(config).double()


def material(teacher: WaveNet) -> tuple[torch.Tensor, Conditioning | None]:
    x = 0.1 * torch.randn(BATCH, LENGTH, dtype=torch.float64)
    config = teacher.config.conditioning
    if config is None:
        return x, None
    frames = torch.randn(BATCH, LENGTH // 20, config.num_features, dtype=torch.float64)
    frames[..., -2:] = torch.tensor([5.0, 1.0])
    speaker = torch.tensor([0, 2]) if config.num_speakers else None
    return x, Conditioning(frames, speaker)


@pytest.mark.parametrize("name", CONDITIONINGS)
def test_a_step_of_the_teacher(name: str) -> None:
    teacher = teacher_of(name)
    x, context = material(teacher)
    with FlopCounterMode(display=False) as counted:
        teacher.log_prob(x, context).sum().backward()
    cost = training_cost.likelihood_cost(teacher.config, BATCH, LENGTH)
    assert cost.flops == counted.get_total_flops()
    assert cost.reduced_bytes == 4 * sum(p.numel() for p in teacher.parameters())


@pytest.mark.parametrize("name", CONDITIONINGS)
def test_a_step_of_the_student(name: str) -> None:
    teacher = teacher_of(name)
    x, context = material(teacher)
    config = IAFWaveNetConfig((2, 3), 2, 8, conditioning=teacher.config.conditioning)
    student = IAFWaveNet(config, teacher.encoder).double()
    objective = ObjectiveConfig().build(teacher, student, 8000)
    with FlopCounterMode(display=False) as counted:
        objective(x, context, shape=(BATCH, LENGTH)).total.backward()
    cost = training_cost.distillation_cost(teacher.config, config, BATCH, LENGTH)
    assert cost.flops == counted.get_total_flops()
    assert cost.reduced_bytes == 4 * sum(p.numel() for p in student.parameters())


@pytest.mark.parametrize("channels", [16, 48])
def test_what_the_backward_pass_finds_kept(channels: int) -> None:
    teacher = teacher_of("mels", channels=channels, layers=8)
    x, context = material(teacher)
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _held = teacher.log_prob(x, context)
    cost = training_cost.likelihood_cost(teacher.config, BATCH, LENGTH, bytes_per_value=8)
    assert cost.activation_bytes == pytest.approx(sum(kept.values()), rel=0.15)


def test_a_ring_costs_nothing_alone_and_at_most_twice_the_bytes() -> None:
    device = ACCELERATORS["H100"]
    assert sum_seconds(10**9, 1, device) == 0
    inside, outside = (sum_seconds(10**9, n, device) for n in (8, 64))
    assert inside == pytest.approx(2 * 7 / 8 * 1e9 / 450e9 + 14e-5)
    assert outside == pytest.approx(2 * 63 / 64 * 1e9 / 50e9 + 126e-5)


def test_the_narrowest_gate_sets_the_time() -> None:
    device = ACCELERATORS["H200"]
    small = training_cost.likelihood_cost(WaveNetConfig(layers=10), 1, 300)
    assert step_seconds(small, device) == small.kernels * device.launch_s
    wide = WaveNetConfig(layers=10, residual_channels=4096, gate_channels=4096, skip_channels=4096)
    large = training_cost.likelihood_cost(wide, 8, 8000)
    assert step_seconds(large, device) == large.flops / (0.5 * 989e12)


@pytest.mark.parametrize("name", CONDITIONINGS)
def test_the_usual_way_has_the_same_law_and_gradients(name: str) -> None:
    teacher = teacher_of(name)
    with torch.no_grad():
        teacher.gain.fill_(8.0)
        teacher.residual_std.fill_(0.5)
        teacher.predictor.weight.copy_(torch.tensor([[0.1, -0.2, 0.3, 0.4]]))
    x, context = material(teacher)
    plain = Conv1dTeacher(teacher)
    ours, theirs = (m.conditionals(x, context).log_prob(x).sum(-1) for m in (teacher, plain))
    torch.testing.assert_close(theirs, ours)
    ours.sum().backward()
    theirs.sum().backward()
    same = (
        (teacher.output.weight.grad, plain.output.weight.grad.squeeze(-1)),
        (teacher.input.weight.grad, plain.input.weight.grad.squeeze(-1)),
        (teacher.stack.layers[0].out.bias.grad, plain.layers[0].out.bias.grad),
    )
    for a, b in same:
        torch.testing.assert_close(b, a)

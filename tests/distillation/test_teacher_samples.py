"""Terms on samples of the teacher: zero where both agree, and no gradient for the teacher."""

import pytest
import torch
from torch import nn

import wavestill
from wavestill.distillation.teacher_samples import JointForwardKL, Mirrored, is_mirrored
from wavestill.distillation.trial import FrozenTeacher, Trial
from wavestill.models.flows import IAF, MAF, PermutedIAF, PermutedMAF

SIZES = {"num_flows": 3, "hidden": (8,)}


def shaken(flow: nn.Module, strength: float = 0.4) -> nn.Module:
    torch.manual_seed(0)
    for name, weight in flow.named_parameters():
        if ".net." in name:
            nn.init.normal_(weight, std=strength)
    return flow


def trial(teacher: nn.Module, student: nn.Module, num: int = 64) -> Trial:
    torch.manual_seed(1)
    draw = student.rsample(torch.randn(num, student.num_dims))
    return Trial(draw, None, FrozenTeacher(teacher), student, None, None)


def test_forward_kl_is_that_of_two_normals() -> None:
    student = IAF(3, **SIZES)
    student.log_scale.fill_(0.3)
    value = float(JointForwardKL()(trial(MAF(3), student, 20_000)).detach())
    expected = 0.3 + 0.5 * float(torch.tensor(-0.6).exp()) - 0.5  # per dimension
    assert value == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        (PermutedMAF(4, **SIZES), PermutedIAF(4, **SIZES), True),
        (MAF(4, **SIZES), IAF(4, bins=4, **SIZES), True),
        (PermutedMAF(4, **SIZES), PermutedIAF(4, num_flows=2), False),
        (PermutedMAF(4, **SIZES), IAF(4, **SIZES), False),
        (PermutedMAF(4, passes=2, **SIZES), PermutedIAF(4, **SIZES), False),
        (PermutedIAF(4, **SIZES), PermutedIAF(4, **SIZES), False),
    ],
)
def test_mirror_images_are_known(teacher: nn.Module, student: nn.Module, expected: bool) -> None:
    assert is_mirrored(teacher, student) == expected


def test_a_mirror_image_has_no_loss_and_others_have() -> None:
    teacher, student = PermutedMAF(4, **SIZES), PermutedIAF(4, **SIZES)
    for model in (teacher, student):
        model.loc.fill_(1.5)
    student.log_scale.fill_(0.7)
    teacher.log_scale.fill_(0.7)
    assert float(Mirrored()(trial(teacher, student)).detach()) == pytest.approx(0.0, abs=1e-10)
    other = shaken(PermutedMAF(4, **SIZES))
    loss = Mirrored()(trial(other, student))
    assert float(loss.detach()) > 0.1
    loss.backward()
    assert all(weight.grad is None for weight in other.parameters())
    assert any(weight.grad is not None for weight in student.parameters())


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("bins", [None, pytest.param(8, marks=pytest.mark.slow)])
def test_a_bent_teacher_is_taken_over_map_by_map(bins: int | None) -> None:
    teacher = shaken(PermutedMAF(3, num_flows=2, hidden=(8,)), 0.25)
    student = PermutedIAF(3, num_flows=2, hidden=(32,), bins=bins)
    _, history = wavestill.distill(
        teacher, student, max_steps=250, learning_rate=1e-2, averaging=0.97, validation_clips=1024
    )
    assert history.column("mirrored")[0] > 10 * history.last("mirrored")
    assert 3 * history.last("valid_kl_nats") < 0.03

"""The gated layer's own forward and backward are those that PyTorch records, to rounding."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from wavestill.nn import fused_gated, gated
from wavestill.nn.conditioning import Encoded
from wavestill.nn.gated import GatedStack
from wavestill.nn.onednn import onednn_fuses

pytestmark = pytest.mark.skipif(
    not onednn_fuses(torch.float32), reason="PyTorch was built without oneDNN"
)


class Case(NamedTuple):
    """A stack and its conditioning."""

    skip_channels: int = 6
    filter_width: int = 3
    num_rows: int | None = 40
    num_samples: int = 400


CASES = {
    "a teacher's": Case(),
    "a student's": Case(skip_channels=0),
    "one row for all": Case(num_rows=1),
    "unconditional": Case(num_rows=None),
    "filter of two": Case(filter_width=2),
    "of a prime length": Case(num_rows=None, num_samples=397),
}


def gradients(case: Case, dtype: torch.dtype, *, fused: bool, autocast: bool = False):
    """Output, and gradients of input, rows and weights; always of the same model."""
    torch.manual_seed(0)
    width = 5 if case.num_rows else 0
    stack = GatedStack(4, 3, 8, 7, case.skip_channels, case.filter_width, width).to(dtype)
    h = torch.randn(2, case.num_samples, 8, dtype=torch.float64).to(dtype).requires_grad_()
    inputs, encoded = [h, *stack.parameters()], None
    if case.num_rows:
        rows = torch.randn(2, case.num_rows, 5, dtype=torch.float64).to(dtype).requires_grad_()
        subframe = 0 if case.num_rows == 1 else case.num_samples // case.num_rows
        encoded = Encoded(rows, subframe)
        inputs.append(rows)
    with pytest.MonkeyPatch.context() as patch:
        if not fused:
            patch.setattr(gated, "can_fuse", lambda *_: False)
        with torch.autocast("cpu", enabled=autocast):
            out = stack(h, encoded)
        loss = (out.double() * torch.rand(out.shape, dtype=torch.float64)).sum()
        found = torch.autograd.grad(loss, inputs, allow_unused=True)
    return [out.detach(), *(x for x in found if x is not None)]


def error(found: list[Tensor], exact: list[Tensor]) -> float:
    """Root mean square of the tensors' relative errors."""
    pairs = zip(found, exact, strict=True)
    errors = [float((a.double() - b).norm() / b.norm()) for a, b in pairs]
    return float(torch.tensor(errors).square().mean().sqrt())


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_it_rounds_no_worse_than_recorded_operations(name: str, *, autocast: bool) -> None:
    if autocast and not onednn_fuses(torch.bfloat16):
        pytest.skip("no bfloat16 on this processor")
    case = CASES[name]
    exact = gradients(case, torch.float64, fused=False)
    fused, recorded = (
        error(gradients(case, torch.float32, fused=fused, autocast=autocast), exact)
        for fused in (True, False)
    )
    assert fused < (1.25 * recorded if autocast else 1e-6)


def test_it_is_used_where_a_float32_stack_learns_and_nowhere_else() -> None:
    h, rows = torch.randn(1, 20, 8), torch.randn(1, 4, 14)
    assert fused_gated.can_fuse(h, rows, 5)
    assert not fused_gated.can_fuse(h.double(), rows.double(), 5)
    assert not fused_gated.can_fuse(h[:, 1:], rows, 5)  # begins within a sub-frame
    with torch.no_grad():
        assert not fused_gated.can_fuse(h, rows, 5)


def test_frozen_weights_have_no_gradient_and_change_no_other() -> None:
    stack = GatedStack(3, 3, 8, 7, 6, 3)
    h = torch.randn(2, 64, 8, requires_grad=True)
    (learning,) = torch.autograd.grad(stack(h, None).sum(), h)
    stack.requires_grad_(requires_grad=False)
    (frozen,) = torch.autograd.grad(stack(h, None).sum(), h)
    assert torch.equal(learning, frozen)


def test_a_gradient_has_a_gradient() -> None:
    def penalty(dtype: torch.dtype) -> list[Tensor]:
        torch.manual_seed(0)
        stack = GatedStack(3, 3, 4, 4, 4, 3, 2).to(dtype)
        h = torch.randn(1, 30, 4, dtype=torch.float64).to(dtype).requires_grad_()
        rows = torch.randn(1, 6, 2, dtype=torch.float64).to(dtype).requires_grad_()
        out = stack(h, Encoded(rows, 5))
        (slope,) = torch.autograd.grad(out.square().sum(), h, create_graph=True)
        loss = slope.square().sum()
        return list(torch.autograd.grad(loss, [h, rows, *stack.parameters()], allow_unused=True))

    found = [x for x in penalty(torch.float32) if x is not None]
    exact = [x for x in penalty(torch.float64) if x is not None]
    # A bias that shifts the output alone has no second derivative to be relative to.
    assert error(found, exact) < 1e-5
    assert len(found) > 10

"""Masked networks: the Jacobian is sparse exactly where the order demands it."""

import pytest
import torch

from wavestill.nn.masked import MaskedLinear, MaskedNetwork

SHAPES = {
    "one layer": ((12,), 1, 0),
    "two layers": ((12, 9), 3, 0),
    "narrow": ((2, 3), 2, 0),
    "direct alone": ((), 2, 0),
    "context": ((12, 10), 2, 3),
}


def random_network(name, num_inputs=6):
    hidden, num_outputs, num_context = SHAPES[name]
    net = MaskedNetwork(num_inputs, hidden, num_outputs, num_context).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    x = torch.randn(num_inputs, dtype=torch.float64)
    context = torch.randn(1, num_context, dtype=torch.float64) if num_context else None
    return net, x, context


@pytest.mark.parametrize("name", SHAPES)
def test_the_jacobian_is_strictly_triangular_and_full_below(name):
    net, x, context = random_network(name)
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v.unsqueeze(0), context)[0], x)
    assert jacobian.shape == (6, SHAPES[name][1], 6)
    below = torch.ones(6, 6, dtype=torch.bool).tril(-1)
    for outputs in jacobian.unbind(1):
        assert torch.equal(outputs != 0, below), "0 exactly from the diagonal on, nowhere before"


@pytest.mark.parametrize("name", SHAPES)
def test_outputs_before_a_change_are_equal_to_the_bit(name):
    net, x, context = random_network(name)
    for t in range(6):
        other = x.clone()
        other[t:] = torch.randn(6 - t, dtype=torch.float64)
        one, two = (net(v.unsqueeze(0), context)[0] for v in (x, other))
        assert torch.equal(one[: t + 1], two[: t + 1])
        assert t == 5 or not torch.equal(one[t + 1], two[t + 1])


def test_a_context_reaches_every_output():
    net, x, context = random_network("context")
    torch.nn.init.zeros_(net.direct.weight)  # through the hidden layers too
    jacobian = torch.autograd.functional.jacobian(lambda c: net(x.unsqueeze(0), c)[0], context)
    assert bool((jacobian != 0).all())


def test_one_input_has_no_past():
    net, x, _ = random_network("two layers", num_inputs=1)
    assert torch.equal(net(x.unsqueeze(0)), net(x.unsqueeze(0) + 1))


def test_masked_weights_take_no_gradient():
    layer = MaskedLinear(torch.arange(4), torch.arange(4), strict=True)
    layer(torch.randn(5, 4)).sum().backward()
    assert bool((layer.weight.grad[~layer.mask] == 0).all())
    assert int(layer.mask.sum()) == 6


def test_a_layer_without_units_is_refused():
    with pytest.raises(ValueError, match=r"'hidden' is \[4, 0\]"):
        MaskedNetwork(3, (4, 0), 1)

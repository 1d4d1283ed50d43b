"""Both models against a second writing of their equations: Conv1d layout, no state, no sharing."""

import pytest
import torch
from torch.nn.functional import conv1d, linear, pad, relu, softplus

from tests.models.table import HOP, STUDENTS, TEACHERS
from wavestill.distributions import standard_noise

T = 6 * HOP


def gated_stack(stack, signal, features):
    """WaveNet, equations 2 and 5, over `(B, C, T)`: the residual path and the skip sum."""
    h, skips = signal, 0.0
    for i, layer in enumerate(stack.layers):
        conv, channels = layer.conv, h.shape[1]
        taps = conv.taps.weight.view(-1, conv.filter_width, channels).transpose(1, 2)
        a = conv1d(pad(h, (conv.reach, 0)), taps, conv.taps.bias, dilation=conv.dilation)
        if features is not None:  # (B, C, T), already repeated to samples
            v = stack.project.weight.chunk(len(stack.layers))[i]
            a = a + conv1d(features, v.unsqueeze(-1))
        filtered, gate = a.split(a.shape[1] // 2, dim=1)
        out = linear((filtered.tanh() * gate.sigmoid()).mT, layer.out.weight, layer.out.bias).mT
        h, skips = h + out[:, :channels], skips + out[:, channels:]
    return h, skips


def conditioned(model, context, signal):
    """`signal (B, T)` with the harmonic source below it, and each sample's features."""
    encoded = model.encode(context)
    signal = signal.unsqueeze(1)
    if encoded is None:
        return signal, None
    features = encoded.features.mT.repeat_interleave(max(1, encoded.subframe_samples), dim=2)
    features = features.expand(-1, -1, T)
    source = encoded.source
    return signal if source is None else torch.cat([signal, source.mT], 1), features


def network_input(layer, signal):
    return linear(signal.mT, layer.weight, layer.bias).mT


def delayed(x):
    return pad(x, (1, 0))[:, :-1]


@pytest.mark.parametrize("name", [name for name in TEACHERS if name != "mulaw"])
def test_wavenet_is_the_papers(name):
    case = TEACHERS[name]
    model, context = case.model(), case.context(2, 6)
    model.residual_std.fill_(0.4)
    x = 0.2 * torch.randn(2, T, dtype=torch.float64)

    signal, features = conditioned(model, context, delayed(model.gain * x))
    _, skips = gated_stack(model.stack, network_input(model.input, signal), features)
    hidden = relu(linear(relu(skips).mT, model.hidden.weight, model.hidden.bias))
    out = linear(hidden, model.output.weight, model.output.bias)
    mean = torch.zeros_like(x)  # sum_i a_i x_{t-i}
    for i in range(1, model.config.predictor_order + 1):
        mean += model.predictor.weight[0, -i] * pad(x, (i, 0))[:, :T]
    unit = model.residual_std / model.gain
    if model.config.head == "gaussian":
        loc, scale = mean + unit * out[..., 0], unit * out[..., 1].exp()
        expected = torch.distributions.Normal(loc, scale).log_prob(x)
        ours = model.conditionals(x, context).log_prob(x)
    else:
        logits, loc, log_scale = out.chunk(3, dim=-1)
        loc, scale = mean.unsqueeze(-1) + unit * loc, unit * log_scale.exp()
        law = model.conditionals(x, context)
        z = (x.unsqueeze(-1) - loc) / scale
        log_terms = logits.log_softmax(-1) - z - 2 * softplus(-z) - scale.log()
        expected = log_terms.logsumexp(-1)
        ours = getattr(law, "continuous", law).log_prob(x)
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", STUDENTS)
def test_iaf_wavenet_is_the_papers(name):
    case = STUDENTS[name]
    model, context = case.model(), case.context(2, 6)
    noise = standard_noise(model.base, (2, T), dtype=torch.float64)

    x, log_scales = noise, torch.zeros_like(noise)
    for flow in model.flows:
        signal, features = conditioned(model, context, delayed(x))
        h, _ = gated_stack(flow.stack, network_input(flow.input, signal), features)
        loc, log_scale = linear(relu(h).mT, flow.output.weight, flow.output.bias).unbind(-1)
        x, log_scales = loc + log_scale.exp() * x, log_scales + log_scale

    if model.synthesis is not None:  # x_t = sum_i a_i x_{t-i} + e_t
        residual = x * model.synthesis.residual_std
        log_scales = log_scales + model.synthesis.residual_std.log()
        x = torch.zeros_like(residual)
        for t in range(T):
            past = pad(x, (3, 0))[:, t : t + 3]
            x[:, t] = past @ model.synthesis.taps + residual[:, t]

    draw = model.rsample(noise, context)
    torch.testing.assert_close(draw.x, x / model.gain, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(
        draw.conditionals.log_scale, log_scales - model.gain.log(), rtol=1e-11, atol=1e-11
    )

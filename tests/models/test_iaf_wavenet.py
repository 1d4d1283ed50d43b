"""IAF WaveNet: triangular Jacobian, ladj against autograd, inversion, streaming, its start."""

import pytest
import torch

from tests.models.table import HOP, MEL, PITCH, STUDENTS, TEACHERS
from wavestill.density import InverseAutoregressive
from wavestill.distributions import standard_noise
from wavestill.models import IAFWaveNet, IAFWaveNetConfig

T = 6 * HOP


@pytest.fixture(params=STUDENTS, name="case")
def _case(request):
    return STUDENTS[request.param]


def noise_for(model, batch=2, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return standard_noise(model.base, (batch, T), generator=generator, dtype=torch.float64)


def test_follows_the_protocol(case):
    assert isinstance(case.model(), InverseAutoregressive)


def test_jacobian_is_exactly_triangular_and_ladj_is_its_determinant(case):
    model, context = case.model(), case.context(1, 6)
    noise = noise_for(model, batch=1)
    jacobian = torch.autograd.functional.jacobian(lambda z: model.rsample(z, context).x[0], noise)[
        :, 0
    ]  # (T, T)
    assert torch.equal(jacobian.triu(1), torch.zeros_like(jacobian))
    draw = model.rsample(noise, context)
    ladj = draw.conditionals.log_scale.sum()
    torch.testing.assert_close(
        ladj, torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-10, atol=1e-10
    )
    torch.testing.assert_close(
        draw.conditionals.scale[0], jacobian.diagonal(), rtol=1e-10, atol=1e-10
    )


def test_draws_density_is_the_change_of_variables(case):
    model, context = case.model(), case.context(2, 6)
    noise = noise_for(model)
    draw = model.rsample(noise, context)
    base = type(draw.conditionals)(torch.zeros_like(noise), torch.zeros_like(noise))
    expected = base.log_prob(noise).sum(-1) - draw.conditionals.log_scale.sum(-1)
    torch.testing.assert_close(draw.log_prob, expected)


def test_location_and_scale_of_a_step_see_earlier_noise_only(case):
    model, context = case.model(), case.context(2, 6)
    z = noise_for(model)
    t = 30
    other = z.clone()
    other[:, t:] = noise_for(model, seed=6)[:, t:]
    ours, theirs = (
        model.rsample(z, context).conditionals,
        model.rsample(other, context).conditionals,
    )
    # To the bit; but for the filter's triangular solve, whose rounding hangs on where arrays lie.
    rounding = 0.0 if model.synthesis is None else 1e-13
    past = ours.loc[:, : t + 1], theirs.loc[:, : t + 1]
    torch.testing.assert_close(*past, rtol=0, atol=rounding)
    assert torch.equal(ours.log_scale[:, : t + 1], theirs.log_scale[:, : t + 1])
    assert not torch.equal(ours.loc[:, t + 1 :], theirs.loc[:, t + 1 :])


def test_invert_undoes_rsample(case):
    model, context = case.model(), case.context(2, 6)
    draw = model.rsample(noise_for(model), context)
    back = model.invert(draw.x.detach(), context)
    torch.testing.assert_close(back.noise, draw.noise, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        model.log_prob(draw.x.detach(), context), draw.log_prob, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("chunk", [1, 7, HOP, T])
def test_streaming_equals_the_whole(case, chunk):
    model, context = case.model(), case.context(2, 6)
    noise = noise_for(model)
    whole = model.rsample(noise, context)
    state, parts = None, []
    for start in range(0, T, chunk):
        draw, state = model.stream(noise[:, start : start + chunk], context, state)
        parts.append(torch.stack([draw.x, draw.conditionals.log_scale]))
    expected = torch.stack([whole.x, whole.conditionals.log_scale])
    torch.testing.assert_close(torch.cat(parts, -1), expected, rtol=1e-12, atol=1e-12)


def test_receptive_field_is_exact():
    model = STUDENTS["one-flow"].model()
    z = noise_for(model)
    t = T - 1
    jacobian = torch.autograd.functional.jacobian(lambda v: model.rsample(v).x[0, t], z)[0]
    reach = model.receptive_field
    assert jacobian[t - reach] != 0
    assert torch.equal(jacobian[: t - reach], torch.zeros_like(jacobian[: t - reach]))


def test_paper_configuration_builds_and_runs():
    model = IAFWaveNet(IAFWaveNetConfig())
    assert model.receptive_field == 3 * 2047 + 6139
    assert model.sample(1, length=50).shape == (1, 50)


def test_begins_at_the_datas_scale():
    torch.manual_seed(0)
    data = 0.03 * torch.randn(10_000)
    model = IAFWaveNet(IAFWaveNetConfig(flows=(3, 3, 4), channels=8, base="normal"))
    model.calibrate(data)
    draw = model.rsample(torch.randn(1, 5000))
    torch.testing.assert_close(draw.conditionals.loc, torch.zeros(1, 5000))
    assert float(draw.x.detach().std()) == pytest.approx(0.05 * 0.03, rel=0.05)


def test_conditioning_network_is_copied_or_shared():
    teacher = TEACHERS["mel"].model()
    config = IAFWaveNetConfig(flows=(3,), channels=4, conditioning=MEL)
    for share in (False, True):
        student = IAFWaveNet(config, teacher.encoder, share=share)
        student.calibrate(torch.randn(100), torch.randn(50, 5))
        for name, value in teacher.encoder.state_dict().items():
            torch.testing.assert_close(
                student.encoder.state_dict()[name].double(), value, rtol=1e-6, atol=1e-6
            )
        assert all(p.requires_grad != share for p in student.encoder.parameters())
    with pytest.raises(ValueError, match="is not the student's"):
        IAFWaveNet(IAFWaveNetConfig(flows=(3,), conditioning=PITCH), teacher.encoder)


def test_lengths_that_differ_are_refused():
    case = STUDENTS["mel"]
    model = case.model()
    with pytest.raises(ValueError, match="48 samples but its frames cover 40"):
        model.rsample(noise_for(model), case.context(2, 5))


def test_scales_at_the_extremes_keep_gradients_finite():
    model = STUDENTS["logistic"].model().float()
    noise = torch.full((1, T), 60.0)
    draw = model.rsample(noise)
    (draw.log_prob.sum() + draw.x.square().mean()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_two_streams_do_not_mix(case):
    model, noise = case.model(), noise_for(model=case.model())
    contexts = [case.context(1, 6, seed=s) for s in (0, 1)]
    whole = [model.rsample(noise[i : i + 1], contexts[i]).x for i in (0, 1)]
    states = [model.stream(noise[i : i + 1, :10], contexts[i])[1] for i in (0, 1)]
    for i in (1, 0):
        rest, _ = model.stream(noise[i : i + 1, 10:], contexts[i], states[i])
        torch.testing.assert_close(rest.x, whole[i][:, 10:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["mel", "pitch"])
def test_streams_end_with_their_conditioning(name):
    model, context = STUDENTS[name].model(), STUDENTS[name].context(2, 5)
    with pytest.raises(ValueError, match="runs to sample 48 but its conditioning ends at 40"):
        model.stream(noise_for(model), context)

"""Frames: an exact density of mels, voicing and the F0 of voiced frames; drawn one by one."""

import math

import pytest
import torch

from wavestill.density import Density
from wavestill.distributions import counter_noise
from wavestill.models.frame_prior import FramePrior, FramePriorConfig, FrameSampler

SMALL = {
    "layers": 2,
    "channels": 16,
    "heads": 2,
    "reach_frames": 3,
    "hidden": 12,
    "group_size": 3,
    "num_mixtures": 2,
}
CASES = {
    "mels": {"num_features": 7},
    "one by one": {"num_features": 4, "group_size": 1},
    "pitch": {"num_features": 9, "pitch": True},
    "one mixture": {"num_features": 6, "pitch": True, "num_mixtures": 1, "group_size": 8},
}


def frames_of(config: FramePriorConfig, num: int = 30, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, num, config.num_features)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).cumsum(-1) - 3
    if config.pitch:
        x[..., -1] = (torch.rand(shape[:2], generator=generator) > 0.4).double()
        x[..., -2] = 5 + 0.2 * torch.randn(shape[:2], generator=generator)
    return x


def build(**changes) -> FramePrior:
    """Calibrated, in float64, with every parameter moved off its initial value."""
    torch.manual_seed(1)
    config = FramePriorConfig(**(SMALL | changes))
    prior = FramePrior(config).double().eval()
    prior.calibrate(frames_of(config, 200))
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return prior


@pytest.fixture(params=CASES, name="prior")
def _prior(request):
    return build(**CASES[request.param])


@pytest.mark.parametrize("f", [1, 12, 29])
def test_is_causal_to_the_bit(prior, f):
    x = frames_of(prior.config)
    y = x.clone()
    y[:, f:] = frames_of(prior.config, seed=5)[:, f:]
    before, after = prior.frame_log_probs(x), prior.frame_log_probs(y)
    assert torch.equal(before[:, :f], after[:, :f])
    assert bool((before[:, f:] != after[:, f:]).all())


@pytest.mark.parametrize("name", ["mels", "one by one"])
def test_density_is_that_of_the_samplers_map(name):
    # frames are a differentiable map of normal noise: log p = log N(z) - log |det dx / dz|
    prior = build(**CASES[name])
    width = prior.config.num_features
    z = torch.randn(3 * width, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    step = 1e-5 * torch.eye(len(z), dtype=torch.float64)
    ends = FrameSampler(prior).extend(torch.cat([z + step, z - step]).view(-1, 3, width))
    up, down = ends.flatten(1).chunk(2)
    log_volume = torch.linalg.slogdet((up - down) / 2e-5)[1]
    x = FrameSampler(prior).extend(z.view(1, 3, width))
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum() - log_volume
    assert float(prior.log_prob(x).detach()) == pytest.approx(float(expected), abs=1e-6)


@torch.no_grad()
def test_with_pitch_the_density_integrates_to_one():
    # over the mel, and voiced frames' log F0: the second frame, given a first
    prior = build(num_features=3, pitch=True)
    mels = torch.linspace(-63, 57, 241, dtype=torch.float64)
    f0s = torch.linspace(2, 8, 121, dtype=torch.float64)
    first = frames_of(prior.config, 1)[:1]

    def densities(second: torch.Tensor) -> torch.Tensor:
        x = torch.cat([first.expand(len(second), -1, -1), second.unsqueeze(1)], 1)
        return prior.frame_log_probs(x)[:, 1].exp()

    mel, log_f0 = torch.cartesian_prod(mels, f0s).unbind(1)
    voiced = densities(torch.stack([mel, log_f0, torch.ones_like(mel)], -1)).sum() * 0.05
    unvoiced = densities(torch.stack([mels, 5 + 0 * mels, 0 * mels], -1)).sum()
    total = 0.5 * (voiced + unvoiced)
    assert float(total) == pytest.approx(1, abs=1e-4)  # F0's tails go on


def test_f0_counts_where_there_is_a_voice_only():
    prior = build(**CASES["pitch"])
    x = frames_of(prior.config)
    is_voiced = x[..., -1] > 0.5
    other = x.clone()
    other[..., -2] = torch.where(is_voiced, x[..., -2], 4.0)
    assert torch.equal(prior.log_prob(x), prior.log_prob(other))
    other[..., -2] = torch.where(is_voiced, 4.0, x[..., -2])
    assert bool((prior.log_prob(x) != prior.log_prob(other)).all())


def test_drawn_one_by_one_equals_drawn_together(prior):
    config = prior.config
    z = torch.randn(3, 8, config.num_features, dtype=torch.float64)
    whole, sampler = FrameSampler(prior).extend(z), FrameSampler(prior)
    parts = [sampler.extend(part) for part in torch.split(z, [1, 4, 3], dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-10, atol=1e-10)
    alone = FrameSampler(prior).extend(z[1:2])
    torch.testing.assert_close(alone, whole[1:2], rtol=1e-10, atol=1e-10)
    if config.pitch:  # F0 stands still where there is no voice
        f0, voicing = whole[..., -2], whole[..., -1]
        assert bool(((voicing == 0) | (voicing == 1)).all())
        still = (f0[:, 1:] - f0[:, :-1]).abs() < 1e-12
        assert bool((still == (voicing[:, 1:] == 0)).all())


def test_streamed_frames_are_of_counted_noise_that_decoders_do_not_use(prior):
    width = prior.config.num_features
    streamed = torch.cat(list(prior.stream(4, seed=3, temperature=0.8)))
    own, decoders = (
        counter_noise("normal", 3, 1, 4 * width, first_stream=i, dtype=torch.float64)
        for i in (1, 0)
    )
    drawn = FrameSampler(prior).extend(0.8 * own.view(1, 4, width))
    torch.testing.assert_close(streamed, drawn[0], rtol=1e-10, atol=1e-10)
    assert not torch.equal(own, decoders)


@pytest.mark.parametrize("num_mixtures", [1, 3])
def test_samples_have_the_moments_of_the_process(num_mixtures):
    # With nothing learned and equal widths, each component is u' = a u + r e from 0.
    prior = build(num_features=3, num_mixtures=num_mixtures)
    with torch.no_grad():
        prior.out.zero_()
        prior.bias.zero_()
    z = prior.sample(2000, length=3, generator=torch.Generator().manual_seed(0))
    u = prior.components(z).components
    unit, decay = prior.log_residual.detach().exp(), prior.decay.detach()
    variance = unit**2
    for f in range(3):
        covariance = u[:, f].T @ u[:, f] / len(u)
        error = 4 * ((variance.outer(variance) + torch.diag(variance**2)) / len(u)).sqrt()
        assert bool(((covariance - torch.diag(variance)).abs() < error).all())
        variance = decay**2 * variance + unit**2


def test_a_voice_comes_as_often_as_its_law_says():
    prior = build(**CASES["pitch"])
    with torch.no_grad():
        prior.out.zero_()
        prior.bias[0, 0] = math.log(3)
    voicing = prior.sample(2000, length=1, generator=torch.Generator().manual_seed(0))[..., -1]
    assert float(voicing.mean()) == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 2000) ** 0.5)


def test_calibrated_changes_are_uncorrelated_and_of_unit_size():
    config = FramePriorConfig(**(SMALL | CASES["mels"]))
    prior = FramePrior(config).double()
    x = frames_of(config, 200)
    prior.calibrate(x)
    u = prior.components(x).components
    change = (u[:, 1:] - u[:, :-1]).flatten(0, 1)
    eye = torch.eye(7, dtype=torch.float64)
    torch.testing.assert_close(change.T @ change / len(change), eye, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        prior.components.turn @ prior.components.back, eye, rtol=1e-9, atol=1e-9
    )


def test_follows_the_protocol_and_has_gradients(prior):
    assert isinstance(prior, Density)
    prior.log_prob(frames_of(prior.config)).sum().backward()
    for name, parameter in prior.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name


def test_what_makes_no_sense_is_refused():
    prior = build(**CASES["pitch"])
    x = frames_of(prior.config)
    with pytest.raises(ValueError, match="this density is of frames alone"):
        prior.log_prob(x, torch.zeros(2))
    with pytest.raises(ValueError, match=r"the model is of \(batch, frames, 9\)"):
        prior.log_prob(x[..., 1:])
    with pytest.raises(ValueError, match="not all 0 or 1 but stands for voicing"):
        prior.log_prob(x.flip(-1))
    with pytest.raises(ValueError, match="'length' is None"):
        prior.sample(1)
    with pytest.raises(ValueError, match="4 changes from frame to frame do not tell the axes"):
        prior.calibrate(x[:1, :5])
    with pytest.raises(ValueError, match="'group_size' is 0"):
        FramePriorConfig(9, group_size=0)
    with pytest.raises(ValueError, match="leaves no mels"):
        FramePrior(FramePriorConfig(2, pitch=True))

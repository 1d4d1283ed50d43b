"""Exact samplers: one map from noise to samples, whatever the order of computation."""

import pytest
import torch

from tests.models.table import HOP, TEACHERS
from wavestill.distributions import standard_noise
from wavestill.sampling import cached, naive

T = 8 * HOP


@pytest.mark.parametrize("name", TEACHERS)
def test_naive_equals_cached(name):
    case = TEACHERS[name]
    model, context = case.model(), case.context(2, 8)
    generator = torch.Generator().manual_seed(7)
    noise = standard_noise(model.base, (2, T), generator=generator, dtype=torch.float64)
    slow, fast = naive(model, noise, context), cached(model, noise, context)
    assert model.receptive_field + 2 < T  # the window does slide
    torch.testing.assert_close(slow, fast, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["gaussian", "logistics", "pitch"])
def test_the_sample_solves_its_own_map(name):
    case = TEACHERS[name]
    model, context = case.model(), case.context(2, 8)
    noise = standard_noise(model.base, (2, T), dtype=torch.float64)
    x = cached(model, noise, context)
    torch.testing.assert_close(
        model.conditionals(x, context).from_noise(noise), x, rtol=1e-9, atol=1e-9
    )


def test_gaussian_samples_have_the_laws_moments():
    model = TEACHERS["gaussian"].model()
    x = model.sample(4000, length=2, generator=torch.Generator().manual_seed(0))
    law = model.conditionals(x[:1])[:, 0].detach()
    # Four standard errors of the mean and of the standard deviation.
    assert float(x[:, 0].mean()) == pytest.approx(
        float(law.loc), abs=4 * float(law.scale) / 4000**0.5
    )
    assert float(x[:, 0].std()) == pytest.approx(float(law.scale), rel=4 / (2 * 4000) ** 0.5)


def test_same_seed_same_sound_and_progress_is_told():
    model = TEACHERS["logistics16"].model()
    first, second = (
        model.sample(1, length=20, generator=torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first, second)
    steps: list[int] = []
    cached(model, torch.zeros(1, 5, dtype=torch.float64), progress=steps.append)
    assert steps == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("sampler", [naive, cached])
def test_noise_that_makes_no_sample_is_refused(sampler):
    model = TEACHERS["gaussian"].model()
    with pytest.raises(ValueError, match="at least one step"):
        sampler(model, torch.zeros(1, 0, dtype=torch.float64))
    with pytest.raises(ValueError, match="2 values of the noise are not finite"):
        sampler(model, torch.tensor([[0.0, float("nan"), float("inf")]], dtype=torch.float64))

"""Noise from a counter: the base law, and the same however it is cut."""

import pytest
import torch
from scipy import stats

from wavestill.distributions import counter_noise


@pytest.mark.parametrize("base", ["logistic", "normal"])
def test_any_stretch_is_part_of_the_whole(base):
    whole = counter_noise(base, 5, 3, 41, dtype=torch.float64)
    for start in range(9):
        part = counter_noise(
            base, 5, 2, 41 - start, start=start, first_stream=1, dtype=whole.dtype
        )
        assert torch.equal(part, whole[1:, start:])


@pytest.mark.parametrize("base", ["logistic", "normal"])
def test_has_the_base_law(base):
    z = counter_noise(base, 3, 4, 20_000, dtype=torch.float64)
    law = {"logistic": stats.logistic, "normal": stats.norm}[base]
    for stream in z:
        assert stats.kstest(stream.numpy(), law.cdf).pvalue > 1e-3
    correlation = torch.corrcoef(z) - torch.eye(4, dtype=z.dtype)
    assert correlation.abs().max() < 4 / 20_000**0.5
    assert float(torch.corrcoef(torch.stack([z[0, 1:], z[0, :-1]]))[0, 1]) < 4 / 20_000**0.5


def test_seeds_and_streams_differ():
    draws = [counter_noise("normal", seed, 2, 8) for seed in (0, 1, 2**64 - 1)]
    rows = torch.cat(draws)
    assert len({tuple(row.tolist()) for row in rows}) == 6


def test_no_steps_are_no_noise():
    assert counter_noise("normal", 0, 2, 0).shape == (2, 0)

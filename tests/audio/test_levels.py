"""Loudness and dither."""

import numpy as np
import pytest

from wavestill.audio.levels import find_level, quantise, rms_dbfs


def test_rms_is_about_the_mean_and_that_of_full_scale_is_zero_db():
    square = np.tile(np.float32([1, -1]), 500)
    assert rms_dbfs(square) == pytest.approx(0)
    assert rms_dbfs(square / 10 + 0.5) == pytest.approx(-20, abs=1e-4)
    assert rms_dbfs(np.full(100, 0.3, np.float32)) == -np.inf


def test_the_level_is_reached_unless_the_peak_forbids(voice):
    wave = voice()
    gain_db, limited = find_level(wave, -23.0)
    assert not limited
    assert rms_dbfs(wave * 10 ** (gain_db / 20)) == pytest.approx(-23.0, abs=1e-4)
    wave[100] = 0.9
    gain_db, limited = find_level(wave, -10.0)
    assert limited
    assert np.abs(wave * 10 ** (gain_db / 20)).max() == pytest.approx(10 ** (-1 / 20))


@pytest.mark.parametrize("offset", [0.0, 0.25, 0.5, 0.8])
def test_dither_makes_the_error_independent_of_the_sound(offset):
    """Its mean is 0 and its variance 1/4 wherever between two levels the sound lies."""
    num = 200_000
    level = quantise(np.full(num, (100 + offset) / 32768), key="a", seed=0)
    error = level - (100 + offset)
    assert abs(error.mean()) < 5 * 0.5 / num**0.5
    assert error.var() == pytest.approx(0.25, abs=5 * 0.25 * (2 / num) ** 0.5)


def test_dither_is_a_function_of_seed_and_key(voice):
    wave = voice()
    first = quantise(wave, key="a", seed=0)
    assert first.dtype == np.int16
    np.testing.assert_array_equal(first, quantise(wave, key="a", seed=0))
    assert (first != quantise(wave, key="b", seed=0)).any()
    assert (first != quantise(wave, key="a", seed=1)).any()
    assert np.abs(first - wave * 32768).max() <= 1.5


def test_full_scale_does_not_wrap_round():
    levels = quantise(np.float32([1.0, -1.0] * 50), key="a", seed=0)
    assert (levels[::2] > 32000).all()
    assert (levels[1::2] < -32000).all()

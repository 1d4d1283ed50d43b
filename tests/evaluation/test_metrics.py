import numpy as np
import pytest

from wavestill.evaluation import metrics
from wavestill.evaluation.metrics import UndefinedMetric, compare, mcd_db, mel_distance_db

from .conftest import voice_like

LESS_IS_BETTER = ("mel_distance_db", "mcd_db", "f0_rmse_cents", "voicing_error")


def noisy(wave, level, seed=0):
    return (wave + level * np.random.default_rng(seed).normal(size=len(wave))).astype(np.float32)


def test_a_sound_is_no_distance_from_itself(wave, spec):
    values, reasons = compare(wave, wave, spec)
    assert not reasons
    assert {name: values[name] for name in LESS_IS_BETTER} == dict.fromkeys(LESS_IS_BETTER, 0.0)
    assert values["std_over_data"] == 1
    assert values["stoi"] == pytest.approx(1, abs=1e-6)
    assert values["pesq"] > 4.4
    assert values["harmonicity"] > 0.8


def test_more_noise_is_worse_by_every_metric(wave, spec):
    little, much = (compare(wave, noisy(wave, level), spec)[0] for level in (0.003, 0.1))
    for name in ("mel_distance_db", "mcd_db"):
        assert little[name] < much[name]
    for name in ("pesq", "stoi", "harmonicity"):
        assert little[name] > much[name]


def test_a_gain_moves_the_mel_distance_by_its_decibels_and_leaves_the_cepstra(spec):
    noise = noisy(np.zeros(8000), 0.1)
    assert mel_distance_db(noise, 0.5 * noise, spec) == pytest.approx(20 * np.log10(2), abs=1e-6)
    assert mcd_db(noise, 0.5 * noise, spec) == pytest.approx(0, abs=1e-6)


def test_with_all_cepstra_mcd_is_the_log_spectral_distance_without_its_mean(wave, spec):
    other = noisy(wave, 0.02)
    difference = metrics._audible_db(wave, other, spec)
    expected = np.std(difference, axis=1).mean()
    assert mcd_db(wave, other, spec, num_cepstra=spec.num_mels - 1) == pytest.approx(
        expected, rel=1e-9
    )
    assert 0 < mcd_db(wave, other, spec) < expected


def test_what_lies_far_below_the_loudest_is_not_compared(spec):
    spec = type(spec)(**{**spec.to_dict(), "floor": 1e-12})
    burst = noisy(np.zeros(8000), 0.3) * (np.arange(8000) < 4000)
    faint = (burst + noisy(np.zeros(8000), 1e-5)).astype(np.float32)
    assert mel_distance_db(burst, faint, spec) < 0.05
    assert mel_distance_db(burst, noisy(burst, 1e-2), spec) > 5


def test_an_octave_is_1200_cents(spec):
    t = np.arange(8000) / 8000
    low, high = (
        sum(0.05 * np.sin(2 * np.pi * f * k * t) for k in range(1, 6)) for f in (110, 220)
    )
    assert metrics.f0_rmse_cents(low, high, spec) == pytest.approx(1200, abs=5)


def test_both_logarithms_give_the_same_decibels(wave, spec):
    decimal = type(spec)(**{**spec.to_dict(), "log": "log10"})
    other = noisy(wave, 0.01)
    assert mel_distance_db(wave, other, decimal) == pytest.approx(
        mel_distance_db(wave, other, spec), rel=1e-9
    )


BROKEN = {
    "silent": lambda x: np.zeros_like(x),
    "constant": lambda x: np.full_like(x, 0.3),
    "not finite": lambda x: np.where(np.arange(len(x)) == 5, np.nan, x),
    "far too loud": lambda x: 1e6 * x,
    "one click": lambda x: np.eye(1, len(x), 100, dtype=np.float32)[0],
}


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
@pytest.mark.parametrize("broken", BROKEN)
def test_broken_copies_give_finite_figures_or_reasons(broken, rate, spec):
    wave = voice_like(1.6, seed=2, rate=rate)
    spec = type(spec)(
        **{
            **spec.to_dict(),
            "sample_rate": rate,
            "hop_samples": rate // 100 // 2 * 2,
            "n_fft": 512,
            "win_samples": 512,
        }
    )
    values, reasons = compare(wave, BROKEN[broken](wave).astype(np.float32), spec)
    assert all(np.isfinite(value) for value in values.values())
    assert values.keys() | reasons.keys() == compare(wave, wave, spec)[0].keys()
    assert not values.keys() & reasons.keys()


@pytest.mark.parametrize("num_samples", [1, 50, 400, 1000, 2500])
def test_short_clips_and_silent_recordings_have_reasons(wave, spec, num_samples):
    for reference in (wave, np.zeros_like(wave)):
        values, reasons = compare(reference[:num_samples], wave[:num_samples], spec)
        assert all(np.isfinite(value) for value in values.values())
        assert "stoi" in reasons
        assert all(reason and "\n" not in reason for reason in reasons.values())


def test_pesq_says_in_words_why_it_has_no_value(wave):
    with pytest.raises(UndefinedMetric, match="quarter of a second"):
        metrics.pesq(wave[:1000], wave[:1000], 8000)
    with pytest.raises(UndefinedMetric, match="silent"):
        metrics.pesq(wave, 0 * wave, 8000)


def test_metrics_without_their_library_are_left_out(wave, spec, monkeypatch):
    find_spec = metrics.importlib.util.find_spec
    monkeypatch.setattr(
        metrics.importlib.util,
        "find_spec",
        lambda name: None if name == "pesq" else find_spec(name),
    )
    values, reasons = compare(wave, wave, spec)
    assert metrics.missing_libraries() == {"pesq": "pesq"}
    assert "pesq" not in values.keys() | reasons.keys()
    assert "stoi" in values


def test_copies_of_another_length_are_refused(wave, spec):
    with pytest.raises(ValueError, match="12800 samples and its copy 100"):
        compare(wave, wave[:100], spec)

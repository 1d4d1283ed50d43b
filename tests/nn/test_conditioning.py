"""From frames to samples: instants, phases without seams, rows where they belong."""

import math

import pytest
import torch

from wavestill.density import Conditioning
from wavestill.nn.conditioning import (
    ConditioningConfig,
    Encoded,
    FrameEncoder,
    add_rows,
    harmonic_source,
)


@pytest.mark.parametrize(
    ("rate", "hop", "expected"),
    [(8000, 100, 10), (16000, 200, 25), (24000, 300, 30), (22050, 256, 32)],
)
def test_subframes_last_one_to_two_milliseconds(rate, hop, expected):
    config = ConditioningConfig(num_features=2, hop_samples=hop, sample_rate=rate)
    assert config.resolved_subframe_samples == expected
    assert 0.001 < expected / rate <= 0.002


@pytest.mark.parametrize("lead", range(4))
@pytest.mark.parametrize("n", [1, 2, 3, 8, 12])
def test_each_sample_gets_its_own_row(lead, n):
    rows = torch.arange(6.0).view(1, 6, 1)
    x = torch.zeros(1, n, 1)
    encoded = Encoded(rows, subframe_samples=4, offset_samples=4 + lead)
    window, first = encoded.rows(n)
    got = add_rows(x, window, 4, first)[0, :, 0]
    expected = torch.tensor([float((4 + lead + i) // 4) for i in range(n)])
    assert torch.equal(got, expected)


def test_conditioning_that_ends_too_early_is_refused():
    encoded = Encoded(torch.zeros(1, 3, 2), subframe_samples=4)
    with pytest.raises(ValueError, match="runs to sample 13 but its conditioning ends at 12"):
        encoded.rows(13)


def test_rows_interpolate_between_frame_centres():
    config = ConditioningConfig(
        num_features=1, hop_samples=8, sample_rate=4000, channels=1, subframe_samples=2
    )
    encoder = FrameEncoder(config)
    with (
        torch.no_grad()
    ):  # both convolutions pass the middle frame on, and leaky ReLU passes positives
        for conv in (encoder.near, encoder.wide):
            conv.weight.copy_(torch.tensor([[[0.0, 1.0, 0.0]]]))
            conv.bias.zero_()
    frames = torch.tensor([10.0, 20.0, 40.0]).view(1, 3, 1)
    rows = encoder(frames).features[0, :, 0]
    # Sub-frames are centred at 1, 3, 5, ... samples, frames at 4, 12, 20.
    at = [10 + (c - 4) * 10 / 8 if c < 12 else 20 + (c - 12) * 20 / 8 for c in range(1, 24, 2)]
    expected = torch.tensor(at).clamp(10, 40)
    torch.testing.assert_close(rows, expected)


def test_frames_are_normalised_by_the_data():
    encoder = FrameEncoder(
        ConditioningConfig(num_features=3, hop_samples=4, sample_rate=4000, channels=2)
    )
    frames = torch.randn(500, 3) * torch.tensor([2.0, 5.0, 0.0]) + 7
    encoder.calibrate(frames)
    shifted = FrameEncoder(encoder.config)
    shifted.load_state_dict(encoder.state_dict())
    shifted.calibrate(torch.randn(500, 3))
    assert torch.isfinite(encoder(frames[None, :9]).features).all()
    assert not torch.allclose(
        encoder(frames[None, :9]).features, shifted(frames[None, :9]).features
    )


def test_harmonic_source_is_the_harmonics_of_f0():
    rate, hop, f0 = 8000, 80, 200.0
    log_f0 = torch.full((1, 10), math.log(f0), dtype=torch.float64)
    source = harmonic_source(log_f0, torch.ones(1, 10), hop, rate, 3)
    t = torch.arange(1, 801, dtype=torch.float64) / rate
    for k in (1, 2, 3):
        torch.testing.assert_close(
            source[0, :, k - 1], (2 * math.pi * k * f0 * t).sin(), atol=1e-9, rtol=0
        )
        torch.testing.assert_close(
            source[0, :, k + 2], (2 * math.pi * k * f0 * t).cos(), atol=1e-9, rtol=0
        )


def test_harmonic_source_is_silent_unvoiced_and_above_half_the_rate():
    log_f0 = torch.full((1, 4), math.log(1500.0))
    voicing = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    source = harmonic_source(log_f0, voicing, 10, 4000, 2)
    assert torch.equal(source[0, 10:30], torch.zeros(20, 4))
    assert torch.equal(
        source[..., [1, 3]], torch.zeros(1, 40, 2)
    )  # 3,000 Hz does not exist at 4 kHz
    assert source[0, :10, 0].abs().max() > 0.1


def test_harmonic_phase_holds_over_long_sound():
    rate, hop = 16000, 200
    log_f0 = torch.full((1, 80 * 600), math.log(100.0), dtype=torch.float64)  # ten minutes
    source = harmonic_source(log_f0, torch.ones_like(log_f0), hop, rate, 1)
    torch.testing.assert_close(source[0, -160:, 0], source[0, :160, 0], atol=1e-3, rtol=0)


def test_speaker_alone_conditions_for_ever():
    encoder = FrameEncoder(ConditioningConfig(channels=4, num_speakers=2))
    encoded = encoder(Conditioning(None, torch.tensor([0, 1])))
    assert encoded.num_samples is None
    rows, lead = encoded.at(10_000).rows(50)
    assert rows.shape == (2, 1, 4)
    assert lead == 0

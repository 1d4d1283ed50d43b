"""From frames to samples: instants, phases without seams, rows where they belong."""

import math

import pytest
import torch

from wavestill.density import Conditioning
from wavestill.nn.conditioning import ConditioningConfig, Encoded, add_rows, side_by_side
from wavestill.nn.frames import FrameEncoder, FrameStream, HarmonicSource


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
    encoded = Encoded(rows, subframe_samples=4, position=4 + lead)
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
    source = HarmonicSource(hop, rate, 3).extend(log_f0, torch.ones(1, 10))
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
    source = HarmonicSource(10, 4000, 2).extend(log_f0, voicing)
    assert torch.equal(source[0, 10:30], torch.zeros(20, 4))
    assert torch.equal(
        source[..., [1, 3]], torch.zeros(1, 40, 2)
    )  # 3,000 Hz does not exist at 4 kHz
    assert source[0, :10, 0].abs().max() > 0.1


def test_harmonic_phase_holds_over_long_sound():
    rate, hop = 16000, 200
    log_f0 = torch.full((1, 80 * 600), math.log(100.0), dtype=torch.float64)  # ten minutes
    source = HarmonicSource(hop, rate, 1).extend(log_f0, torch.ones_like(log_f0))
    torch.testing.assert_close(source[0, -160:, 0], source[0, :160, 0], atol=1e-7, rtol=0)


def test_speaker_alone_conditions_for_ever():
    encoder = FrameEncoder(ConditioningConfig(channels=4, num_speakers=2))
    encoded = encoder(Conditioning(None, torch.tensor([0, 1])))
    assert encoded.num_samples is None
    rows, lead = encoded.at(10_000).rows(50)
    assert rows.shape == (2, 1, 4)
    assert lead == 0


@pytest.mark.parametrize("sizes", [[1] * 12, [12], [5, 1, 6], [2, 10], [11, 1, 0]])
@pytest.mark.parametrize("speakers", [0, 2])
def test_frames_in_pieces_give_the_same_rows(sizes, speakers):
    config = ConditioningConfig(
        num_features=5,
        hop_samples=6,
        sample_rate=3000,
        channels=4,
        subframe_samples=2,
        num_harmonics=3,
        num_speakers=speakers,
    )
    encoder = FrameEncoder(config).double()
    frames = torch.randn(2, 12, 5, dtype=torch.float64)
    frames[..., -2] = 5.0 + 0.3 * frames[..., -2]
    frames[..., -1] = (frames[..., -1] > 0).double()
    speaker = torch.tensor([1, 0]) if speakers else None
    whole = encoder(Conditioning(frames, speaker))
    stream, seen, rows, sources = FrameStream(encoder, speaker), 0, [], []
    for i, size in enumerate(sizes):
        piece = stream.extend(frames[:, seen : seen + size], is_last=i == len(sizes) - 1)
        assert piece.start_samples == piece.position == sum(row.shape[1] for row in rows) * 2
        seen += size
        rows.append(piece.features)
        sources.append(piece.source)
        if seen < 12:  # no row waits for more frames than it sees
            assert sum(row.shape[1] for row in rows) == 3 * max(0, seen - encoder.LOOKAHEAD_FRAMES)
    torch.testing.assert_close(torch.cat(rows, 1), whole.features, rtol=0, atol=1e-12)
    assert torch.equal(torch.cat(sources, 1), whole.source)


def test_rows_of_sequences_at_their_own_positions():
    encoded = Encoded(
        torch.randn(3, 6, 2), 4, torch.randn(3, 24, 2), position=torch.tensor([0, 7, 15])
    )
    window, lead = encoded.rows(6)
    got = add_rows(torch.zeros(3, 6, 2), window, 4, lead)
    for i, position in enumerate([0, 7, 15]):
        alone = encoded.at(position)
        rows, first = alone.rows(6)
        expected = add_rows(torch.zeros(3, 6, 2), rows, 4, first)
        assert torch.equal(got[i], expected[i])
        assert torch.equal(encoded.source_at(6)[i], alone.source_at(6)[i])


def test_a_sequence_may_run_on_under_its_last_row_while_others_end():
    encoded = Encoded(torch.arange(6.0).view(2, 3, 1), 2, position=torch.tensor([1, 4]))
    window, lead = encoded.rows(5)
    got = add_rows(torch.zeros(2, 5, 1), window, 2, lead)
    assert got[0, :, 0].tolist() == [0, 1, 1, 2, 2]
    assert got[1, :, 0].tolist() == [5, 5, 5, 5, 5]


def test_a_sampler_refuses_frames_that_are_not_finite():
    encoder = FrameEncoder(ConditioningConfig(num_features=2, hop_samples=4, sample_rate=4000))
    frames = torch.zeros(1, 5, 2)
    frames[0, 3, 1] = math.nan
    with torch.no_grad(), pytest.raises(ValueError, match="1 of 10 values of the frames"):
        encoder(frames)


def test_flags_are_left_as_they_are_and_the_rest_is_normalised():
    torch.manual_seed(0)
    config = ConditioningConfig(num_features=5, hop_samples=8, sample_rate=4000, channels=2)
    encoder = FrameEncoder(config)
    frames = torch.randn(400, 5)
    frames[:, 1] = (torch.rand(400) < 0.01).float()  # a rare phone
    frames[:, 2] = 0  # one that does not occur here
    frames[:, 3] = 1
    frames[:, 4] = 0.5  # constant, and no flag
    encoder.calibrate(frames)
    assert encoder.feature_mean[1:4].tolist() == [0, 0, 0]
    assert encoder.feature_std[1:4].tolist() == [1, 1, 1]
    torch.testing.assert_close(encoder.feature_mean[[0, 4]], frames.mean(0)[[0, 4]])
    assert encoder.feature_std[4] == pytest.approx(1e-3)


@pytest.mark.parametrize("num_harmonics", [0, 2])
def test_contexts_side_by_side_are_each_as_by_itself(num_harmonics):
    torch.manual_seed(0)
    config = ConditioningConfig(
        num_features=3, hop_samples=8, sample_rate=4000, channels=2, num_harmonics=num_harmonics
    )
    encoder = FrameEncoder(config)
    frames = torch.randn(2, 7, 3)
    frames[..., -2:] = torch.tensor([5.0, 1.0])
    parts = [encoder(Conditioning(frames[:1, :4])), encoder(Conditioning(frames[1:]))]
    together = side_by_side(parts)
    assert together.num_samples == 56
    for i, part in enumerate(parts):
        num_rows = part.features.shape[1]
        assert torch.equal(together.features[i, :num_rows], part.features[0])
        assert (together.features[i, num_rows:] == part.features[0, -1]).all()
        if num_harmonics:
            length = part.source.shape[1]
            assert torch.equal(together.source[i, :length], part.source[0])
            assert not together.source[i, length:].any()
    with pytest.raises(ValueError, match="2 contexts of 2 kinds"):
        side_by_side([parts[0], Encoded(torch.zeros(1, 1, 2), 0)])
    with pytest.raises(ValueError, match="0 contexts of 0 kinds"):
        side_by_side([])

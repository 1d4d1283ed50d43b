"""WaveNet: causality to the bit, one forward for whole and parts, laws as asked for."""

import pytest
import torch

from tests.models.table import HOP, MEL, SMALL, TEACHERS
from wavestill.density import Autoregressive, Conditioning
from wavestill.distributions import standard_noise
from wavestill.models import WaveNet, WaveNetConfig
from wavestill.nn.conditioning import ConditioningConfig

T = 6 * HOP


def waveform(batch: int = 2, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.2 * torch.randn(batch, T, generator=generator, dtype=torch.float64)


@pytest.fixture(params=TEACHERS, name="case")
def _case(request):
    return TEACHERS[request.param]


def probe(laws, x):
    """A law seen through its density at fixed points: enough to tell two laws apart."""
    return torch.stack([laws.log_prob(torch.full_like(x, v)) for v in (-0.3, 0.0, 0.25)])


def test_follows_the_protocol(case):
    assert isinstance(case.model(), Autoregressive)


@pytest.mark.parametrize("t", [1, 17, T - 1])
def test_is_causal_to_the_bit(case, t):
    model, context = case.model(), case.context(2, 6)
    x, y = waveform(), waveform()
    y[:, t:] = waveform(seed=4)[:, t:]
    assert not torch.equal(x, y)
    before, after = (
        probe(model.conditionals(x, context), x),
        probe(model.conditionals(y, context), x),
    )
    assert torch.equal(before[..., : t + 1], after[..., : t + 1])  # step t sees x_<t only
    if t + 1 < T:
        assert not torch.equal(before[..., t + 1 :], after[..., t + 1 :])


@pytest.mark.parametrize("chunk", [1, 7, HOP, T])
def test_advance_in_chunks_equals_the_whole(case, chunk):
    model, context, x = case.model(), case.context(2, 6), waveform()
    whole = probe(model.conditionals(x, context), x)
    laws, state = model.advance(x[:, :0], context)
    parts = [probe(laws, x[:, :1])]
    for start in range(0, T - 1, chunk):
        piece = x[:, start : min(start + chunk, T - 1)]
        laws, state = model.advance(piece, context, state)
        parts.append(probe(laws, piece))
    torch.testing.assert_close(torch.cat(parts, -1), whole, rtol=1e-12, atol=1e-12)


def test_advance_may_begin_with_samples(case):
    model, context, x = case.model(), case.context(2, 6), waveform()
    laws, _ = model.advance(x[:, :20], context)
    assert laws.batch_shape == (2, 21)
    torch.testing.assert_close(
        probe(laws, x[:, :21]), probe(model.conditionals(x, context), x)[..., :21]
    )


def test_two_streams_do_not_mix(case):
    model, x = case.model(), waveform()
    contexts = [case.context(1, 6, seed=s) for s in (0, 1)]
    alone = [model.advance(x[i : i + 1, :10], contexts[i])[0] for i in (0, 1)]
    states = [model.advance(x[i : i + 1, :5], contexts[i])[1] for i in (0, 1)]
    interleaved = [model.advance(x[i : i + 1, 5:10], contexts[i], states[i])[0] for i in (1, 0)]
    for laws, other in zip(alone, reversed(interleaved), strict=True):
        torch.testing.assert_close(
            probe(laws, x[:1, :11])[..., 6:], probe(other, x[:1, :5]), rtol=1e-12, atol=1e-12
        )


def test_receptive_field_is_exact(case):
    model, context = case.model(), case.context(2, 6)
    x = waveform()
    reach = model.receptive_field
    assert reach < T - 2
    t = T - 1
    inside, outside = x.clone(), x.clone()
    inside[:, t - reach] += 0.1
    outside[:, t - reach - 1] += 0.1
    last = [probe(model.conditionals(v, context), v)[..., t] for v in (x, inside, outside)]
    assert not torch.equal(last[0], last[1])
    assert torch.equal(last[0], last[2])


def test_paper_configuration_has_the_papers_receptive_field():
    config = WaveNetConfig(
        30, 10, residual_channels=512, gate_channels=256, skip_channels=256, conditioning=None
    )
    model = WaveNet(config)
    assert model.receptive_field == 6139
    laws = model.conditionals(torch.zeros(1, 64))
    assert laws.batch_shape == (1, 64)


def test_sample_lies_on_the_grid():
    model = TEACHERS["logistics16"].model()
    x = model.sample(2, length=40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x * 2**15, (x * 2**15).round())
    assert x.min() >= -1
    assert x.max() <= 1 - 2**-15


def test_calibration_begins_near_the_data():
    torch.manual_seed(0)
    innovations = 0.01 * torch.randn(20_000)
    x = torch.zeros_like(innovations)
    for t in range(2, len(x)):
        x[t] = 1.7 * x[t - 1] - 0.8 * x[t - 2] + innovations[t]
    model = WaveNet(WaveNetConfig(**SMALL, head="gaussian", predictor_order=2))
    model.calibrate(x)
    assert float((x * model.gain).std()) == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(
        model.predictor.weight[0], torch.tensor([-0.8, 1.7]), atol=0.02, rtol=0
    )
    laws = model.conditionals(x[None, 5000:6000])
    assert float(laws.scale.detach().mean()) == pytest.approx(0.01, rel=0.2)


def test_dropout_is_for_training_only():
    model = WaveNet(WaveNetConfig(**SMALL, head="gaussian", dropout=0.5))
    x = waveform().float()
    assert not torch.equal(model.log_prob(x), model.log_prob(x))
    model.eval()
    assert torch.equal(model.log_prob(x), model.log_prob(x))


def test_speaker_and_frames_matter():
    case = TEACHERS["mel+voices"]
    model, x, context = case.model(), waveform(), case.context(2, 6)
    other_voice = Conditioning(context.frames, (context.speaker + 1) % 3)
    other_frames = Conditioning(context.frames + 1, context.speaker)
    for other in (other_voice, other_frames):
        assert not torch.allclose(model.log_prob(x, context), model.log_prob(x, other))


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (None, "no context was given"),
        (
            Conditioning(torch.zeros(2, 6, 4, dtype=torch.float64)),
            "4 columns but the model was built for 5",
        ),
        (
            Conditioning(torch.zeros(2, 5, 5, dtype=torch.float64)),
            "48 samples but its frames cover 40",
        ),
        (
            Conditioning(torch.zeros(2, 6, 5, dtype=torch.float64), torch.tensor([0, 1])),
            "knows 0 speakers",
        ),
        (Conditioning(None), "0 columns but the model was built for 5"),
    ],
)
def test_wrong_contexts_are_refused_in_one_line(context, message):
    model = TEACHERS["mel"].model()
    with pytest.raises(ValueError, match=message) as error:
        model.conditionals(waveform(), context)
    assert "\n" not in str(error.value)


def test_wrong_speaker_and_unconditional_context_are_refused():
    voices = TEACHERS["voices"].model()
    with pytest.raises(ValueError, match="speaker 3 is not among"):
        voices.log_prob(waveform(), Conditioning(None, torch.tensor([0, 3])))
    with pytest.raises(ValueError, match="built with no conditioning"):
        TEACHERS["gaussian"].model().log_prob(
            waveform(), torch.zeros(2, 6, 5, dtype=torch.float64)
        )


def test_length_is_required_without_frames():
    with pytest.raises(ValueError, match="length is open"):
        TEACHERS["gaussian"].model().sample(1)
    with pytest.raises(ValueError, match="50 samples but its frames cover 48"):
        TEACHERS["mel"].model().sample(2, TEACHERS["mel"].context(2, 6), length=50)


def test_one_context_to_each_sequence():
    case = TEACHERS["mel"]
    with pytest.raises(ValueError, match="3 sequences were asked for but the context is of 2"):
        case.model().sample(3, case.context(2, 6))


def test_configurations_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="predictor_order=2 needs a head with means"):
        WaveNetConfig(head="mulaw", predictor_order=2)
    with pytest.raises(ValueError, match="subframe_samples=3 does not divide hop_samples=8"):
        ConditioningConfig(num_features=2, hop_samples=8, sample_rate=100, subframe_samples=3)
    with pytest.raises(ValueError, match=r"num_harmonics=2 needs log F0.*num_features=0"):
        WaveNet(WaveNetConfig(conditioning=ConditioningConfig(num_harmonics=2, num_speakers=2)))
    with pytest.raises(ValueError, match="standard deviation 0"):
        WaveNet(WaveNetConfig(**SMALL)).calibrate(torch.zeros(100))


def test_gradients_are_finite_at_extremes(case):
    model, context = case.model(), case.context(2, 6)
    x = waveform()
    x[0, 10], x[1, 20] = 1.0, -1.0
    model.log_prob(x, context).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


def test_temperature_zero_gives_the_medians():
    model = TEACHERS["gaussian"].model()
    x = model.sample(1, length=20, temperature=0.0)
    torch.testing.assert_close(model.conditionals(x).loc, x)


def test_mel_conditioning_is_encoded_once_or_given_encoded():
    model, context, x = TEACHERS["mel"].model(), TEACHERS["mel"].context(2, 6), waveform()
    encoded = model.encode(context)
    assert model.encode(encoded) is encoded
    assert encoded.num_samples == T
    assert MEL.resolved_subframe_samples == 4
    torch.testing.assert_close(model.log_prob(x, encoded), model.log_prob(x, context))


def test_noise_law_is_the_heads():
    assert TEACHERS["gaussian"].model().base == "normal"
    assert TEACHERS["mulaw"].model().base == "logistic"
    assert standard_noise("normal", (2, 3)).shape == (2, 3)

"""The packed student is the student: whole, in chunks, rewound."""

import pytest
import torch

from tests.models.table import HOP, STUDENTS, TEACHERS, Case
from wavestill.density import Conditioning, State, Streaming
from wavestill.distributions import standard_noise
from wavestill.models import IAFWaveNet, IAFWaveNetConfig
from wavestill.models.packed_student import PackedStudent
from wavestill.nn import packed
from wavestill.nn.conditioning import ConditioningConfig, Encoded
from wavestill.nn.gated import GatedStack

T = 6 * HOP


@pytest.fixture(params=STUDENTS, name="case")
def _case(request):
    return STUDENTS[request.param]


def noise_for(model, batch=2, length=T, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return standard_noise(model.base, (batch, length), generator=generator, dtype=model.gain.dtype)


def table(draw):
    """Sample and laws as one tensor, `(3, B, T)`."""
    return torch.stack([draw.x, draw.conditionals.loc, draw.conditionals.log_scale]).detach()


def equal(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk", [None, 7])
def test_is_the_student(case, chunk):
    model, context = case.model(), case.context(2, 6)
    noise = noise_for(model)
    fast = PackedStudent(model, chunk_samples=chunk)
    assert isinstance(fast, Streaming)
    draw = fast.rsample(noise, context)
    assert not draw.x.requires_grad
    equal(table(draw), table(model.rsample(noise, context)))
    equal(draw.log_prob, model.rsample(noise, context).log_prob.detach())


@pytest.mark.parametrize("chunk", [1, 7, HOP, T])
def test_streaming_equals_the_whole(case, chunk):
    model, context = case.model(), case.context(2, 6)
    noise, state, parts = noise_for(model), None, []
    fast = PackedStudent(model, chunk_samples=10)
    for piece in torch.split(noise, chunk, dim=1):
        draw, state = fast.stream(piece, context, state)
        parts.append(table(draw))
    assert isinstance(state, State)
    equal(torch.cat(parts, -1), table(model.rsample(noise, context)))


def test_two_streams_do_not_mix(case):
    model = case.model()
    fast, noise = PackedStudent(model), noise_for(model)
    contexts = [case.context(1, 6, seed=s) for s in (0, 1)]
    states = [fast.stream(noise[i : i + 1, :10], contexts[i])[1] for i in (0, 1)]
    for i in (1, 0):
        rest, _ = fast.stream(noise[i : i + 1, 10:], contexts[i], states[i])
        equal(rest.x, model.rsample(noise[i : i + 1], contexts[i]).x[:, 10:].detach())


def test_goes_on_from_where_each_sequence_was_rewound_to(case):
    model, context = case.model(), case.context(2, 6)
    fast, noise = PackedStudent(model), noise_for(model)
    whole = table(model.rsample(noise, context))
    _, state = fast.stream(noise[:, :20], context)
    draft = noise[:, 20:30].clone()
    draft[0, 4:], draft[1, 7:] = 1.0, -1.0  # what comes after is thrown away
    _, state = fast.stream(draft, None, state)
    state.rewind(torch.tensor([6, 3]))
    ahead = torch.stack([noise[0, 24:41], noise[1, 27:44]])
    rest = table(fast.stream(ahead, None, state)[0])
    equal(rest[:, 0], whole[:, 0, 24:41])
    equal(rest[:, 1], whole[:, 1, 27:44])


@pytest.mark.parametrize(("hop", "subframe"), [(8, 1), (12, 2), (10, 2), (12, 4)])
def test_lines_between_frame_centres_stand_for_their_rows(hop, subframe):
    conditioning = ConditioningConfig(5, hop, 4000, 6, subframe)
    case = Case(
        lambda: IAFWaveNet(IAFWaveNetConfig((3, 4), 3, 6, conditioning=conditioning)), conditioning
    )
    model, frames = case.model(), case.context(2, 9).frames
    noise = noise_for(model, length=9 * hop)
    whole = table(model.rsample(noise, frames))
    equal(table(PackedStudent(model).rsample(noise, frames)), whole)
    fast, parts, state = PackedStudent(model, chunk_samples=2 * hop + 3), [], None
    pieces = fast.frame_stream()
    for first, last in [(0, 4), (4, 5), (5, 9)]:  # each piece's rows begin at their own position
        with torch.no_grad():
            piece = pieces.extend(frames[:, first:last], is_last=last == 9)
        start = piece.start_samples
        draw, state = fast.stream(noise[:, start : start + piece.num_samples], piece, state)
        parts.append(table(draw))
    equal(torch.cat(parts, -1), whole)


def test_lines_take_few_columns():
    encoded = Encoded(torch.randn(1, 80, 6), 1, position=9)
    stack = GatedStack(2, 2, 4, 4, 0, 2, condition_channels=6)
    rows_of = {n: packed.PackedStack(stack, rows_per_frame=n) for n in (1, 10)}
    columns = {n: p._conditioned(encoded, 1, 70)[1].shape[2] for n, p in rows_of.items()}
    assert columns == {1: 72, 10: 16}  # a column for each row; two for each of 8 lines


@pytest.mark.parametrize("name", ["logistic", "mel+voices", "pitch"])
def test_inversion_finds_the_noise(name):
    case = STUDENTS[name]
    fast, context = PackedStudent(case.model()), case.context(2, 2)
    draw = fast.rsample(noise_for(fast, length=2 * HOP), context)
    torch.testing.assert_close(
        fast.invert(draw.x, context).noise, draw.noise, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("fuses", [True, False])
def test_float32_is_equal_within_its_rounding(case, monkeypatch, fuses):
    if fuses and not packed.onednn_fuses(torch.float32):
        pytest.skip("PyTorch was built without oneDNN")
    monkeypatch.setattr(packed, "onednn_fuses", lambda _: fuses)
    model, context = case.model(), case.context(2, 6)
    noise = noise_for(model)
    exact = table(model.rsample(noise, context))
    model = model.float()
    if context is not None and context.frames is not None:
        context = context._replace(frames=context.frames.float())
    draw = PackedStudent(model).rsample(noise.float(), context)
    torch.testing.assert_close(table(draw).double(), exact, rtol=1e-5, atol=1e-5)


def middling_student():
    """Twenty layers of 32 channels whose heads are off zero, in float32."""
    torch.manual_seed(0)
    conditioning = ConditioningConfig(num_features=20, hop_samples=120, sample_rate=12000)
    model = IAFWaveNet(
        IAFWaveNetConfig(flows=(6, 6, 8), channels=32, conditioning=conditioning)
    ).eval()
    with torch.no_grad():
        for flow in model.flows:
            flow.output.weight.normal_(0.0, 0.3 / 32**0.5)
    return model


def test_bfloat16_has_more_than_30_db():
    model = middling_student()
    noise = noise_for(model, length=12000)
    context = Conditioning(torch.randn(2, 100, 20))
    exact = model.double().rsample(noise.double(), Conditioning(context.frames.double()))
    draw = PackedStudent(model.float(), dtype=torch.bfloat16).rsample(noise, context)
    assert draw.x.dtype == draw.conditionals.log_scale.dtype == torch.float32
    wave = exact.x.detach()
    power, error = wave.square().sum(), (draw.x - wave).square().sum()
    # 45 dB; 37 with weights of 8 bits, over 100 in float32.
    assert 40.0 < float(10 * torch.log10(power / error)) < 60.0


def test_weights_are_copied():
    case = STUDENTS["mel"]
    model, context = case.model(), case.context(2, 6)
    noise, fast = noise_for(model), PackedStudent(model)
    before = fast.rsample(noise, context).x
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(fast.rsample(noise, context).x, before)


def test_a_stream_that_runs_past_its_frames_is_refused_before_it_moves():
    case = STUDENTS["mel"]
    model, context = case.model(), case.context(2, 5)
    fast, noise = PackedStudent(model, chunk_samples=HOP), noise_for(model)
    _, state = fast.stream(noise[:, :10], context)
    with pytest.raises(ValueError, match="runs to sample 48 but its conditioning ends at 40"):
        fast.stream(noise[:, 10:], None, state)
    rest, _ = fast.stream(noise[:, 10:40], None, state)
    equal(table(rest), table(model.rsample(noise[:, :40], context))[..., 10:])


def test_nothing_more_of_a_stream_at_its_end():
    case = STUDENTS["mel"]
    fast, context = PackedStudent(case.model()), case.context(2, 6)
    _, state = fast.stream(noise_for(fast), context)
    draw, _ = fast.stream(noise_for(fast)[:, :0], None, state)
    assert draw.x.shape == (2, 0)


def test_what_cannot_be_packed_is_refused():
    model = STUDENTS["logistic"].model()
    with pytest.raises(ValueError, match="'chunk_samples' is 0"):
        PackedStudent(model, chunk_samples=0)
    with pytest.raises(ValueError, match=r"'dtype' is torch\.int8"):
        PackedStudent(model, dtype=torch.int8)
    with pytest.raises(ValueError, match="7 skip channels"):
        packed.PackedStack(TEACHERS["gaussian"].model().stack)

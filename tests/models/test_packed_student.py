"""The packed student is the student: whole, in chunks, rewound, by PyTorch and by the kernel."""

import importlib
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tests.models.table import HOP, STUDENTS, TEACHERS, Case
from wavestill.density import Conditioning, State, Streaming
from wavestill.distributions import standard_noise
from wavestill.models import IAFWaveNet, IAFWaveNetConfig, packed_flow
from wavestill.models.arrays import flow_arrays
from wavestill.models.packed_student import PackedStudent
from wavestill.nn import native, packed
from wavestill.nn.conditioning import ConditioningConfig, Encoded
from wavestill.nn.gated import GatedStack

T = 6 * HOP


# By PyTorch in float64, and by each set of the kernel in float32.
PATHS = ["pytorch", *native.instruction_sets()]


def choose(path, monkeypatch):
    """Pack flows for this path from now on."""
    monkeypatch.setattr(packed_flow, "kernel_set", lambda: None if path == "pytorch" else path)


def is_native(fast):
    return all(flow._network is not None for flow in fast.flows)


@dataclass
class Served:
    """A case in the precision that its path is held to."""

    case: Case
    dtype: torch.dtype

    def model(self):
        return self.case.model().to(self.dtype)

    def context(self, batch, frames, seed=0):
        return cast_context(self.case.context(batch, frames, seed), self.dtype)


def cast_context(context, dtype):
    if context is None or context.frames is None:
        return context
    return context._replace(frames=context.frames.to(dtype))


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    choose(request.param, monkeypatch)
    return request.param


@pytest.fixture(params=STUDENTS, name="case")
def _case(request, path):
    return served(request.param, path)


def served(name, path):
    return Served(STUDENTS[name], torch.float64 if path == "pytorch" else torch.float32)


def noise_for(model, batch=2, length=T, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return standard_noise(model.base, (batch, length), generator=generator, dtype=model.gain.dtype)


def table(draw):
    """Sample and laws as one tensor, `(3, B, T)`."""
    return torch.stack([draw.x, draw.conditionals.loc, draw.conditionals.log_scale]).detach()


def equal(ours, theirs):
    tolerance = 1e-12 if ours.dtype is torch.float64 else 1e-5
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("chunk", [None, 7])
def test_is_the_student(case, chunk):
    model, context = case.model(), case.context(2, 6)
    noise = noise_for(model)
    fast = PackedStudent(model, chunk_samples=chunk)
    assert isinstance(fast, Streaming)
    assert is_native(fast) == (model.gain.dtype is torch.float32)
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
def test_inversion_finds_the_noise(name, path):
    case = served(name, path)
    fast, context = PackedStudent(case.model()), case.context(2, 2)
    draw = fast.rsample(noise_for(fast, length=2 * HOP), context)
    tolerance = 1e-9 if case.dtype is torch.float64 else 1e-3
    torch.testing.assert_close(
        fast.invert(draw.x, context).noise, draw.noise, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("path", ["onednn", "plain", *native.instruction_sets()])
@pytest.mark.parametrize("name", STUDENTS)
def test_float32_is_equal_within_its_rounding(name, path, monkeypatch):
    if path == "onednn" and not packed.onednn_fuses(torch.float32):
        pytest.skip("PyTorch was built without oneDNN")
    by_pytorch = path in {"onednn", "plain"}
    monkeypatch.setattr(packed, "onednn_fuses", lambda _: path == "onednn")
    choose("pytorch" if by_pytorch else path, monkeypatch)
    model, context = STUDENTS[name].model(), STUDENTS[name].context(2, 6)
    noise = noise_for(model)
    exact = table(model.rsample(noise, context))
    fast = PackedStudent(model.float())
    assert is_native(fast) != by_pytorch
    draw = fast.rsample(noise.float(), cast_context(context, torch.float32))
    torch.testing.assert_close(table(draw).double(), exact, rtol=1e-5, atol=1e-5)


# Widths that no vector divides, of several panels and of one, dilations beyond a chunk, and more
# or fewer taps.
WIDE = {
    "64": {"flows": (5,), "dilation_cycle": 5, "channels": 64},
    "37": {"flows": (3, 2), "dilation_cycle": 3, "channels": 37, "filter_width": 2},
    "130": {"flows": (2,), "channels": 130, "filter_width": 4},
    "2": {"flows": (9,), "dilation_cycle": 9, "channels": 2},
    "1 tap": {"flows": (2,), "channels": 16, "filter_width": 1},
}


@pytest.mark.parametrize("set_name", native.instruction_sets())
@pytest.mark.parametrize("name", WIDE)
def test_the_kernel_has_every_width(name, set_name, monkeypatch):
    choose(set_name, monkeypatch)
    shape = WIDE[name] | {"conditioning": ConditioningConfig(5, HOP, 4000, 7, 4, num_harmonics=1)}
    case = Case(lambda: IAFWaveNet(IAFWaveNetConfig(**shape)), shape["conditioning"])
    model, context = case.model(), case.context(3, 13)
    noise = noise_for(model, 3, 13 * HOP)
    exact = table(model.rsample(noise, context))
    fast = PackedStudent(model.float(), chunk_samples=17)
    assert is_native(fast)
    draw = fast.rsample(noise.float(), cast_context(context, torch.float32))
    torch.testing.assert_close(table(draw).double(), exact, rtol=1e-4, atol=1e-4)
    low = PackedStudent(model, dtype=torch.bfloat16)
    assert is_native(low) == (shape["channels"] % 2 == 0)  # which come in pairs
    near = table(low.rsample(noise.float(), cast_context(context, torch.float32)))
    assert decibels(near[1:].double(), exact[1:]) > 25.0


def decibels(ours, theirs):
    """Signal to error."""
    return float(10 * torch.log10(theirs.square().sum() / (ours - theirs).square().sum()))


@pytest.mark.parametrize("set_name", native.instruction_sets())
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_threads_and_chunks_change_no_bit(set_name, dtype, monkeypatch):
    choose(set_name, monkeypatch)
    model, frames = middling_student(), torch.randn(2, 10, 20)
    noise = noise_for(model, length=1200)
    whole = table(PackedStudent(model, dtype=dtype).rsample(noise, Conditioning(frames)))
    for threads, chunk in [(2, None), (5, None), (1, 100), (3, 1111)]:
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        fast = PackedStudent(model, dtype=dtype, chunk_samples=chunk)
        assert torch.equal(table(fast.rsample(noise, Conditioning(frames))), whole)


@pytest.mark.skipif(packed_flow.kernel_set() is None, reason="the kernel does not serve here")
def test_a_stream_goes_on_by_another_path(monkeypatch):
    model, frames = middling_student(), torch.randn(1, 6, 20)
    noise = noise_for(model, 1, 720)
    whole = table(model.rsample(noise, Conditioning(frames)))
    ours = PackedStudent(model)
    choose("pytorch", monkeypatch)
    theirs = PackedStudent(model)
    assert is_native(ours)
    assert not is_native(theirs)
    parts, state = [], None
    for fast, piece in zip([ours, theirs, ours], noise.split([100, 400, 220], 1), strict=True):
        draw, state = fast.stream(piece, Conditioning(frames), state)
        parts.append(table(draw))
    equal(torch.cat(parts, -1), whole)


@pytest.mark.skipif(not native.is_available(), reason="no native kernel")
def test_the_kernel_refuses_what_does_not_fit():
    flow = IAFWaveNet(IAFWaveNetConfig(flows=(2,), channels=4)).flows[0]
    network = importlib.import_module("wavestill._native").Flow(flow_arrays(flow))
    z = np.zeros((1, 5), dtype=np.float32)
    pasts = [np.zeros((1, reach + 5, 4), dtype=np.float32) for reach in (2, 4)]
    assert network.shape(z, pasts).shape == (2, 1, 5)
    for wrong in (
        [pasts[0]],
        [pasts[0], pasts[0]],
        [pasts[0], pasts[1].astype(np.int16)],
        [pasts[0], pasts[1].swapaxes(1, 2)],
        [pasts[0], np.zeros((1, 9, 8), dtype=np.float32)[..., ::2]],
    ):
        with pytest.raises(ValueError, match="the flow cannot be shaped"):
            network.shape(z, wrong)
    with pytest.raises(ValueError, match="it takes no conditioning, but rows were given"):
        network.shape(z, pasts, np.zeros((1, 1, 3), dtype=np.float32), 0, [0])


def middling_student():
    """Twenty layers of 32 channels whose heads are off zero, and a filter, in float32."""
    torch.manual_seed(0)
    conditioning = ConditioningConfig(num_features=20, hop_samples=120, sample_rate=12000)
    model = IAFWaveNet(
        IAFWaveNetConfig((6, 6, 8), channels=32, predictor_order=3, conditioning=conditioning)
    ).eval()
    model.synthesis.calibrate(torch.tensor([0.5, -1.2, 1.5]), torch.tensor(0.4))
    with torch.no_grad():
        for flow in model.flows:
            flow.output.weight.normal_(0.0, 0.3 / 32**0.5)
    return model


def test_bfloat16_has_more_than_30_db(path):
    model = middling_student()
    noise = noise_for(model, length=12000)
    context = Conditioning(torch.randn(2, 100, 20))
    exact = model.double().rsample(noise.double(), Conditioning(context.frames.double()))
    fast = PackedStudent(model.float(), dtype=torch.bfloat16)
    assert is_native(fast) == (path != "pytorch")
    draw = fast.rsample(noise, context)
    assert draw.x.dtype == draw.conditionals.log_scale.dtype == torch.float32
    # 45 dB; 37 with weights of 8 bits, over 100 in float32.
    assert 40.0 < decibels(draw.x.double(), exact.x.detach()) < 60.0


def test_weights_are_copied(path):
    case = served("mel", path)
    model, context = case.model(), case.context(2, 6)
    noise, fast = noise_for(model), PackedStudent(model)
    before = fast.rsample(noise, context).x
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(fast.rsample(noise, context).x, before)


def test_a_stream_that_runs_past_its_frames_is_refused_before_it_moves(path):
    case = served("mel", path)
    model, context = case.model(), case.context(2, 5)
    fast, noise = PackedStudent(model, chunk_samples=HOP), noise_for(model)
    _, state = fast.stream(noise[:, :10], context)
    with pytest.raises(ValueError, match="runs to sample 48 but its conditioning ends at 40"):
        fast.stream(noise[:, 10:], None, state)
    rest, _ = fast.stream(noise[:, 10:40], None, state)
    equal(table(rest), table(model.rsample(noise[:, :40], context))[..., 10:])


def test_nothing_more_of_a_stream_at_its_end(path):
    case = served("mel", path)
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

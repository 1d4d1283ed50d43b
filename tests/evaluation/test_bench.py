"""The measure measured: costs against torch's counter, statistics and growth on known clocks."""

import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.models.table import HOP, STUDENTS, TEACHERS
from wavestill.distributions import standard_noise
from wavestill.evaluation.bench import cost
from wavestill.evaluation.bench.conv1d import Conv1dStudent
from wavestill.evaluation.bench.growth import growth
from wavestill.evaluation.bench.machine import matrix_product, streaming_read
from wavestill.evaluation.bench.measure import figures_of
from wavestill.evaluation.bench.samplers import Sampler, Work
from wavestill.evaluation.bench.subject import reference_subject
from wavestill.evaluation.bench.table import ROWS, samplers
from wavestill.evaluation.bench.timing import Run, Spread, in_rounds, size_for, timed

NETWORKS = {f"teacher {name}": case for name, case in TEACHERS.items()}
NETWORKS |= {f"student {name}": case for name, case in STUDENTS.items()}


class FakeClock:
    """A clock that only moves when a fake sampler works."""

    def __init__(self):
        self.now = 100.0
        self.calls = []

    def __call__(self):
        return self.now

    def job(self, name, *durations):
        """A job that takes these times, one after the other, and returns how often it ran."""
        left = list(durations)

        def run():
            self.calls.append(name)
            self.now += left.pop(0)
            return len(durations) - len(left)

        return run

    def sampler(self, name, seconds_of, **more):
        def draw(size):
            self.now += seconds_of(size)
            return Work(size, 10.0 * size, 4.0 * size)

        return Sampler(name, draw, draw, 400, **more)


def counted_flops(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("num_samples", [1, HOP, 5 * HOP, 5 * HOP - 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_operations_are_those_torch_counts(name, num_samples):
    case = NETWORKS[name]
    model, config = case.model(), case.model().config
    num_frames = -(-num_samples // HOP)
    context = case.context(1, num_frames)
    encoding = counted_flops(lambda: model.encode(context))
    encoded = model.encode(context)
    sound = torch.zeros(1, num_samples, dtype=torch.float64)
    one_pass = model.conditionals if name.startswith("teacher") else model.rsample
    counted = counted_flops(lambda: one_pass(sound, encoded))
    assert counted == cost.pass_flops(config, num_samples) > 0
    frames_given = config.conditioning is not None and config.conditioning.num_features
    assert encoding == cost.encoder_flops(config.conditioning, num_frames)
    assert (encoding > 0) == bool(frames_given)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_the_parameters_behind_the_encoder(name):
    model = NETWORKS[name].model()
    config = model.config
    own = [p for key, p in model.named_parameters() if not key.startswith("encoder.")]
    taps = 0 if name.startswith("teacher") else config.predictor_order  # no parameters there
    matrices = taps + sum(p.numel() for p in own if p.dim() == 2)
    biases = sum(p.numel() for p in own if p.dim() == 1)
    assert (cost.num_weights(config), cost.num_biases(config)) == (matrices, biases)
    projected = sum(p.numel() for key, p in model.named_parameters() if "project." in key)
    assert cost.weight_bytes(config, 2, projected=True) == 2 * matrices + 4 * biases
    without = cost.weight_bytes(config, 4, projected=False)
    assert without == 4 * (matrices - projected + biases)


@pytest.mark.parametrize("name", STUDENTS)
def test_the_plain_student_is_the_same_student(name):
    case = STUDENTS[name]
    model, context = case.model(), case.context(2, 6)
    noise = standard_noise(model.base, (2, 6 * HOP), dtype=torch.float64)
    expected = model.rsample(noise, context).x
    sound = Conv1dStudent(model).sample(noise, context)
    torch.testing.assert_close(sound, expected, rtol=1e-10, atol=1e-10)


def test_the_reference_is_of_the_papers_shape():
    subject = reference_subject()
    teacher, student = subject.teacher.config, subject.student.config
    assert (teacher.layers, teacher.residual_channels, teacher.skip_channels) == (30, 64, 256)
    assert (teacher.filter_width, teacher.head, teacher.num_mixtures) == (3, "logistics", 10)
    assert (student.flows, student.channels) == ((10, 10, 10, 30), 64)
    assert subject.frames.shape[1] == 80
    assert (subject.sample_rate, subject.hop_samples) == (24000, 300)
    again = reference_subject()
    assert torch.equal(subject.frames, again.frames)
    assert torch.equal(subject.teacher.hidden.weight, again.teacher.hidden.weight)


def test_building_the_reference_leaves_the_callers_noise_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    reference_subject()
    assert torch.equal(torch.rand(3), expected)


def test_rounds_take_turns_and_the_first_does_not_count():
    clock = FakeClock()
    jobs = {"a": clock.job("a", 9, 1, 5, 2), "b": clock.job("b", 8, 3, 3, 4)}
    told = []
    runs = in_rounds(jobs, 3, clock=clock, tell=told.append)
    assert clock.calls == told == ["a", "b"] * 4
    assert runs["a"] == [Run(1, 2), Run(5, 3), Run(2, 4)]
    assert [run.seconds for run in runs["b"]] == [3, 3, 4]


def test_timed_carries_no_gradient():
    weight = torch.ones(1, requires_grad=True)
    assert not timed(lambda: weight * 2).result.requires_grad


def test_figures_are_medians_and_shares_of_the_peaks():
    sampler = Sampler("x", lambda n: n, lambda n: n, 400, num_streams=2)
    draws = [Run(seconds, Work(1000, 4e9, 1e9)) for seconds in (2.0, 1.0, 4.0)]
    firsts = [Run(seconds, None) for seconds in (0.03, 0.01, 0.02)]
    figures = figures_of(sampler, draws, firsts, 8000, peak_gflops=8.0, peak_gbytes=2.0)
    assert figures["samples_per_second"] == 500
    assert figures["samples_per_second_min"] == 250
    assert figures["samples_per_second_max"] == 1000
    assert figures["times_real_time"] == 500 / 8000
    assert figures["first_sound_ms"] == pytest.approx(20)
    assert figures["first_sound_ms_min"] == pytest.approx(10)
    assert figures["first_sound_ms_max"] == pytest.approx(30)
    assert figures["gflops"] == 2.0
    assert figures["share_of_matrix_product"] == 0.25
    assert figures["gbytes_per_second"] == 0.5
    assert figures["share_of_streaming_read"] == 0.25
    assert figures["flops_per_sample"] == 4e6


def test_spread_of_an_even_number():
    assert Spread.of([1.0, 4.0, 2.0, 3.0]) == (2.5, 1.0, 4.0)


@pytest.mark.parametrize("overhead", [0.0, 0.2])
def test_sizes_take_about_the_time_asked_for(overhead):
    clock = FakeClock()
    draw = clock.sampler("x", lambda size: overhead + size / 100).draw
    size = size_for(draw, 2.0, most=10**6, clock=clock)
    begin = clock.now
    draw(size)
    assert clock.now - begin == pytest.approx(2.0, rel=0.4)
    assert size_for(draw, 2.0, most=7, clock=clock) == 7


def test_growth_of_naive_is_quadratic_and_then_linear():
    clock, reach = FakeClock(), 1024
    passes = clock.sampler("naive", lambda size: 1e-3 * size).draw
    sampler = Sampler("naive", passes, passes, 400, pass_time=passes)
    grown = growth({"naive": sampler}, reach, 1.0, clock=clock)["naive"]
    assert grown.summed
    exact = [
        1e-3 * sum(min(t, reach + 1) for t in range(1, length + 1)) for length in grown.num_samples
    ]
    np.testing.assert_allclose(grown.seconds, exact, rtol=1e-6)
    slopes = np.diff(np.log(grown.seconds)) / np.diff(np.log(grown.num_samples))
    assert slopes[0] == pytest.approx(2, abs=0.1)
    assert slopes[-1] == pytest.approx(1, abs=0.02)


def test_growth_stops_at_its_budget_and_skips_what_does_not_grow():
    clock = FakeClock()
    ready = {
        "cached": clock.sampler("cached", lambda size: 0.01 * size),
        "flat": clock.sampler("flat", lambda _: 0.5),
        "streams": clock.sampler("streams", lambda _: math.inf, grows=False),
    }
    grown = growth(ready, 10, 2.0, clock=clock)
    assert set(grown) == {"cached", "flat"}
    assert grown["cached"].num_samples == [16, 64, 256]
    np.testing.assert_allclose(grown["cached"].seconds, [0.16, 0.64, 2.56])
    assert len(set(np.round(grown["flat"].seconds, 9))) == 1
    assert grown["flat"].num_samples[-1] == 2**18


def test_peaks_are_of_this_world():
    for job in (
        matrix_product("float32"),
        matrix_product("bfloat16"),
        streaming_read(1),
        streaming_read(1_000_000),
    ):
        assert 0 < job() < 1e6  # no machine does a petaflop, or reads a petabyte, a second


def test_samplers_are_chosen_by_name_and_say_why_they_are_left_out():
    subject = reference_subject()
    ready, skipped = samplers(subject, None, 1)
    assert {"naive", "cached", "student"} <= set(ready)
    assert not set(ready) & set(skipped)
    assert set(ready) | set(skipped) == set(ROWS)
    assert set(samplers(subject, ["cached"], 1)[0]) == {"cached"}
    with pytest.raises(ValueError, match="no sampler 'fast'; there are naive, cached"):
        samplers(subject, ["fast"], 1)
    with pytest.raises(ValueError, match=r"'speculative' cannot be measured: .*name a voice"):
        samplers(subject, ["cached", "speculative"], 1)

"""The native kernel is the PyTorch path, whatever the instruction set, the threads, the pieces."""

import importlib
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest
import torch

from tests.models.table import HOP, STUDENTS, TEACHERS, Case
from wavestill import WaveNet, WaveNetConfig
from wavestill.distributions import (
    Discretized,
    Distribution,
    Mixture,
    MuLaw,
    counter_noise,
    standard_noise,
)
from wavestill.models.arrays import teacher_arrays
from wavestill.nn.native import instruction_sets, is_available, why_not
from wavestill.sampling import NativeSampler, cached, native, native_invert, native_sampler
from wavestill.sampling import native as native_function
from wavestill.sampling.native import read_bandwidth

STEPS = 2000
SETS = instruction_sets()
_native = importlib.import_module("wavestill._native") if is_available() else None
needs_kernel = pytest.mark.skipif(not is_available(), reason=f"no native kernel: {why_not()}")

# Beyond the small ones: 64 channels, and widths that no vector divides and more than one panel.
WIDE = {
    "64 channels": Case(
        lambda: WaveNet(
            WaveNetConfig(layers=6, dilation_cycle=3, skip_channels=64, num_mixtures=10, bits=None)
        )
    ),
    "odd widths": Case(
        lambda: WaveNet(
            WaveNetConfig(
                layers=4,
                dilation_cycle=4,
                residual_channels=37,
                gate_channels=45,
                skip_channels=83,
                num_mixtures=7,
                bits=None,
                predictor_order=19,
            )
        )
    ),
}
CASES = TEACHERS | WIDE


def parameters(law: Distribution) -> list[torch.Tensor]:
    """What the law of a step is made of: normalised logits, locations, log-scales."""
    if isinstance(law, Discretized):
        return parameters(law.continuous)
    if isinstance(law, Mixture):
        components = law.components
        return [law.logits.log_softmax(-1), components.loc, components.log_scale]
    if isinstance(law, MuLaw):
        return [law.logits.log_softmax(-1)]
    return [law.loc, law.log_scale]


def assert_same_laws(law: Distribution, other: Distribution, tolerance: float) -> None:
    for a, b in zip(parameters(law), parameters(other), strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=tolerance)


def noise_for(model: WaveNet, num: int, length: int, seed: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return standard_noise(model.base, (num, length), generator=generator, dtype=torch.float64)


def test_the_kernel_is_built():
    assert is_available(), why_not()
    assert SETS[-1] == "portable"


@needs_kernel
@pytest.mark.parametrize("name", CASES)
def test_conditionals_along_a_prefix_are_those_of_the_cached_path(name):
    case = CASES[name]
    model, context = case.model(), case.context(1, STEPS // HOP)
    x = native(model, noise_for(model, 1, STEPS), context)
    laws, _ = model.advance(x[:, :-1], context)  # the cached path's step, for all at once
    for instruction_set in SETS:
        sampler = NativeSampler(model, instruction_set=instruction_set)
        assert sampler.instruction_set == instruction_set
        assert_same_laws(sampler.follow(x, context), laws, 1e-4)


@needs_kernel
@pytest.mark.parametrize("name", CASES)
def test_the_same_noise_gives_the_same_sound(name):
    case = CASES[name]
    model, context = case.model(), case.context(3, 25)
    noise = noise_for(model, 3, 25 * HOP)
    reference = cached(model, noise, context)
    for instruction_set in SETS:
        x = NativeSampler(model, instruction_set=instruction_set).extend(noise, context)
        off = (x - reference).abs() > 1e-4
        # A draw may fall within rounding of a gap between two modes, or of two levels of a grid:
        # from there on the sounds differ. None does here in the first half.
        assert not bool(off[:, : off.shape[1] // 2].any())
        assert float(off.double().mean()) < 0.05


@needs_kernel
@pytest.mark.parametrize("name", CASES)
def test_bfloat16_weights_are_close(name):
    case = CASES[name]
    model, context = case.model(), case.context(1, 50)
    x = native(model, noise_for(model, 1, 50 * HOP), context)
    laws = NativeSampler(model).follow(x, context)
    # bfloat16 keeps 8 bits of each weight: an error of 2^-9 of it, averaged over the inputs.
    for instruction_set in SETS:
        sampler = NativeSampler(model, weights="bfloat16", instruction_set=instruction_set)
        assert_same_laws(sampler.follow(x, context), laws, 2e-2)
        assert sampler.weight_bytes <= NativeSampler(model).weight_bytes


@needs_kernel
@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["pitch", "mel+voices", "mulaw", "64 channels", "odd widths"])
def test_pieces_threads_and_company_do_not_change_a_bit(name, weights):
    case = CASES[name]
    model, context = case.model(), case.context(7, 12)
    noise = noise_for(model, 7, 12 * HOP)
    encoded = model.encode(context)
    for instruction_set in SETS:

        def sampler(threads: int = 1, instruction_set: str = instruction_set) -> NativeSampler:
            return NativeSampler(
                model, weights=weights, threads=threads, instruction_set=instruction_set
            )

        whole = sampler().extend(noise, encoded)
        for threads in (2, 3, 16):
            assert torch.equal(sampler(threads).extend(noise, encoded), whole)
        pieces, cuts = sampler(2), (0, 1, 8, 9, 40, 96)
        parts = [pieces.extend(noise[:, a:b], encoded) for a, b in pairwise(cuts)]
        assert torch.equal(torch.cat(parts, 1), whole)
        assert pieces.position == 96
        for i in (0, 6):
            one = encoded if encoded is None else encoded.select(torch.tensor([i]))
            assert torch.equal(sampler().extend(noise[i : i + 1], one), whole[i : i + 1])


@needs_kernel
@pytest.mark.parametrize("name", ["gaussian", "logistics", "mel"])
def test_a_seed_is_its_counted_noise(name):
    case = CASES[name]
    model, context = case.model(), case.context(3, 20)
    noise = counter_noise(model.base, 5, 3, 20 * HOP, first_stream=4, dtype=torch.float64)
    sampler = NativeSampler(model, threads=2)
    parts = [
        sampler.extend_from_seed(5, 3, length, context, first_stream=4) for length in (1, 6, 153)
    ]
    torch.testing.assert_close(
        torch.cat(parts, 1).double(), native(model, noise, context), rtol=1e-6, atol=1e-6
    )
    assert parts[0].dtype == torch.float32


@needs_kernel
@pytest.mark.parametrize("base", ["normal", "logistic"])
def test_seeded_noise_has_every_digit(base):
    # A head that passes the base noise through: what comes out is the noise, rounded once.
    head = "gaussian" if base == "normal" else "logistics"
    model = WaveNet(WaveNetConfig(layers=1, head=head, num_mixtures=1, bits=None)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    x = NativeSampler(model).extend_from_seed(2**64 - 1, 2, 4000)
    noise = counter_noise(base, 2**64 - 1, 2, 4000, dtype=torch.float64)
    torch.testing.assert_close(x.double(), noise, rtol=1.2e-7, atol=1e-12)


@needs_kernel
def test_streams_do_not_mix():
    model = CASES["logistics"].model()
    noise = noise_for(model, 5, 60)
    x = native(model, noise)
    other = noise.clone()
    other[3, 20] += 0.5
    changed = native(model, other) != x
    assert changed[3, 20:].any()
    changed[3, 20:] = False
    assert not changed.any()


@needs_kernel
@pytest.mark.parametrize("name", STUDENTS)
def test_a_students_inversion_is_its_own(name):
    case = STUDENTS[name]
    model, context = case.model(), case.context(3, 12)
    generator = torch.Generator().manual_seed(0)
    noise = standard_noise(model.base, (3, 12 * HOP), generator=generator, dtype=torch.float64)
    with torch.no_grad():
        draw = model.rsample(noise, context)
    mine, own = native_invert(model, draw.x, context, threads=2), model.invert(draw.x, context)
    torch.testing.assert_close(mine.noise, noise, rtol=1e-4, atol=1e-4)
    assert_same_laws(mine.conditionals, own.conditionals, 1e-4)
    torch.testing.assert_close(mine.log_prob, own.log_prob, rtol=1e-4, atol=1e-3)


@needs_kernel
def test_progress_is_told_and_its_errors_stop_the_work():
    model = WIDE["64 channels"].model()
    steps: list[int] = []
    native(model, noise_for(model, 1, 30_000), progress=steps.append)
    assert steps == sorted(steps)
    assert steps[-1] == 30_000

    def refuse(step: int) -> None:
        raise KeyError(step)

    sampler = NativeSampler(model)
    with pytest.raises(KeyError):
        sampler.extend(noise_for(model, 1, 300_000), progress=refuse)
    with pytest.raises(RuntimeError, match="interrupted half-way"):
        sampler.extend(noise_for(model, 1, 10))


@needs_kernel
def test_other_threads_of_python_go_on():
    model = WIDE["64 channels"].model()
    noise = noise_for(model, 1, 30_000)
    worker = threading.Thread(target=native, args=(model, noise))
    worker.start()
    count = 0
    while worker.is_alive():
        count += 1
        time.sleep(1e-4)
    assert count > 10


ENDLESS = """
import torch
from wavestill import WaveNet, WaveNetConfig
from wavestill.sampling import native
model = WaveNet(WaveNetConfig(layers=2))
try:
    tell = lambda step: print(step, flush=True)
    native(model, torch.zeros(2, 50_000_000), threads=2, progress=tell)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@needs_kernel
@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as on POSIX")
def test_ctrl_c_stops_it():
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0  # it is at work
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert rest.splitlines()[-1] == "interrupted"
        assert process.returncode == 0


@needs_kernel
def test_what_cannot_be_drawn_is_refused_in_a_line():
    plain, voiced = CASES["logistics"].model(), CASES["pitch"].model()
    context = CASES["pitch"].context(2, 4)
    noise = noise_for(plain, 2, 4 * HOP)
    refused = [
        (plain, noise[:, :0], None, "at least one step"),
        (plain, noise / 0, None, "64 values of the noise are not finite"),
        (plain, noise, context, "built with no conditioning"),
        (voiced, noise, None, "built with a conditioning"),
        (voiced, noise[:1], context, "2 sequences and 6 columns but the streams need 1"),
        (voiced, noise_for(plain, 2, 5 * HOP), context, "runs to sample 40"),
        (voiced, noise, context._replace(frames=context.frames[..., :4]), "4 columns"),
        (voiced, noise, context._replace(frames=context.frames / 0), "not finite"),
    ]
    for model, z, given, message in refused:
        with pytest.raises(ValueError, match=message) as error:
            native(model, z, given)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="at least one thread, not 0"):
        native(plain, noise, threads=0)
    with pytest.raises(ValueError, match="no instruction set 'abacus'; choose among"):
        NativeSampler(plain, instruction_set="abacus")
    with pytest.raises(ValueError, match="float32 or bfloat16, not 'int3'"):
        _native.pack_teacher(teacher_arrays(plain), "int3")
    sampler = NativeSampler(plain)
    sampler.extend(noise)
    with pytest.raises(ValueError, match="3 sequences but there are 2 streams"):
        sampler.extend(noise_for(plain, 3, 4))
    with torch.no_grad():
        plain.hidden.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="1 of 49 weights of a layer are not finite"):
        native(plain, noise)


def test_one_frame_is_enough():
    case = CASES["mel"]
    model = case.model()
    noise = noise_for(model, 1, HOP)
    x = native_sampler(model).extend(noise, case.context(1, 1))
    assert x.shape == (1, HOP)


def test_without_the_kernel_pytorch_draws_and_one_line_says_so(monkeypatch):
    monkeypatch.setattr("wavestill.nn.native._missing", "No module named 'wavestill._native'")
    monkeypatch.setattr(sys.modules[native_function.__module__], "_has_warned", False)
    model, student = CASES["gaussian"].model(), STUDENTS["logistic"].model()
    noise = noise_for(model, 1, 20)
    with pytest.warns(RuntimeWarning, match="sampling with PyTorch instead") as told:
        x = native(model, noise)
    assert len(told) == 1
    assert "\n" not in str(told[0].message)
    sampler, draw = native_sampler(model), native_invert(student, noise)  # and not again
    assert torch.equal(x, cached(model, noise))
    assert torch.equal(sampler.extend(noise), x)
    assert torch.equal(draw.noise, student.invert(noise).noise)
    assert instruction_sets() == []
    for refuse in (lambda: NativeSampler(model), lambda: read_bandwidth(1 << 20)):
        with pytest.raises(RuntimeError, match="cannot be loaded"):
            refuse()


@needs_kernel
def test_reading_has_a_speed():
    rates = read_bandwidth(1 << 20, repeats=2)
    assert len(rates) == 2
    assert min(rates) > 0

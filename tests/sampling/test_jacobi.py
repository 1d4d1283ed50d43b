"""Fixed-point iteration: the sequential sample, step by step right, in passes that are counted."""

import math
from dataclasses import replace

import pytest
import torch

from tests.models.table import HOP, STUDENTS, TEACHERS
from wavestill.density import Draw
from wavestill.distributions import Normal, standard_noise
from wavestill.models import IAFWaveNet, IAFWaveNetConfig, WaveNet, WaveNetConfig
from wavestill.sampling import cached
from wavestill.sampling.inversion import jacobi_invert
from wavestill.sampling.jacobi import NOISE_MAX, jacobi, same_quantile

T = 8 * HOP
WINDOWS = [None, 1, 7, 16, T]
DISCRETE = {"logistics16", "mulaw", "pitch"}
# Which student can draft for a teacher: one of the same conditioning.
STUDENT_OF = {
    name: name if name in {"mel", "pitch", "voices", "mel+voices"} else "logistic"
    for name in TEACHERS
}


class StandIn:
    """What a density has besides and no fixed-point iteration asks for."""

    def log_prob(self, x, context=None):
        raise NotImplementedError

    def sample(self, num, context=None):
        raise NotImplementedError


class Recorded(StandIn):
    """A model that notes what it is asked, and what for."""

    def __init__(self, model):
        self.model, self.calls = model, []

    def __getattr__(self, name):
        return getattr(self.model, name)

    def conditionals(self, x, context=None):
        self.calls.append(x.clone())
        return self.model.conditionals(x, context)

    def advance(self, x, context=None, state=None):
        self.calls.append(x.clone())
        return self.model.advance(x, context, state)


class Dense(StandIn):
    """A Gaussian step whose mean is a masked product of all steps, as in a masked network."""

    def __init__(self, weight):
        self.weight = weight  # strictly lower triangular; the zeros take part in the product

    def conditionals(self, x, context=None):
        del context
        return Normal(x @ self.weight.T, torch.zeros_like(x))

    def advance(self, x_new, context=None, state=None):
        del context, state
        return Normal(torch.zeros(len(x_new), x_new.shape[1] + 1), torch.zeros(())), object()


class Explosive(StandIn):
    """A student whose samples leave the range of floats."""

    base = "normal"

    def __init__(self):
        self.fed = []

    def rsample(self, noise, context=None):
        del context
        self.fed.append(noise.clone())
        loc = torch.nn.functional.pad((60 * noise).exp().cumsum(1)[:, :-1], (1, 0))
        law = Normal(loc, torch.zeros_like(loc))
        return Draw(law.from_noise(noise), noise, law)


def drawn(name, seed=7, batch=3):
    """A teacher with context, noise, and its sample by the sequential way."""
    case = TEACHERS[name]
    model, context = case.model(), case.context(batch, 8)
    generator = torch.Generator().manual_seed(seed)
    noise = standard_noise(model.base, (batch, T), generator=generator, dtype=torch.float64)
    return model, context, noise, cached(model, noise, context)


def check_equal(name, x, expected):
    """Equal to the bit on the even grid; mu-law's decoding rounds as its batch is cut."""
    tolerance = 1e-12 if name in DISCRETE else 1e-9
    torch.testing.assert_close(x, expected, rtol=tolerance, atol=tolerance)
    if name in DISCRETE - {"mulaw"}:
        assert torch.equal(x, expected)


@pytest.mark.parametrize("name", TEACHERS)
def test_jacobi_equals_cached(name):
    model, context, noise, expected = drawn(name)
    for window in WINDOWS:
        result = jacobi(model, noise, context, window=window)
        assert result.converged
        check_equal(name, result.x, expected)
        assert bool((result.iterations <= T).all())
        assert bool((result.iterations >= math.ceil(T / (window or T))).all())
    assert result.samples_per_pass > 1.5  # the last window: all of the signal


@pytest.mark.parametrize("name", TEACHERS)
def test_any_start_leads_there(name):
    model, context, noise, expected = drawn(name)
    generator = torch.Generator().manual_seed(1)
    wild = 3 * torch.randn(noise.shape, generator=generator, dtype=torch.float64)
    for window in (None, 7):
        check_equal(name, jacobi(model, noise, context, start=wild, window=window).x, expected)
    answered = jacobi(model, noise, context, start=expected)
    assert answered.iterations.tolist() == [1, 1, 1]
    assert float(answered.first_residual.max()) < 1e-20
    answered = jacobi(model, noise, context, start=expected, window=16)
    assert answered.iterations.tolist() == [T // 16] * 3


@pytest.mark.parametrize("name", TEACHERS)
def test_iterating_in_a_students_noise_leads_there_too(name):
    model, context, noise, expected = drawn(name, batch=2)
    student = STUDENTS[STUDENT_OF[name]].model()
    for window in (None, 7):
        result = jacobi(model, noise, context, student=student, window=window)
        assert result.converged
        check_equal(name, result.x, expected)


@pytest.mark.parametrize("name", ["gaussian", "logistics16", "mulaw"])
def test_each_pass_makes_one_more_step_right(name):
    model, context, noise, expected = drawn(name)
    recorded = Recorded(model)
    result = jacobi(recorded, noise, context)
    assert len(recorded.calls) > 2
    for number, guess in enumerate(recorded.calls):
        check_equal(name, guess[:, :number], expected[:, :number])
    assert not torch.allclose(recorded.calls[1][:, 2:], expected[:, 2:], atol=1e-6)
    assert len(recorded.calls) == int(result.iterations.max())


@pytest.mark.parametrize("window", [None, 7])
def test_passes_are_counted_and_progress_is_told(window):
    model, context, noise, _ = drawn("mel")
    recorded, told = Recorded(model), []
    result = jacobi(recorded, noise, context, window=window, progress=told.append)
    assert len(recorded.calls) == len(told) == int(result.iterations.max())
    assert told == sorted(told)
    assert told[-1] == T
    assert result.samples_per_pass == pytest.approx(3 * T / int(result.iterations.sum()))


def test_sequences_do_not_wait_for_each_other():
    model, context, noise, expected = drawn("logistics16")
    start = torch.zeros_like(noise)
    start[1] = expected[1]
    alone = [
        int(jacobi(model, noise[i : i + 1], start=start[i : i + 1], window=8).iterations)
        for i in range(3)
    ]
    told = []
    together = jacobi(model, noise, context, start=start, window=8, progress=told.append)
    assert told[T // 8 - 1] < T  # the slowest is not done when the first is
    assert together.iterations.tolist() == alone
    assert alone[1] == T // 8 < min(alone[0], alone[2])


@pytest.mark.parametrize("name", ["gaussian", "logistics16"])
def test_too_few_passes_are_said_and_unfinished_steps_are_not_a_number(name):
    model, context, noise, expected = drawn(name)
    result = jacobi(model, noise, context, max_iterations=3)
    assert not result.converged
    assert result.iterations.tolist() == [3, 3, 3]
    for i, num_final in enumerate(result.num_final.tolist()):
        assert 3 <= num_final < T
        check_equal(name, result.x[i, :num_final], expected[i, :num_final])
        assert bool(result.x[i, num_final:].isnan().all())


def test_the_samples_own_error_is_what_is_reported():
    model, context, noise, _ = drawn("gaussian")
    result = jacobi(model, noise, context, tolerance=1e-3)
    image = model.conditionals(result.x, context).from_noise(noise)
    change = (image - result.x).abs().amax(1).detach()
    torch.testing.assert_close(result.residual, change, rtol=1e-6, atol=1e-12)
    assert 1e-8 < float(change.max()) <= 1e-3 / 3.0  # in standard deviations: the gain is 3


@pytest.mark.parametrize("through_student", [False, True])
def test_guesses_that_overflow_spoil_nothing(through_student):
    generator = torch.Generator().manual_seed(0)
    steep = torch.zeros(200, 200)
    for lag, tap in enumerate((1.9, -0.95)):  # rings, but is stable; |taps| sum to 2.85
        steep += tap * torch.diag(torch.ones(199 - lag), -1 - lag)
    model = Dense(steep)
    noise = torch.randn(2, 200, generator=generator)
    expected = torch.zeros_like(noise)
    for t in range(200):
        expected[:, t] = expected @ steep[t] + noise[:, t]
    assert torch.finfo(torch.float32).max < 2.85**200
    student = Explosive() if through_student else None
    result = jacobi(model, noise, student=student)
    torch.testing.assert_close(result.x, expected, rtol=1e-3, atol=1e-3)
    if student is not None:
        assert bool(student.rsample(noise).x.isinf().any())
        assert all(float(z.abs().max()) <= NOISE_MAX for z in student.fed)


def linear_pair(taps, student_taps):
    """A teacher that is a linear predictor and no more, and a student that is a synthesis filter.

    With the same taps they are the same map.
    """
    order = len(taps)
    shape = {"layers": 2, "residual_channels": 4, "gate_channels": 4, "skip_channels": 4}
    teacher = WaveNet(WaveNetConfig(**shape, head="gaussian", predictor_order=order)).double()
    student = IAFWaveNet(
        IAFWaveNetConfig((2,), channels=4, base="normal", initial_scale=1, predictor_order=order)
    ).double()
    with torch.no_grad():
        teacher.output.weight.zero_()
        teacher.predictor.weight.copy_(torch.tensor([taps]))
        for model in (teacher, student):
            model.gain.fill_(0.25)  # of the ringing process below: its standard deviation is 4
        teacher.residual_std.fill_(0.25)
    innovation = torch.tensor(0.25, dtype=torch.float64)
    student.synthesis.calibrate(torch.tensor(student_taps, dtype=torch.float64), innovation)
    return teacher, student


RINGING = [-0.9025, 1.5681]  # poles 0.95 exp(+-0.6 i), oldest sample first


@pytest.mark.parametrize("window", [None, 100])
def test_the_better_the_student_the_fewer_the_passes(window):
    noise = torch.randn(2, 400, dtype=torch.float64)
    num_windows = 400 // (window or 400)
    passes = {}
    for name, detuning in {"perfect": 0.0, "good": 1e-3, "poor": 0.2}.items():
        teacher, student = linear_pair(RINGING, [tap * (1 - detuning) for tap in RINGING])
        result = jacobi(teacher, noise, student=student, window=window)
        torch.testing.assert_close(result.x, cached(teacher, noise), rtol=1e-10, atol=1e-10)
        passes[name] = int(result.iterations.max())
    alone = jacobi(teacher, noise, window=window, start=student.rsample(noise).x.detach())
    assert passes["perfect"] <= 4 * num_windows  # one, but for rounding
    assert passes["good"] <= 10 * num_windows
    assert passes["good"] < passes["poor"] < int(alone.iterations.max())
    assert int(alone.iterations.max()) > 0.9 * 400  # as steep as this the plain way is no faster


def test_noise_of_the_other_base_has_the_same_quantiles():
    z = torch.linspace(-6, 6, 25, dtype=torch.float64)
    logistic = same_quantile(z, "normal", "logistic")
    torch.testing.assert_close(logistic.sigmoid(), torch.special.ndtr(z))
    torch.testing.assert_close(same_quantile(logistic, "logistic", "normal"), z)


def test_the_first_residual_of_a_draft_is_the_wasserstein_distance():
    teacher, student = linear_pair(RINGING, [tap * 0.9 for tap in RINGING])
    with torch.no_grad():
        teacher.output.bias[1] = math.log(1.5)
    noise = torch.randn(50, 400, dtype=torch.float64)
    draw = student.rsample(noise)
    result = jacobi(teacher, noise, start=draw.x.detach(), max_iterations=1)
    p, q = teacher.conditionals(draw.x).detach(), draw.conditionals.detach()
    squared_distance = (p.loc - q.loc).square() + (p.scale - q.scale).square()  # of two Gaussians
    assert float(result.first_residual.mean()) == pytest.approx(
        float(squared_distance.mean()),
        rel=0.05,  # 20,000 steps
    )


@pytest.mark.parametrize("name", STUDENTS)
def test_jacobi_inversion_equals_the_sequential_one(name):
    case = STUDENTS[name]
    student, context = case.model(), case.context(3, 8)
    generator = torch.Generator().manual_seed(2)
    noise = standard_noise(student.base, (3, T), generator=generator, dtype=torch.float64)
    x = student.rsample(noise, context).x.detach()
    expected = student.invert(x, context)
    for window in WINDOWS:
        result = jacobi_invert(student, x, context, window=window)
        torch.testing.assert_close(result.noise, expected.noise, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(result.log_prob, expected.log_prob, rtol=1e-9, atol=1e-9)
        back = student.rsample(result.noise, context).x
        torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
        assert result.iterations.shape == (3, len(student.flows))
        assert bool((result.iterations <= T).all())
    assert int(result.iterations.max()) < T  # the last window: all of the signal


@pytest.mark.parametrize("name", ["normal", "mel"])
@pytest.mark.parametrize("window", [None, 7])
def test_inversion_through_a_teacher_and_of_the_whole_student(name, window):
    case = STUDENTS[name]
    student, context = case.model(), case.context(2, 8)
    noise = standard_noise(student.base, (2, T), dtype=torch.float64)
    x = student.rsample(noise, context).x.detach()

    class Opaque(StandIn):
        base, encode = student.base, staticmethod(student.encode)
        rsample, stream = staticmethod(student.rsample), staticmethod(student.stream)

    teachers = ("mel",) if name == "mel" else ("gaussian", "logistics16")
    for teacher in (None, *(TEACHERS[key].model() for key in teachers)):
        result = jacobi_invert(Opaque(), x, context, teacher=teacher, window=window)
        torch.testing.assert_close(result.noise, noise, rtol=1e-9, atol=1e-9)
        assert result.iterations.shape == (2, 1)


def test_a_good_teacher_leaves_a_few_passes_to_the_inversion():
    teacher, student = linear_pair(RINGING, RINGING)
    with torch.no_grad():  # a flow that is no identity, and so no perfect student any more
        student.flows[0].output.weight.add_(0.02)
    noise = torch.randn(2, 400, dtype=torch.float64)
    x = student.rsample(noise).x.detach()
    through = jacobi_invert(student, x, teacher=teacher)
    torch.testing.assert_close(through.noise, noise, rtol=1e-9, atol=1e-9)
    assert 1 < int(through.iterations.max()) <= 20


def test_inversions_passes_are_of_each_flow_and_its_progress_of_all():
    student, told = STUDENTS["logistic"].model(), []
    with torch.no_grad():
        student.flows[0].output.weight.zero_()  # shapes that depend on nothing: found at once
    result = jacobi_invert(student, torch.zeros(1, T, dtype=torch.float64), progress=told.append)
    assert int(result.iterations[0, 0]) == 2 < int(result.iterations[0, 1])
    assert told == sorted(told)
    assert told[-1] == T
    assert len(told) == int(result.iterations.sum())


def test_what_cannot_be_sampled_is_refused():
    model, student = TEACHERS["gaussian"].model(), STUDENTS["normal"].model()
    noise = torch.zeros(1, 5, dtype=torch.float64)
    with pytest.raises(ValueError, match="at least one step"):
        jacobi(model, noise[:, :0])
    with pytest.raises(ValueError, match="1 values of the noise are not finite"):
        jacobi(model, torch.tensor([[0.0, float("nan")]], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"start is \(1, 4\) but the noise \(1, 5\)"):
        jacobi(model, noise, start=noise[:, 1:])
    with pytest.raises(ValueError, match="5 values of the start are not finite"):
        jacobi(model, noise, start=noise / 0)
    with pytest.raises(ValueError, match="leave out 'start' or 'student'"):
        jacobi(model, noise, start=noise, student=student)
    with pytest.raises(ValueError, match="window is 0"):
        jacobi(model, noise, window=0)
    with pytest.raises(ValueError, match="max_iterations is 0"):
        jacobi(model, noise, max_iterations=0)
    with pytest.raises(ValueError, match="state of Dense cannot be cut"):
        jacobi(Dense(torch.zeros(5, 5)), noise.float(), window=2)


def test_what_cannot_be_inverted_is_refused():
    student = STUDENTS["mel"].model()
    context = STUDENTS["mel"].context(1, 2)
    x = torch.zeros(1, 2 * HOP, dtype=torch.float64)
    with pytest.raises(ValueError, match="at least one step"):
        jacobi_invert(student, x[:, :0], context)
    with pytest.raises(ValueError, match="16 values of x are not finite"):
        jacobi_invert(student, x / 0, context)
    with pytest.raises(ValueError, match="15 samples but its frames cover 16"):
        jacobi_invert(student, x[:, 1:], context)
    with pytest.raises(ValueError, match="window is -1"):
        jacobi_invert(student, x, context, window=-1)
    far = TEACHERS["gaussian"].model().sample(1, length=400)
    steep = STUDENTS["logistic"].model()
    with torch.no_grad():
        steep.flows[-1].output.weight.mul_(10)
    with pytest.raises(ValueError, match=r"inverse of this audio runs away at step \d+ of 400"):
        steep.invert(far)
    with pytest.raises(ValueError, match=r"step \d+ is not finite .* its inverse runs away"):
        jacobi_invert(steep, far, window=50)
    with pytest.raises(ValueError, match="no noise for a sample"):
        jacobi_invert(STUDENTS["normal"].model(), x, teacher=TEACHERS["mulaw"].model())


@pytest.mark.parametrize("window", [None, 4])
def test_a_context_that_breaks_the_model_is_told_by_its_step(window):
    model, context = TEACHERS["mel"].model(), TEACHERS["mel"].context(1, 8)
    encoded = model.encode(context)
    features = encoded.features.detach().clone()
    features[:, 12] = float("nan")  # rows of 4 samples
    noise = torch.zeros(1, T, dtype=torch.float64)
    with pytest.raises(ValueError, match="step 48 is not finite though all before it are"):
        jacobi(model, noise, replace(encoded, features=features), window=window)

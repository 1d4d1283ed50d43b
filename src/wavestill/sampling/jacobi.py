r"""Jacobi sampling: a teacher's own sample, all steps at once, iterated until it stands still.

.. math:: x^{(i+1)}_t = F_p^{-1}\big(F_\mathrm{base}(z_t) \mid x^{(i)}_{<t}\big)

The map from noise to sound is triangular, so `triangular.solve` applies: the sample that `cached`
makes of the same noise, in at most `T` passes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from wavestill.density import Autoregressive, Context, InverseAutoregressive, OwnState
from wavestill.distributions import Base, Discretized, Distribution, MuLaw, same_quantile
from wavestill.sampling.acceptance import Draft, draft_for, in_double
from wavestill.sampling.cached import check_noise
from wavestill.sampling.triangular import (
    Laws,
    SlidingLaws,
    TriangularMap,
    WholeLaws,
    Window,
    check_window,
    padded,
    solve,
)

# In units of the rounding of one number. Measured on a student within 4e-5 nats of its teacher:
# at 4 roundings most of the passes wait for rounding to agree with itself, at 16 hardly any.
TOLERANCE_EPS = 16.0
# No base draw of float64 lies beyond (`standard_noise`).
NOISE_MAX = 40.0


@dataclass
class Jacobi:
    """A teacher's samples by fixed-point iteration, and what they cost.

    Arguments:
        x: The samples, `(B, T)`; NaN where the iterations allowed did not suffice.
        num_final: Steps that did, `(B,)`: `T` unless `max_iterations` was given.
        iterations: Passes until then, `(B,)`; the longest is the number of passes in all.
        residual: The sample's own error, `(B,)`: the largest difference between a step and its
            image under the map. 0 on a grid.
        first_residual: Mean squared change of the first guess in the first pass, over its window,
            `(B,)`. From a student's draft of the same noise over the whole signal it is, on
            average, the squared Wasserstein distance :math:`W_2^2` of student and teacher per
            step, under the student's prefixes.
    """

    x: Tensor
    num_final: Tensor
    iterations: Tensor
    residual: Tensor
    first_residual: Tensor

    @property
    def converged(self) -> bool:
        """Whether all steps of all samples are final."""
        return bool((self.num_final == self.x.shape[1]).all())

    @property
    def samples_per_pass(self) -> float:
        """Final steps of a sequence per pass that it took part in; 1 is the sequential pace."""
        return float(self.num_final.sum() / self.iterations.sum())


@torch.no_grad()
def jacobi(
    model: Autoregressive,
    noise: Tensor,
    context: Context = None,
    *,
    start: Tensor | None = None,
    student: InverseAutoregressive | None = None,
    window: int | None = None,
    tolerance: float | None = None,
    max_iterations: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Jacobi:
    r"""Map noise to a sample by parallel fixed-point iteration.

    Exact: the same map as `cached`, to the tolerance; on a grid, the same levels. A pass of the
    network over a window makes one step final for certain, and with it all that follow whose
    guesses have stopped changing. How many these are depends on how steeply a step depends on
    those before it: where an error of the past is magnified (a resonance; a sharp teacher of
    speech), guesses get worse with each pass until their turn comes, whatever the start, and the
    pace is the sequential one.

    With a ``student`` the iteration runs in the student's noise instead. Let
    :math:`x = G(\tilde z)` be its map and :math:`q_t` its own conditionals:

    .. math:: \tilde z^{(i+1)}_t = F_\mathrm{base}^{-1}\big(F_q(x^\ast_t \mid x^{(i)}_{<t})\big),
        \quad x^\ast_t = F_p^{-1}\big(F_\mathrm{base}(z_t) \mid x^{(i)}_{<t}\big),
        \quad x^{(i)} = G(\tilde z^{(i)})

    Triangular as well, of the same fixed point. What is iterated is only the difference of the
    two: a perfect student (which is the teacher's own map, by Knothe and Rosenblatt) has
    :math:`\tilde z = z` after one pass, a good one after a few, however steep both are. A pass
    then costs one of each network. Guesses for a teacher on a grid are rounded to it.

    References:
        | Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving (Song et
          al., 2021), https://arxiv.org/abs/2002.03629

    Note:
        We know of no published account of the iteration in the student's noise.

    Arguments:
        model: The density.
        noise: Base draws `z (B, T)` of the kind that the model's steps take.
        context: As for the model's `conditionals`. With a student `Conditioning` or frames, given
            to both; each encodes them itself.
        start: First guess `(B, T)`, such as a student's sample of the same noise; None: zeros.
        student: Iterate in its noise, from its own sample of the same quantiles. Any will do: a
            poor one costs passes and never exactness.
        window: Steps per pass. A window slides over what is final; it needs models whose states
            can be cut (`density.State`). None takes the whole signal in each pass, which needs
            `conditionals` and `rsample` only.
        tolerance: Largest change of a step that counts as none, in standard deviations of the
            data where the model tells (its `gain`), else in units of x. None: 16 roundings of
            the noise's dtype. With 0 a continuous head waits for rounding to repeat itself, and
            may not get ahead of the sequential pace.
        max_iterations: Passes at most; None: as many as it takes, `T` at most.
        progress: Called after each pass with the number of finished steps of the slowest
            sequence.

    Returns:
        The samples, with passes and residuals.

    Raises:
        ValueError: If the noise or the start is not finite or of another shape, a start is given
            beside a student, a number is out of range, a model's state cannot be cut though a
            window is given, or a step is not finite.

    Example:
        >>> from wavestill.models import WaveNet, WaveNetConfig
        >>> from wavestill.sampling import cached, standard_noise
        >>> teacher = WaveNet(WaveNetConfig(layers=4, residual_channels=8, gate_channels=8))
        >>> noise = standard_noise(teacher.base, (2, 100))
        >>> result = jacobi(teacher, noise)
        >>> result.converged, torch.allclose(result.x, cached(teacher, noise), atol=1e-4)
        (True, True)
    """
    check_noise(noise)
    check_window(window)
    _check_start(noise, start, student)
    if max_iterations is not None and max_iterations < 1:
        raise ValueError(f"max_iterations is {max_iterations}; give at least 1, or None")
    if tolerance is None:
        tolerance = TOLERANCE_EPS * torch.finfo(noise.dtype).eps
    unit = 1.0 / float(model.gain) if hasattr(model, "gain") else 1.0
    x = padded(torch.zeros_like(noise) if start is None else start, window)
    z = padded(noise, window)
    teacher = teacher_laws(model, context, window)
    system: TriangularMap
    if student is None:
        system = _Direct(teacher, z, x)
    else:
        # Laws and protocols do not tell a model's base; those without one take the commonest.
        bases: list[Base] = [getattr(one, "base", "logistic") for one in (model, student)]
        drafts = student_laws(student, context, window)
        system = _ThroughStudent(teacher, drafts, z, x, same_quantile(z, *bases).clone())
    solution = solve(
        system,
        noise,
        window=window,
        tolerance=tolerance * unit,
        max_iterations=max_iterations,
        progress=progress,
    )
    x = x[:, : noise.shape[1]]
    steps = torch.arange(noise.shape[1], device=noise.device)
    return Jacobi(
        torch.where(steps < solution.num_final.unsqueeze(1), x, torch.nan),
        solution.num_final,
        solution.iterations,
        solution.residual,
        solution.first_residual,
    )


def student_laws(student: InverseAutoregressive, context: Context, window: int | None) -> Laws:
    """A student's laws given its noise, of the whole signal or a sliding window."""
    encoded = student.encode(context) if hasattr(student, "encode") else context
    if window is None:
        return WholeLaws(lambda z: student.rsample(z, encoded).conditionals)
    name = type(student).__name__
    stream = getattr(student, "stream", None)
    if stream is None:
        raise ValueError(f"{name} has no 'stream', which windows need; leave 'window' out")

    def extend(z: Tensor, state: OwnState) -> tuple[Distribution, OwnState]:
        draw, state = stream(z, encoded if state is None else None, state)
        return draw.conditionals, state

    return SlidingLaws(extend, ahead=1, name=name)


def teacher_laws(model: Autoregressive, context: Context, window: int | None) -> Laws:
    """A teacher's laws given the sound, of the whole signal or a sliding window."""
    encoded = model.encode(context) if hasattr(model, "encode") else context
    if window is None:
        return WholeLaws(lambda x: model.conditionals(x, encoded))

    def extend(x: Tensor, state: OwnState) -> tuple[Distribution, OwnState]:
        return model.advance(x, encoded if state is None else None, state)

    return SlidingLaws(extend, ahead=0, name=type(model).__name__)


class _Direct(TriangularMap):
    """The teacher's map of x."""

    remedy = "check the context and the model's weights"

    def __init__(self, teacher: Laws, noise: Tensor, x: Tensor) -> None:
        self.laws = (teacher,)
        self.bound = torch.finfo(x.dtype).max ** 0.5  # squares stay finite
        self._noise, self._x = noise, x

    @override
    def evaluate(self, window: Window) -> tuple[Tensor, Tensor]:
        laws = self.laws[0].read(self._x, window)
        return window.of(self._x), laws.from_noise(window.of(self._noise))

    @override
    def update(self, window: Window, values: Tensor) -> None:
        window.put(self._x, values)


class _ThroughStudent(TriangularMap):
    """The same in the student's noise; guess and image are still those of x."""

    remedy = _Direct.remedy

    def __init__(
        self, teacher: Laws, student: Laws, noise: Tensor, x: Tensor, student_noise: Tensor
    ) -> None:
        self.laws = (teacher, student)
        self.bound = torch.finfo(x.dtype).max ** 0.5
        self._noise, self._x, self._student_noise = noise, x, student_noise
        self._grid: Discretized | MuLaw | None = None  # told by the first laws of the teacher
        self._drafts: Draft | None = None

    @override
    def evaluate(self, window: Window) -> tuple[Tensor, Tensor]:
        teacher, student = self.laws
        self._drafts = draft_for(student.read(self._student_noise, window), self._grid)
        draft = self._drafts.from_noise(window.of(self._student_noise).double())
        is_final = window.steps < window.final.unsqueeze(1)
        known = window.of(self._x)
        held = draft.nan_to_num(0.0).clamp(-self.bound, self.bound).to(known.dtype)
        guess = torch.where(is_final, known, held)
        window.put(self._x, guess)
        laws = teacher.read(self._x, window)
        self._grid = in_double(laws) if isinstance(laws, Discretized | MuLaw) else None
        return guess, laws.from_noise(window.of(self._noise))

    @override
    def update(self, window: Window, values: Tensor) -> None:
        assert self._drafts is not None
        old = window.of(self._student_noise)
        half = torch.full_like(values, 0.5, dtype=torch.float64)  # the middle of a bin
        new = self._drafts.to_noise(values.double(), half).to(old.dtype)
        # The student sees no noise but such as is drawn: a value far in its tails would otherwise
        # spoil its drafts for a receptive field.
        new = new.nan_to_num(0.0, NOISE_MAX, -NOISE_MAX).clamp(-NOISE_MAX, NOISE_MAX)
        window.put(self._student_noise, torch.where(values == window.of(self._x), old, new))
        window.put(self._x, values)


def _check_start(noise: Tensor, start: Tensor | None, student: object) -> None:
    if start is None:
        return
    if student is not None:
        raise ValueError("a student makes its own start; leave out 'start' or 'student'")
    if start.shape != noise.shape:
        raise ValueError(
            f"the start is {tuple(start.shape)} but the noise {tuple(noise.shape)}; "
            "give one guess for each step"
        )
    if not bool(torch.isfinite(start).all()):
        raise ValueError(
            f"{int((~torch.isfinite(start)).sum())} values of the start are not finite; "
            "start from a finite guess"
        )

r"""Fixed points of triangular maps, by parallel iteration.

A map :math:`\Phi` is triangular when :math:`\Phi_t(y)` depends on :math:`y_{<t}` only. Its one
fixed point, computed step after step, takes as many evaluations as there are steps. Iterated in
parallel,

.. math:: y^{(i+1)}_t = \Phi_t(y^{(i)}_{<t}) \quad \text{for all } t,

it is reached as well: if the first :math:`m` steps are right, one evaluation more makes those
right, and :math:`m + 1` too. So it never takes more evaluations than the sequential way, from any
start, and fewer where later steps come right before their turn.

A sequence is solved in a window that begins where the right steps end and slides as they grow, so
an evaluation costs a window and not the sequence, and no window waits for its slowest step.

References:
    | Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving (Song et al.,
      2021), https://arxiv.org/abs/2002.03629
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from wavestill.density import OwnState, State
from wavestill.distributions import Distribution


@dataclass
class Window:
    """The steps that one evaluation is about, of each sequence still in work.

    Arguments:
        rows: Sequences, `(A,)`.
        first: First step of each, `(A,)`.
        final: Steps of each that are right already, `(A,)`.
        width: Steps `n`. Those of a sequence near its end run over it, into padding.
    """

    rows: Tensor
    first: Tensor
    final: Tensor
    width: int

    @property
    def steps(self) -> Tensor:
        """Positions of the steps, `(A, n)`."""
        return self.first.unsqueeze(1) + torch.arange(self.width, device=self.first.device)

    def of(self, sequences: Tensor) -> Tensor:
        """The window's part of `(B, T)`, `(A, n)`."""
        return sequences[self.rows.unsqueeze(1), self.steps]

    def put(self, sequences: Tensor, values: Tensor) -> None:
        """Write the window's part of `(B, T)`."""
        sequences[self.rows.unsqueeze(1), self.steps] = values


@runtime_checkable
class Laws(Protocol):
    """A model's laws of the steps of a window, given the values before each."""

    def read(self, values: Tensor, window: Window) -> Distribution:
        """The laws `(A, n)` under `values (B, T)`: one pass of the model."""
        ...

    def settle(self, final: Tensor) -> None:
        """Go on from the steps that are right, `final (A,)` of each sequence."""
        ...

    def select(self, index: Tensor) -> None:
        """Keep only the sequences `index` of those in work."""
        ...


class WholeLaws:
    """All steps of all sequences in each pass.

    Arguments:
        laws: From values `(B, T)` to the laws of all steps.
    """

    def __init__(self, laws: Callable[[Tensor], Distribution]) -> None:
        self._laws = laws

    def read(self, values: Tensor, window: Window) -> Distribution:
        """See `Laws`."""
        del window
        return self._laws(values)

    def settle(self, final: Tensor) -> None:
        """Nothing is carried from pass to pass."""

    def select(self, index: Tensor) -> None:
        """Sequences that are done stay: their context was given with the others'."""


class SlidingLaws:
    """The steps of a sliding window, from a state that holds what lies before it.

    The state lags one step behind the right ones: the last of them was computed in the pass that
    found its guess wrong, so the model has not seen it yet.

    Arguments:
        extend: From the next values `(A, n)` and the state to laws and the state, as `advance` or
            `stream`.
        ahead: 0 where the last law returned follows the last value, 1 where it is that of its
            own step (a student's).
        name: What the model is called in errors.
    """

    def __init__(
        self,
        extend: Callable[[Tensor, OwnState], tuple[Distribution, OwnState]],
        *,
        ahead: int,
        name: str,
    ) -> None:
        self._extend, self._ahead, self._name = extend, ahead, name
        self._state: State | None = None

    def read(self, values: Tensor, window: Window) -> Distribution:
        """See `Laws`."""
        lag = 0 if self._state is None else 1
        num_values = window.width - 1 + self._ahead + lag
        steps = torch.arange(num_values, device=values.device) - lag
        fed = values[window.rows.unsqueeze(1), window.first.unsqueeze(1) + steps]
        laws, state = self._extend(fed, self._state)
        if not isinstance(state, State):
            raise ValueError(
                f"the state of {self._name} cannot be cut; give it 'rewind' and 'select' "
                "(density.State), or leave 'window' out"
            )
        self._state = state
        self._seen = window.first + window.width - 1 + self._ahead
        return laws[:, -window.width :]

    def settle(self, final: Tensor) -> None:
        """See `Laws`."""
        surplus = self._seen - (final - 1)
        agree = bool((surplus == surplus[0]).all())  # one number keeps one common position
        assert self._state is not None
        self._state.rewind(int(surplus[0]) if agree else surplus)

    def select(self, index: Tensor) -> None:
        """See `Laws`."""
        assert self._state is not None
        self._state.select(index)


class TriangularMap(ABC):
    r"""What is iterated: :math:`\Phi` together with the guesses of its fixed point.

    Attributes:
        laws: All that carry a state.
        bound: Guesses are held within this: see `solve`.
        remedy: What to do where a step has no finite value.
    """

    laws: tuple[Laws, ...]
    bound: float
    remedy: ClassVar[str]

    @abstractmethod
    def evaluate(self, window: Window) -> tuple[Tensor, Tensor]:
        r"""The guesses :math:`y_t` and their images :math:`\Phi_t(y)` in a window, `(A, n)`."""

    @abstractmethod
    def update(self, window: Window, values: Tensor) -> None:
        """Take `values (A, n)`: right where that is known, and better guesses elsewhere."""


@dataclass
class Solution:
    """How a fixed point was reached; all `(B,)`.

    Arguments:
        num_final: Steps that are right.
        iterations: Evaluations until then.
        residual: Largest change of a step that was taken as right because it stopped changing.
        first_residual: Mean squared change of the start in the first evaluation.
    """

    num_final: Tensor
    iterations: Tensor
    residual: Tensor
    first_residual: Tensor


def solve(
    system: TriangularMap,
    like: Tensor,
    *,
    window: int | None,
    tolerance: float,
    max_iterations: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Solution:
    r"""Iterate to the fixed point.

    A step is right if all before it are and either it did not change (by more than the tolerance),
    or it is the first that did: then its image is what the sequential way computes. The value kept
    of an unchanged step is the one that the steps after it were computed from, so the result
    satisfies its own equations to the tolerance.

    Guesses may run away before their turn comes: images of wrong values, images of those, and so
    on, beyond the range of floats. Nothing causal carries that backwards, but a mask times
    infinity does (0 x inf). So what is not yet right is held within `bound`, and 0 stands for NaN;
    what is right is never touched, and where the right value lies beyond the bound, its turn comes
    in the end.

    Arguments:
        system: The map.
        like: A tensor of the sequences' shape `(B, T)`, dtype and device.
        window: Steps per evaluation; None for all.
        tolerance: Largest change of an unchanged step, >= 0.
        max_iterations: Evaluations at most; None for as many as it takes, at most `T`.
        progress: Called after each evaluation with the right steps of the slowest sequence.

    Raises:
        ValueError: If a step is not finite though all before it are right.
    """
    length = like.shape[1]
    final, iterations = (
        torch.zeros(len(like), dtype=torch.long, device=like.device) for _ in range(2)
    )
    residual, first_residual = torch.zeros_like(like[:, 0]), torch.zeros_like(like[:, 0])
    rows = torch.arange(len(like), device=like.device)
    for number in range(length if max_iterations is None else max_iterations):
        here = final[rows]
        if window is None:
            view = Window(rows, torch.zeros_like(here), here, length)
        else:
            view = Window(rows, here, here, min(window, length - int(here.min())))
        guess, image = system.evaluate(view)
        change = (image - guess).abs()
        steps = view.steps
        is_open = (steps >= here.unsqueeze(1)) & (steps < length)
        is_close = (steps < here.unsqueeze(1)) | (change <= tolerance)
        turn = (view.first + is_close.long().cumprod(1).sum(1)).unsqueeze(1)  # first that changed
        _check_finite(image, (steps == turn) & is_open, steps, system.remedy)
        held = image.nan_to_num(0.0, system.bound, -system.bound).clamp(
            -system.bound, system.bound
        )
        values = torch.where(steps < turn, guess, torch.where(steps == turn, image, held))
        system.update(view, values)

        if number == 0:
            first_residual = torch.where(is_open, change, 0.0).square().mean(1)
        is_kept = is_open & (steps < turn)
        largest = torch.where(is_kept, change, 0.0).amax(1)
        residual[rows] = torch.maximum(residual[rows], largest)
        iterations[rows] += (here < length).long()
        end = (view.first + view.width).clamp(max=length)
        now = torch.minimum(turn.squeeze(1) + 1, end)
        final[rows] = now
        if progress is not None:
            progress(int(final.min()))
        remaining = (now < length).nonzero().squeeze(1)
        if len(remaining) == 0:
            break
        for laws in system.laws:
            laws.settle(now)
            if window is not None and len(remaining) < len(rows):
                laws.select(remaining)
        if window is not None:
            rows = rows[remaining]
    return Solution(final, iterations, residual, first_residual)


def padded(sequences: Tensor, window: int | None) -> Tensor:
    """A copy of `(B, T)` with room for windows that run over the end."""
    return torch.nn.functional.pad(sequences, (0, 0 if window is None else window))


def check_window(window: int | None) -> None:
    """Refuse a window that holds no step.

    Raises:
        ValueError: If it is not positive.
    """
    if window is not None and window < 1:
        raise ValueError(f"the window is {window}; give at least 1, or None for the whole signal")


def _check_finite(image: Tensor, is_turn: Tensor, steps: Tensor, remedy: str) -> None:
    """Refuse a step that no later pass would mend."""
    is_broken = is_turn & ~torch.isfinite(image)
    if bool(is_broken.any()):
        raise ValueError(
            f"step {int(steps[is_broken].min())} is not finite though all before it are; {remedy}"
        )

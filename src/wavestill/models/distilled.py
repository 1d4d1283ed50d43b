r"""Teacher and student as one density: fast samples, fast likelihood, and what lies between.

The student draws in one pass, the teacher scores in one pass. Where they differ, three ways lead
back to the teacher: weights, exact draft and verification, and chains.
"""

from collections.abc import Callable, Iterator
from typing import Literal, cast

import torch
from torch import Tensor

from wavestill.density import (
    Autoregressive,
    Context,
    Reparametrised,
    Streaming,
    fresh_noise,
)
from wavestill.distributions import Logistic, Normal
from wavestill.models.adoption import taken_in
from wavestill.sampling.importance import Estimate, Weighted, weighted
from wavestill.sampling.metropolis import Chains, metropolis
from wavestill.sampling.speculative import Speculation, speculative

ROWS_AT_ONCE = 16_384
"""Draws that pass the models together: bounds memory, nothing else."""


class Distilled:
    """A teacher and its student.

    `log_prob` asks whose: there is no default, for the two are not the same.

    Arguments:
        teacher: A density of vectors, or anything `as_density` takes.
        student: Its student.
        num_dims: Numbers of a vector, if the student does not tell (`student.num_dims`).

    Raises:
        ValueError: If the size of a vector is open.

    Example:
        >>> from wavestill.models.flows import IAF, MAF
        >>> both = Distilled(MAF(3), IAF(3))
        >>> x = both.sample(1000)
        >>> both.log_prob(x, of="teacher").shape
        torch.Size([1000])
        >>> both.expectation(lambda x: x.square(), 2000).value.shape
        torch.Size([3])
    """

    def __init__(
        self, teacher: object, student: Reparametrised, num_dims: int | None = None
    ) -> None:
        self.teacher = taken_in(teacher)
        self.student = student
        size = num_dims or getattr(student, "num_dims", None)
        if size is None:
            raise ValueError(
                f"'{type(student).__name__}' does not tell the size of a vector; give 'num_dims'"
            )
        self.num_dims = int(size)

    def sample(
        self, num: int, context: Context = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """`num` draws of the student, `(num, D)`: one pass, and the student's law."""
        return self._draw(num, context, generator)[0]

    def log_prob(
        self, x: Tensor, context: Context = None, *, of: Literal["teacher", "student"]
    ) -> Tensor:
        """Log-density of `x` in nats, `(B,)`: the teacher's in one pass, the student's in `D`."""
        with torch.no_grad():
            if of == "teacher":
                return self.teacher.log_prob(x, context)
            if of == "student":
                return self.student.log_prob(x, context)
        raise ValueError(f"'of' is '{of}'; give 'teacher' or 'student'")

    def weigh(
        self,
        num: int,
        context: Context = None,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Weighted:
        """Draws of the student with weights towards the teacher, their k-hat and their worth.

        Arguments:
            num: Draws.
            context: One row for all, one for each draw, or None.
            temperature: Factor on the student's noise. The weights are of the law that is drawn
                from, so they stay right; above 1 the tails are seen more often, which tail
                expectations need.
            generator: Source of the noise.
        """
        x, log_q = self._draw(num, context, generator, temperature)
        log_p = torch.cat(
            [self.log_prob(rows, own, of="teacher") for rows, own in _together(x, context)]
        )
        return weighted(x, log_p - log_q)

    def expectation(
        self,
        function: Callable[[Tensor], Tensor],
        num: int,
        context: Context = None,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Estimate:
        """The teacher's expectation of a function, from `num` weighted draws of the student.

        Arguments:
            function: From draws `(num, D)` to values `(num, ...)`.
            num: Draws.
            context: As for `weigh`.
            temperature: As for `weigh`.
            generator: Source of the noise.

        Raises:
            ImportanceError: If the weights' tail, or that of the weighted values, is too heavy to
                be averaged over.
        """
        draws = self.weigh(num, context, temperature=temperature, generator=generator)
        return draws.expectation(function)

    def kl(
        self, num: int, context: Context = None, *, generator: torch.Generator | None = None
    ) -> tuple[float, float]:
        """KL(student‖teacher) of whole vectors in nats, with its standard error."""
        log_ratio = -self.weigh(num, context, generator=generator).log_weights.double()
        return float(log_ratio.mean()), float(log_ratio.std() / num**0.5)

    def exact(
        self, num: int, context: Context = None, *, generator: torch.Generator | None = None
    ) -> Speculation:
        """`num` exact draws of the teacher, drafted by the student and verified.

        Raises:
            ValueError: If the two do not show the laws of their steps in one order.
        """
        reason = self.why_not_exact()
        if reason is not None:
            raise ValueError(f"{reason}; draw by 'metropolis', whose samples are asymptotic")
        noise = fresh_noise(self.student, (num, self.num_dims), generator=generator)
        return speculative(
            cast(Autoregressive, self.teacher),
            cast(Streaming, self.student),
            noise,
            context,
            generator=generator,
        )

    def why_not_exact(self) -> str | None:
        """Why draft and verification cannot be, in one line; None if it can."""
        if not isinstance(self.teacher, Autoregressive):
            name = type(self.teacher).__name__
            return f"the teacher ({name}) knows no law of a single step p(x_t | x_<t)"
        if not isinstance(self.student, Streaming):
            name = type(self.student).__name__
            return f"the student ({name}) knows no law of a single step in the teacher's order"
        return None

    def metropolis(
        self,
        num: int,
        context: Context = None,
        *,
        num_chains: int = 64,
        burn_in: int = 100,
        generator: torch.Generator | None = None,
    ) -> Chains:
        """`num` draws of chains that tend to the teacher, proposed by the student: asymptotic."""
        return metropolis(
            self.teacher,
            self.student,
            (num, self.num_dims),
            context,
            num_chains=num_chains,
            burn_in=burn_in,
            generator=generator,
        )

    @torch.no_grad()
    def _draw(
        self,
        num: int,
        context: Context,
        generator: torch.Generator | None,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Draws with the log-density that they were drawn by."""
        if not temperature > 0:
            raise ValueError(f"'temperature' is {temperature}; it must be positive")
        shape = num, self.num_dims
        noise = temperature * fresh_noise(self.student, shape, generator=generator)
        draws = [self.student.rsample(rows, own) for rows, own in _together(noise, context)]
        x, log_q = torch.cat([d.x for d in draws]), torch.cat([d.log_prob for d in draws])
        if temperature != 1.0:
            zeros = torch.zeros_like(noise)
            law = (Normal if self.student.base == "normal" else Logistic)(zeros, zeros)  # type: ignore[attr-defined]
            wider = law.affine(temperature)
            log_q = log_q + (wider.log_prob(noise) - law.log_prob(noise)).sum(-1)
        return x, log_q


def _together(rows: Tensor, context: Context) -> Iterator[tuple[Tensor, Context]]:
    """As many rows as pass at once, with their contexts where each has its own."""
    pieces = torch.split(rows, ROWS_AT_ONCE)
    is_each = isinstance(context, Tensor) and context.dim() > 1 and len(context) == len(rows)
    contexts = torch.split(context, ROWS_AT_ONCE) if is_each else [context] * len(pieces)
    return zip(pieces, contexts, strict=True)

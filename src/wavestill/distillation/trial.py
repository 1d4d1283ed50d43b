"""One trial of a student before its teacher: what every term of the objective looks at."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from wavestill.density import Context, Density, Draw
from wavestill.distributions import Distribution


class FrozenTeacher(nn.Module):
    """A copy of a teacher that cannot learn and is always in eval mode (no dropout).

    Gradients pass through it to its input, never to its parameters; the density it was copied from
    is left alone.
    """

    def __init__(self, teacher: Density) -> None:
        super().__init__()
        self.density = deepcopy(teacher)
        if isinstance(self.density, nn.Module):
            self.density.requires_grad_(requires_grad=False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenTeacher":  # noqa: FBT001, FBT002
        """Stays in eval mode whatever is asked."""
        del mode
        return super().train(mode=False)

    @property
    def gives_conditionals(self) -> bool:
        """Whether the teacher tells the law of every step."""
        return hasattr(self.density, "conditionals")


@dataclass
class Trial:
    """The student's draw, the recording of the same context, and the teacher's view of the draw.

    Arguments:
        draw: The student's sample and its own laws.
        laws: The teacher's laws `p(x_t | x_<t)` along the student's sample; None where it gives
            only `log_prob`.
        teacher: The frozen teacher.
        context: The common context.
        reference: The recording, `(B, T)`; None where there is none.
        generator: Source of the terms' own randomness.
    """

    draw: Draw
    laws: Distribution | None
    teacher: FrozenTeacher
    context: Context
    reference: Tensor | None
    generator: torch.Generator | None = None

    def require_reference(self, term: str) -> Tensor:
        """The recording.

        Raises:
            ValueError: If there is none.
        """
        if self.reference is None:
            raise ValueError(
                f"the term '{term}' compares with recordings but none were given; "
                "give data or drop it"
            )
        return self.reference


@runtime_checkable
class Term(Protocol):
    """A named part of the objective: a scalar of a trial, smaller is better."""

    def __call__(self, trial: Trial) -> Tensor:
        """The term's value."""
        ...

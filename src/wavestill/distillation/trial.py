"""One trial of a student before its teacher: what every term of the objective looks at."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from wavestill.density import Context, Density, Draw, JointDraw
from wavestill.distributions import Distribution

Estimator = Literal["conditionals", "log_prob"]
"""What a divergence is computed by: the laws of every step, or the joint densities."""


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
        draw: The student's sample with its own laws, or with its joint density alone.
        laws: The teacher's laws `p(x_t | x_<t)` along the student's sample; None where either side
            knows only its joint density.
        teacher: The frozen teacher.
        context: The common context.
        reference: The recording, `(B, T)`; None where there is none.
        generator: Source of the terms' own randomness.
    """

    draw: Draw | JointDraw
    laws: Distribution | None
    teacher: FrozenTeacher
    context: Context
    reference: Tensor | None
    generator: torch.Generator | None = None

    @property
    def pairs(self) -> tuple[Distribution, Distribution] | None:
        """Both laws of every step, the student's and the teacher's; None where not known."""
        if self.laws is None or not isinstance(self.draw, Draw):
            return None
        return self.draw.conditionals, self.laws

    @property
    def estimator(self) -> Estimator:
        """What a divergence of this trial is computed by."""
        return "log_prob" if self.pairs is None else "conditionals"

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

"""One trial of a student before its teacher: what every term of the objective looks at."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from wavestill.density import Context, Density, Draw, JointDraw, Reparametrised
from wavestill.distributions import Distribution

Estimator = Literal["conditionals", "log_prob"]
"""What a divergence is computed by: the laws of every step, or the joint densities."""

Pair = tuple[Distribution, Distribution]
"""Laws of the same steps: the student's, then the teacher's."""


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

    @torch.no_grad()
    def follow(self, live: Density, rate: float) -> None:
        r"""Move towards a teacher that learns; its buffers are taken over.

        .. math:: \theta \leftarrow \theta + r (\theta_\mathrm{live} - \theta)
        """
        if not isinstance(self.density, nn.Module) or not isinstance(live, nn.Module):
            raise ValueError(
                f"a {type(live).__name__} has no parameters to follow; give a teacher that is a "
                "module"
            )
        own, other = self.density, live
        for mine, theirs in zip(own.parameters(), other.parameters(), strict=True):
            mine.lerp_(theirs, rate)
        for held, current in zip(own.buffers(), other.buffers(), strict=True):
            held.copy_(current)

    def laws(self, x: Tensor, context: Context) -> Distribution | None:
        """The laws of every step along `x`; None where only the joint density is known."""
        if not self.gives_conditionals:
            return None
        laws: Distribution = self.density.conditionals(x, context)  # type: ignore[attr-defined]
        return laws

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
        student: The density that learns.
        context: The common context.
        reference: The recording, `(B, T)`; None where there is none.
        generator: Source of the terms' own randomness.
        shared: What one term has computed and others may use.
    """

    draw: Draw | JointDraw
    laws: Distribution | None
    teacher: FrozenTeacher
    student: Reparametrised
    context: Context
    reference: Tensor | None
    generator: torch.Generator | None = None
    shared: dict[str, Pair] = field(default_factory=dict)

    @property
    def pairs(self) -> Pair | None:
        """Both laws of every step, the student's and the teacher's; None where not known."""
        if self.laws is None or not isinstance(self.draw, Draw):
            return None
        return self.draw.conditionals, self.laws

    @property
    def log_ratio(self) -> Tensor:
        """`log q(x) - log p(x)` of the draw, in nats, `(B,)`."""
        return self.draw.log_prob - self.teacher.density.log_prob(self.draw.x, self.context)

    @property
    def loudness(self) -> Tensor | None:
        """Root-mean-square of the draw over the recording's; None without a recording."""
        if self.reference is None:
            return None
        power = self.reference.square().mean().clamp_min(1e-20)  # silence
        return (self.draw.x.detach().square().mean() / power).sqrt()

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

"""Several teachers in one objective."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wavestill.density import Density, Draw
from wavestill.distillation.divergence import StepDivergence
from wavestill.distillation.trial import FrozenTeacher, Trial
from wavestill.divergences import KL


class LogLinearPool:
    r"""The divergence from several teachers at once.

    .. math:: \sum_k w_k \, KL(q \| p_k) = KL(q \| \tilde p) - \log Z, \qquad
        \tilde p = \tfrac1Z \prod_k p_k^{w_k}, \quad \sum_k w_k = 1

    so the student learns the normalised product of its teachers' densities, though nobody could
    draw from it: it keeps to what all of them find likely. (For a mixture of teachers, which keeps
    to what any of them does, see `models.MixturePool`.)

    Arguments:
        teachers: The densities; frozen copies are kept.
        weights: Of each, >= 0; they are brought to a sum of one. Equal where none are given.
        divergence: How each is compared with the student.

    Raises:
        ValueError: If there are no teachers, or weights of another number, negative, or all zero.
    """

    def __init__(
        self,
        teachers: Sequence[Density],
        weights: Sequence[float] | None = None,
        divergence: StepDivergence | None = None,
    ) -> None:
        weights = [1.0] * len(teachers) if weights is None else list(weights)
        if not teachers or len(weights) != len(teachers):
            raise ValueError(
                f"there are {len(teachers)} teachers and {len(weights)} weights; give one weight "
                "to each of one teacher or more"
            )
        if min(weights) < 0 or sum(weights) == 0:
            raise ValueError(f"the teachers' weights are {weights}; give some >= 0, not all 0")
        self.teachers = [FrozenTeacher(teacher) for teacher in teachers]
        self.weights = [weight / sum(weights) for weight in weights]
        self.divergence = divergence or StepDivergence(KL())

    def __call__(self, trial: Trial) -> Tensor:
        """The weighted sum of the divergences from each teacher."""
        return torch.stack(
            [
                weight * self.divergence(_before(teacher, trial))
                for teacher, weight in zip(self.teachers, self.weights, strict=True)
            ]
        ).sum()


def _before(teacher: FrozenTeacher, trial: Trial) -> Trial:
    """The same draw before another teacher."""
    is_stepwise = isinstance(trial.draw, Draw)
    laws = teacher.laws(trial.draw.x, trial.context) if is_stepwise else None
    return Trial(
        trial.draw, laws, teacher, trial.student, trial.context, trial.reference, trial.generator
    )

r"""The objective of distillation: named, weighted terms of one student and one teacher pass.

.. math:: L = \mathrm{KL}(q \| p) + \sum_i w_i L_i
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wavestill.density import Context, Density, Draw, Reparametrised, fresh_noise
from wavestill.distillation.adversarial import Adversarial
from wavestill.distillation.balance import Balance, FixedWeights
from wavestill.distillation.moving import MovingTeacher
from wavestill.distillation.trial import Estimator, FrozenTeacher, Term, Trial
from wavestill.divergences import KL, TotalVariation


@dataclass
class Losses:
    """What a step of distillation yields.

    Arguments:
        total: The weighted sum, a scalar; its gradient reaches the student and what
            `Objective.learned` and `Objective.adversaries` name.
        values: Each term under its name, its weight under `weight/<name>`, and what else was
            learnt (`teacher_nats`, `discriminator`); without gradients.
        estimator: What the divergence was computed by: 'conditionals' (an integral per step) or
            'log_prob' (the plain estimator of the joint densities).
    """

    total: Tensor
    values: dict[str, Tensor]
    estimator: Estimator


class Objective(nn.Module):
    """Named, weighted terms of a student against a frozen teacher.

    Arguments:
        teacher: The density to distil; a frozen copy in eval mode is kept.
        student: The density that learns.
        terms: The terms by name, the divergence first.
        weights: The weight of each term, for `FixedWeights`; all 1 where neither is given.
        balance: A weighting policy in place of fixed weights.
        moving: The teacher that goes on learning, where it does: the frozen copy follows it.

    Raises:
        ValueError: If the weights' names are not the terms'.
    """

    def __init__(
        self,
        teacher: Density,
        student: Reparametrised,
        terms: Mapping[str, Term],
        weights: Mapping[str, float] | None = None,
        balance: Balance | None = None,
        moving: MovingTeacher | None = None,
    ) -> None:
        super().__init__()
        self.teacher = FrozenTeacher(teacher)
        self.student = student
        self.terms = dict(terms)
        # registered: terms with networks of their own go where the student goes
        self.networks = nn.ModuleDict(
            {name: term for name, term in self.terms.items() if isinstance(term, nn.Module)}
        )
        fixed = dict(weights) if weights is not None else dict.fromkeys(self.terms, 1.0)
        if fixed.keys() != self.terms.keys():
            raise ValueError(
                f"weights name {sorted(fixed)} but the terms are {sorted(self.terms)}; "
                "give one to each"
            )
        self.balance = FixedWeights(fixed) if balance is None else balance
        self.moving = moving

    def learned(self) -> list[nn.Parameter]:
        """What is trained beside the student: a moving teacher, a balance that learns."""
        parts = (part for part in (self.balance, self.moving) if isinstance(part, nn.Module))
        return [parameter for part in parts for parameter in part.parameters()]

    def adversaries(self) -> list[nn.Parameter]:
        """The discriminators' parameters, trained against the student by their own Adam."""
        terms = (term for term in self.terms.values() if isinstance(term, Adversarial))
        return [parameter for term in terms for parameter in term.parameters()]

    def forward(
        self,
        reference: Tensor | None,
        context: Context = None,
        *,
        shape: tuple[int, int] | None = None,
        generator: torch.Generator | None = None,
    ) -> Losses:
        """One student pass, one teacher pass, all terms.

        Arguments:
            reference: Recordings `(B, T)` made under `context`; None for densities without data,
                with a `shape`.
            context: As for both models.
            shape: `(B, T)` of the student's sample where there is no reference.
            generator: Source of the noise and of the terms' quadrature points.
        """
        learning = None
        if self.moving is not None:
            self.teacher.follow(self.moving.live, self.moving.rate)
            learning = self.moving.loss(reference, context)
        trial = self.attempt(reference, context, shape=shape, generator=generator)
        terms = {name: term(trial) for name, term in self.terms.items()}
        total, weights = self.balance(terms, trial)
        values = {name: term.detach() for name, term in terms.items()}
        values |= {f"weight/{name}": weight for name, weight in weights.items()}
        if learning is not None:
            total = total + learning
            values["teacher_nats"] = learning.detach()
        for term in self.terms.values():
            if isinstance(term, Adversarial):
                lesson = term.lesson(trial)
                total = total + lesson
                values["discriminator"] = lesson.detach()
        return Losses(total, values, trial.estimator)

    def attempt(
        self,
        reference: Tensor | None,
        context: Context = None,
        *,
        shape: tuple[int, int] | None = None,
        generator: torch.Generator | None = None,
    ) -> Trial:
        """The student's draw and the teacher's laws along it.

        Raises:
            ValueError: If neither a reference nor a shape is given.
        """
        size = tuple(reference.shape) if reference is not None else shape
        if size is None:
            raise ValueError(
                "the size of the student's sample is open; give recordings or a shape (batch, T)"
            )
        noise = fresh_noise(self.student, size, generator=generator)
        draw = self.student.rsample(noise, context)
        laws = self.teacher.laws(draw.x, context) if isinstance(draw, Draw) else None
        return Trial(draw, laws, self.teacher, self.student, context, reference, generator)

    @torch.no_grad()
    def measure(
        self,
        reference: Tensor | None,
        context: Context = None,
        *,
        shape: tuple[int, int] | None = None,
        skip_samples: int = 0,
        num_points: int = 32,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """What is reported: laws as they are sampled, without floors or caps.

        Returns:
            `kl_nats` per sample; `tv` per sample under the student's prefixes (the rejection rate
            of draft-and-verify there) where both sides know the law of every step; and
            `std_over_data` where recordings are given.
        """
        trial = self.attempt(reference, context, shape=shape, generator=generator)
        figures: dict[str, Tensor] = {}
        if trial.pairs is not None:
            q, p = (law[:, skip_samples:] for law in trial.pairs)
            figures["kl_nats"] = KL(num_points=num_points)(q, p, generator=generator).mean()
            figures["tv"] = TotalVariation(num_points=num_points)(q, p, generator=generator).mean()
        else:
            figures["kl_nats"] = trial.log_ratio.mean() / trial.draw.x.shape[1]
        if trial.loudness is not None:
            figures["std_over_data"] = trial.loudness
        return figures

r"""Divergences under prefixes that the student did not make.

The student's own samples say nothing about what it would do after a prefix of its teacher's. Given
such a sequence `x`, the noise that the student would have made it of, :math:`z = T^{-1}(x)`, gives
both laws of every step after the same prefix,

.. math:: L = \frac1T \sum_t D\big(q(\cdot \mid x_{<t}), \, p(\cdot \mid x_{<t})\big),
    \qquad q(\cdot \mid x_{<t}) = \text{law of } \mu_t(z_{<t}) + s_t(z_{<t}) \, \varepsilon.

With forward KL and sequences of the teacher's own this is the joint forward KL by the chain rule,
:math:`KL(p \| q)`; with total variation, the rate at which its drafts are rejected.
"""

from typing import Any, Literal, cast

import torch
from torch import Tensor

from wavestill.density import Autoregressive, Draw
from wavestill.distillation.divergence import capped_mean
from wavestill.distillation.trial import Pair, Trial
from wavestill.distributions import Distribution
from wavestill.divergences import Divergence
from wavestill.models import IAFWaveNet, WaveNet
from wavestill.sampling import cached, native, native_invert, standard_noise

Prefixes = Literal["teacher", "recordings"]

NOISE_MAX = 12.0
"""Beyond this a student's inverse has lost its way; it is held here so that it comes back."""


class TeacherForced:
    """A per-step divergence under the teacher's prefixes, or the recordings'.

    Arguments:
        divergence: The divergence of one step; ForwardKL for the joint forward KL.
        prefixes: Whose sequences: drawn from the teacher under the trial's context (one draw for
            all such terms of a trial), or the recordings.
        skip_samples: As for `StepDivergence`.
        cap_nats: As for `StepDivergence`.

    Note:
        The noise is inverted without a gradient: the law of step `t` is differentiated at given
        :math:`z_{<t}`, though these would move with the student as well. What is left out is how a
        change of earlier shapes changes the noise that later ones see.
    """

    def __init__(
        self,
        divergence: Divergence,
        *,
        prefixes: Prefixes = "teacher",
        skip_samples: int = 0,
        cap_nats: float | None = None,
    ) -> None:
        self.divergence = divergence
        self.prefixes: Prefixes = prefixes
        self.skip_samples = skip_samples
        self.cap_nats = cap_nats

    def __call__(self, trial: Trial) -> Tensor:
        """Mean over clips and counted steps.

        Raises:
            ValueError: If either side does not know the laws of its steps, or the student cannot
                be inverted.
        """
        if self.prefixes not in trial.shared:
            trial.shared[self.prefixes] = _forced_laws(trial, self.prefixes)
        pair = trial.shared[self.prefixes]
        q, p = (law[:, self.skip_samples :] for law in pair)
        return capped_mean(self.divergence(q, p, generator=trial.generator), self.cap_nats)


def _forced_laws(trial: Trial, prefixes: Prefixes) -> Pair:
    """Both laws along sequences of the teacher's, or along the recordings."""
    can_invert = hasattr(trial.student, "invert") or hasattr(trial.student, "to_noise")
    if trial.pairs is None or not can_invert:
        raise ValueError(
            f"prefixes of the {prefixes} need the law of every step and an inverse; "
            f"{type(trial.teacher.density).__name__} and {type(trial.student).__name__} do not "
            "have both: drop the term"
        )
    x = trial.require_reference("recordings") if prefixes == "recordings" else _drawn(trial)
    with torch.no_grad():
        p = trial.teacher.laws(x, trial.context)
    assert p is not None  # for it has told the laws along the draw
    return _own_laws(trial, x), p.detach()


@torch.no_grad()
def _drawn(trial: Trial) -> Tensor:
    """As many sequences as the trial has, of the same length, from the teacher."""
    teacher, like = trial.teacher.density, trial.draw.x
    if not isinstance(teacher, Autoregressive):
        return teacher.sample(like.shape[0], trial.context)
    base = cast("Any", teacher).base
    noise = standard_noise(
        base, tuple(like.shape), generator=trial.generator, device=like.device, dtype=like.dtype
    )
    sampler = native if isinstance(teacher, WaveNet) else cached
    return sampler(cast("Any", teacher), noise, trial.context).to(like)


def _own_laws(trial: Trial, x: Tensor) -> Distribution:
    """The student's laws after the prefixes of `x`, differentiable at the noise that makes it."""
    student = trial.student
    if isinstance(student, IAFWaveNet):
        noise = native_invert(student, x, trial.context, noise_max=NOISE_MAX).noise
        return student.laws_along(x, noise, trial.context)
    with torch.no_grad():
        if hasattr(student, "to_noise"):
            own_noise: Tensor = student.to_noise(x, trial.context)
        else:
            own_noise = cast("Any", student).invert(x, trial.context).noise
    draw = student.rsample(own_noise, trial.context)
    assert isinstance(draw, Draw)
    return draw.conditionals

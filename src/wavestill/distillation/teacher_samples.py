r"""What a student of vectors learns on samples of its teacher.

Reverse KL forgives a mode that the student leaves out, for it looks only where the student is.
These terms look where the teacher is: forward KL,

.. math:: \mathrm{KL}(p \| q) = E_{x \sim p} \big[\log p(x) - \log q(x)\big],

and, where the student's maps are the teacher's in reverse, each map against its counterpart.
"""

import torch
from torch import Tensor

from wavestill.distillation.trial import Trial
from wavestill.models.flows import PermutedIAF, PermutedMAF
from wavestill.models.masked_steps import MaskedStep


class TeacherSamples:
    """Samples of a teacher with their log-densities, drawn while they are few, then drawn from.

    With a context they are drawn anew for every step.

    Arguments:
        pool_size: Samples that are kept.
    """

    def __init__(self, pool_size: int = 20_000) -> None:
        self.pool_size = pool_size
        self._pool: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def take(self, trial: Trial) -> tuple[Tensor, Tensor]:
        """As many samples as the student has drawn, and `log p` of each."""
        teacher, num = trial.teacher.density, trial.draw.x.shape[0]
        if trial.context is not None:
            x = teacher.sample(num, trial.context)
            return x, teacher.log_prob(x, trial.context)
        known = 0 if self._pool is None else len(self._pool[0])
        if known < self.pool_size:
            x = teacher.sample(num)
            fresh = x, teacher.log_prob(x)
            if self._pool is None:
                self._pool = fresh
            else:
                x_known, log_p_known = self._pool
                self._pool = torch.cat([x_known, x]), torch.cat([log_p_known, fresh[1]])
            return fresh
        assert self._pool is not None
        x, log_p = self._pool
        index = torch.randint(known, (num,), generator=trial.generator, device=x.device)
        return x[index], log_p[index]


class JointForwardKL:
    """Forward KL divergence of a student of vectors, in nats per number of a vector.

    The gradient is that of maximum likelihood on the teacher's samples. Its price is the student's
    density of foreign vectors: the way back through every map, pass by pass.

    Arguments:
        samples: The teacher's samples.
    """

    def __init__(self, samples: TeacherSamples | None = None) -> None:
        self.samples = TeacherSamples() if samples is None else samples

    def __call__(self, trial: Trial) -> Tensor:
        """Mean over the teacher's samples."""
        x, log_p = self.samples.take(trial)
        return (log_p - trial.student.log_prob(x, trial.context)).mean() / x.shape[1]


class Mirrored:
    r"""Each map of a student against the inverse of the teacher's that it stands for.

    A masked autoregressive map in the one direction is an inverse autoregressive one, of the same
    order, in the other: :math:`u_i = b_i + e^{a_i} v_i` with parameters of :math:`v_{<i}`, which
    is a bijection of :math:`u_{<i}`. So a student with the teacher's orders in reverse can take it
    over map by map. On samples of the teacher one pass gives what goes into every map and what
    comes out, and all maps of the student are trained side by side, without a way back:

    .. math:: L = \frac{1}{2 D} \sum_k \sum_i
        \Big(\frac{\hat v_{k,i} - v_{k,i}}{\partial v_{k,i} / \partial u_{k,i}}\Big)^2
        + \Big(\log \frac{\partial \hat v_{k,i} / \partial u_{k,i}}
        {\partial v_{k,i} / \partial u_{k,i}}\Big)^2

    to second order the KL divergences of the maps' images of a normal law.

    Arguments:
        samples: The teacher's samples.
    """

    def __init__(self, samples: TeacherSamples | None = None) -> None:
        self.samples = TeacherSamples() if samples is None else samples

    def __call__(self, trial: Trial) -> Tensor:
        """Mean over the teacher's samples, sum over the maps."""
        x, _ = self.samples.take(trial)
        teacher, student = trial.teacher.density, trial.student
        assert isinstance(teacher, PermutedMAF), "mirrored maps are those of a MAF"
        assert isinstance(student, PermutedIAF), "and an IAF's"
        context = student.check(x, trial.context)
        pairs = []
        with torch.no_grad():
            v = teacher.standardised(x)
            for flow in teacher.stack.flows:
                u, log_slope = flow(v, context)(v)
                pairs.append((v, u, log_slope))
                v = u
            # The student's own unit of x, in which its last map puts out.
            _, u, log_slope = pairs[0]
            pairs[0] = (
                student.standardised(x),
                u,
                log_slope + student.log_scale - teacher.log_scale,
            )
        total = x.new_zeros(())
        for flow, (v, u, log_slope) in zip(student.stack.flows, reversed(pairs), strict=True):
            guess, guess_log_slope = flow(u, context)(u)
            errors = ((guess - v) * log_slope.exp()).square()
            errors = errors + (guess_log_slope + log_slope).square()
            total = total + 0.5 * errors.mean()
        return total


def is_mirrored(teacher: object, student: object) -> bool:
    """Whether the student's maps are of the teacher's orders in reverse."""
    if not (isinstance(teacher, PermutedMAF) and isinstance(student, PermutedIAF)):
        return False
    theirs, own = (list(model.stack.flows) for model in (teacher, student))
    return len(theirs) == len(own) and all(
        isinstance(one, MaskedStep)
        and isinstance(other, MaskedStep)
        and torch.equal(one.order, other.order)
        for one, other in zip(reversed(theirs), own, strict=True)
    )

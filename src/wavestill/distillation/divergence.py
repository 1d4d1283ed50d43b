r"""The divergence of the student from its teacher, on the student's own samples.

.. math:: \mathrm{KL}(q \| p) = E_{x \sim q} \sum_t \mathrm{KL}\big(q(\cdot \mid x_{<t}) \,\|\,
p(\cdot \mid x_{<t})\big)
    = H(q, p) - H(q)

References:
    | Parallel WaveNet (van den Oord et al., 2018), section 4, https://arxiv.org/abs/1711.10433
"""

from torch import Tensor

from wavestill.distillation.trial import Trial
from wavestill.divergences import KL, Divergence


class StepDivergence:
    """A per-step divergence averaged over the steps of a trial, in nats per sample.

    Where both sides give conditionals, one student and one teacher pass yield both laws of every
    step and the divergence is an integral per step. Where either knows only its joint density, the
    plain estimator `log q(x) - log p(x)` of the sample at hand is used, over whole sequences and
    without a cap (KL only).

    Arguments:
        divergence: The divergence of one step.
        skip_samples: Steps at the start of each clip that are left out: there the networks see
            silence in place of the past.
        cap_nats: Limit of one step's value, so that a start far from the teacher does not explode;
            None for none. Beyond it the gradient is shortened in proportion, not cut: a student
            that begins far away still finds the way.
    """

    def __init__(
        self, divergence: Divergence, *, skip_samples: int = 0, cap_nats: float | None = None
    ) -> None:
        self.divergence = divergence
        self.skip_samples = skip_samples
        self.cap_nats = cap_nats

    def __call__(self, trial: Trial) -> Tensor:
        """Mean over clips and counted steps.

        Raises:
            ValueError: If the clips are not longer than what is left out, or another divergence
                than KL is asked of a teacher without conditionals.
        """
        x = trial.draw.x
        if x.shape[1] <= self.skip_samples:
            raise ValueError(
                f"the clips have {x.shape[1]} samples and the first {self.skip_samples} are left "
                "out; make them longer"
            )
        if trial.pairs is None:
            if not isinstance(self.divergence, KL):
                raise ValueError(
                    f"'{type(self.divergence).__name__}' needs the law of every step but teacher "
                    "or student knows only its joint density; use KL"
                )
            for name, what in (("path_wise", "path-wise gradients"), ("scale_penalty", "scales")):
                if getattr(self.divergence, name):
                    raise ValueError(
                        f"{what} need the law of every step but teacher or student knows only "
                        f"its joint density; leave out '{name}'"
                    )
            return trial.log_ratio.mean() / x.shape[1]
        q, p = (law[:, self.skip_samples :] for law in trial.pairs)
        return capped_mean(self.divergence(q, p, generator=trial.generator), self.cap_nats)


def capped_mean(per_step: Tensor, cap_nats: float | None) -> Tensor:
    """The mean, no step counting for more than the cap; beyond it gradients are shortened."""
    if cap_nats is not None:
        per_step = per_step / (per_step.detach() / cap_nats).clamp_min(1.0)
    return per_step.mean()

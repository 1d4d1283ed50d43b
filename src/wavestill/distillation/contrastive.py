"""The contrastive loss: the student's sound must be unlikely under another clip's conditioning."""

import torch
from torch import Tensor

from wavestill.density import Conditioning, Context
from wavestill.distillation.trial import Trial
from wavestill.divergences import Divergence


class Contrastive:
    r"""Margin by which the student's sound falls short of being unlikely elsewhere.

    .. math:: L = \frac1T \sum_t \max\big(0, c - \mathrm{KL}(q_t(c_1) \,\|\, p_t(c_2))\big)
        = c - \frac1T \sum_t \min\big(c, \mathrm{KL}(q_t(c_1) \,\|\, p_t(c_2))\big)

    where the student drew under its own conditioning :math:`c_1` and the teacher listens under
    that of another clip of the batch, :math:`c_2`. With weight :math:`\gamma` beside the
    divergence this is, up to a constant, the paper's

    .. math:: \mathrm{KL}(q(c_1) \,\|\, p(c_1)) - \gamma \, \mathrm{KL}(q(c_1) \,\|\, p(c_2)),
        \qquad \gamma = 0.3

    A student that ignores its conditioning pays for it twice.

    Note:
        The negated KL has no lower end: a student could win without limit at the steps where the
        wrong teacher is all but certain, where one step's KL is hundreds of nats. Each step is
        therefore held at the margin `c`; beyond it the sound is unlikely enough, and has no
        gradient. The constant makes the term positive, as balances expect.

    References:
        | Parallel WaveNet (van den Oord et al., 2018), section 4 (contrastive loss), https://arxiv.org/abs/1711.10433

    Arguments:
        divergence: The divergence of one step; the objective's own.
        margin_nats: :math:`c`, > 0.
        skip_samples: Steps at the start of each clip that are left out.

    Raises:
        ValueError: If the margin is not positive.
    """

    def __init__(
        self, divergence: Divergence, *, margin_nats: float = 2.0, skip_samples: int = 0
    ) -> None:
        if not margin_nats > 0:
            raise ValueError(f"'margin_nats' is {margin_nats}; give one above 0")
        self.divergence = divergence
        self.margin_nats = margin_nats
        self.skip_samples = skip_samples

    def __call__(self, trial: Trial) -> Tensor:
        """Mean over clips and counted steps, between 0 and the margin.

        Raises:
            ValueError: If there is no second clip, no conditioning, or no law of every step.
        """
        if trial.pairs is None:
            raise ValueError(
                "'contrastive' needs the law of every step but teacher or student knows only its "
                "joint density; drop the term"
            )
        x = trial.draw.x
        if x.shape[1] <= self.skip_samples:
            raise ValueError(
                f"the clips have {x.shape[1]} samples and the first {self.skip_samples} are left "
                "out; make them longer"
            )
        wrong = trial.teacher.laws(x, mismatched(trial.context, x.shape[0]))
        assert wrong is not None, "the teacher has told the laws of this draw"
        steps = slice(self.skip_samples, None)
        per_step = self.divergence(
            trial.pairs[0][:, steps], wrong[:, steps], generator=trial.generator
        )
        return (self.margin_nats - per_step).clamp_min(0.0).mean()


def mismatched(context: Context, batch_size: int) -> Context:
    """The context with every clip given that of its neighbour in the batch.

    Raises:
        ValueError: If the batch has one clip, or there is no context of tensors.
    """
    if batch_size < 2:
        raise ValueError(
            f"'contrastive' needs the conditioning of another clip but there is {batch_size} clip "
            "at a time; set 'batch_size' to 2 or more (per process and part), or drop the term"
        )
    if isinstance(context, Tensor):
        return torch.roll(context, 1, dims=0)
    if isinstance(context, Conditioning) and any(part is not None for part in context):
        return type(context)(
            *(part if part is None else torch.roll(part, 1, 0) for part in context)
        )
    raise ValueError(
        f"'contrastive' compares two conditionings but the context is a {type(context).__name__}; "
        "give conditioned models, or drop the term"
    )

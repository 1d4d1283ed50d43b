"""Latent reconstruction: the student as the decoder of the teacher's own latent noise."""

from typing import Literal

from torch import Tensor

from wavestill.distillation.trial import Trial
from wavestill.distributions import Discretized, Distribution, same_quantile


class LatentReconstruction:
    r"""Noise or sound that has gone through both models comes back as it was.

    An autoregressive teacher maps sound to noise in one pass, :math:`z_t = F_p(x_t \mid x_{<t})`
    as a quantile of the base law, and a student maps noise to sound in one: each inverts the other
    if they are the same density, driven by the same noise.

    .. math:: \text{latent:}\; E_z \, | z - T_p^{-1}(T_q(z)) |, \qquad
        \text{sample:}\; E_x \, | x - T_q(T_p^{-1}(x)) | \,/\, E |x|

    Of latents the student's own noise is asked for; of samples the recordings, to which it
    then gives an instructive signal: this very sound is what the student should have made of
    this very noise.

    References:
        | Probability Distillation: A Caveat and Alternatives (Huang et al., 2019),
          https://proceedings.mlr.press/v115/huang20c.html

    Arguments:
        space: Where the distance is taken.
    """

    def __init__(self, space: Literal["latent", "sample"] = "latent") -> None:
        self.space = space

    def __call__(self, trial: Trial) -> Tensor:
        """The distance, 0 where student and teacher are the same map.

        Raises:
            ValueError: If the teacher does not know the laws of its steps.
        """
        if trial.pairs is None:
            raise ValueError(
                "latent reconstruction needs the law of every step but teacher or student knows "
                "only its joint density; drop the term"
            )
        base = trial.pairs[0].base
        if self.space == "latent":
            returned = _noise(trial.pairs[1], trial.draw.x)
            return (
                (same_quantile(returned, trial.pairs[1].base, base) - trial.draw.noise)
                .abs()
                .mean()
            )
        x = trial.require_reference("reconstruction")
        laws = trial.teacher.laws(x, trial.context)
        assert laws is not None  # for it has told those along the draw
        noise = same_quantile(_noise(laws, x), laws.base, base).detach()
        made = trial.student.rsample(noise, trial.context).x
        return (made - x).abs().mean() / x.abs().mean().clamp_min(1e-10)


def _noise(laws: Distribution, x: Tensor) -> Tensor:
    """The noise that a teacher makes `x` of; of one on a grid the law before rounding serves."""
    return (laws.continuous if isinstance(laws, Discretized) else laws).to_noise(x)

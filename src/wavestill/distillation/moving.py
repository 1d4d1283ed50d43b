"""A teacher that keeps learning while its student follows."""

from torch import Tensor, nn

from wavestill.density import Context, Density


class MovingTeacher(nn.Module):
    r"""A teacher in training; the student is held against its exponential moving average.

    .. math:: \bar\theta \leftarrow \gamma \, \bar\theta + (1 - \gamma) \, \theta, \qquad
        \theta \leftarrow \theta - \eta \nabla_\theta \left( -\log p_\theta(x) \right)

    The teacher learns from the recordings that the student's draws are compared with, by the same
    optimiser; no gradient passes between the two.

    References:
        | Mean teachers are better role models (Tarvainen and Valpola, 2017), section 2,
          https://arxiv.org/abs/1703.01780

    Arguments:
        live: The density that learns, a module; the objective's frozen copy begins as it is.
        averaging: :math:`\gamma`, in [0, 1); 0 follows it at every step.

    Raises:
        ValueError: If the averaging is not in [0, 1), or the density has no parameters.
    """

    def __init__(self, live: Density, *, averaging: float = 0.99) -> None:
        super().__init__()
        if not 0 <= averaging < 1:
            raise ValueError(
                f"the averaging of a moving teacher is {averaging}; give one in [0, 1)"
            )
        if not isinstance(live, nn.Module):
            raise ValueError(
                f"a {type(live).__name__} has no parameters to learn; give a teacher that is a "
                "module"
            )
        self.live: Density = live
        self.averaging = averaging

    @property
    def rate(self) -> float:
        """How far the average moves in a step."""
        return 1 - self.averaging

    def loss(self, reference: Tensor | None, context: Context) -> Tensor:
        """What the teacher descends: nats per sample of the recordings.

        Raises:
            ValueError: If there are no recordings.
        """
        if reference is None:
            raise ValueError(
                "a moving teacher learns from recordings but none were given; give data"
            )
        return -self.live.log_prob(reference, context).mean() / reference.shape[1]

"""Several teachers as one."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from wavestill.density import Autoregressive, Context, State
from wavestill.distributions import Base, Distribution, pooled
from wavestill.models.sequences import sequence_noise
from wavestill.sampling.cached import cached


class PoolState:
    """The states of all teachers of a pool."""

    def __init__(self, states: list[State]) -> None:
        self.states = states

    def rewind(self, num_steps: int | Tensor) -> None:
        """Forget the last steps of every teacher."""
        for state in self.states:
            state.rewind(num_steps)

    def select(self, index: Tensor) -> None:
        """Keep only these sequences of every teacher."""
        for state in self.states:
            state.select(index)


class MixturePool(nn.Module):
    r"""A pool of autoregressive teachers that mixes them at every step.

    .. math:: p(x_t \mid x_{<t}) = \sum_k w_k \, p_k(x_t \mid x_{<t}), \qquad \sum_k w_k = 1

    An autoregressive density like any other: sampled exactly by every sampler, distilled, drafted
    for. Its teachers' laws are of one kind: location-scale, mixtures of these, or mu-law. A step
    is drawn from one teacher or another anew, so unlike the mixture of the joint densities it may
    change its mind along the way. One pass of each teacher per pass.

    References:
        | Combining probability distributions (Genest and Zidek, 1986), section 3 (linear pools),
          https://doi.org/10.1214/ss/1177013825

    Arguments:
        teachers: Densities with the same head and the same form of context.
        weights: Of each, > 0; they are brought to a sum of one. Equal where none are given.

    Raises:
        ValueError: If there are no teachers, one gives no conditionals, their base noises differ,
            or weights are of another number or not positive.

    Example:
        >>> from wavestill.models import WaveNet, WaveNetConfig
        >>> shape = WaveNetConfig(layers=2, residual_channels=4, gate_channels=4, skip_channels=4)
        >>> pool = MixturePool([WaveNet(shape), WaveNet(shape)], [3, 1])
        >>> pool.log_prob(torch.zeros(2, 50)).shape
        torch.Size([2])
    """

    def __init__(
        self, teachers: Sequence[nn.Module], weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        weights = [1.0] * len(teachers) if weights is None else list(weights)
        if not teachers or len(weights) != len(teachers) or min(weights) <= 0:
            raise ValueError(
                f"there are {len(teachers)} teachers and the weights {weights}; give one weight "
                "above 0 to each of one teacher or more"
            )
        for teacher in teachers:
            if not hasattr(teacher, "conditionals"):
                raise ValueError(
                    f"a {type(teacher).__name__} does not tell the law of every step; "
                    "pool autoregressive densities"
                )
        bases = {cast("Any", teacher).base for teacher in teachers}
        if len(bases) > 1:
            raise ValueError(
                f"the teachers' base noises are {', '.join(sorted(bases))}; give teachers with "
                "the same head"
            )
        self.base: Base = bases.pop()
        self.teachers = nn.ModuleList(teachers)
        self.weights = [weight / sum(weights) for weight in weights]

    @property
    def gain(self) -> Tensor:
        """The factor that takes the data to unit variance, of the first teacher."""
        return cast("Any", self.teachers[0]).gain  # type: ignore[no-any-return]

    def conditionals(self, x: Tensor, context: Context = None) -> Distribution:
        """The mixed law of every step, `(B, T)`."""
        laws = [teacher.conditionals(x, context) for teacher in self._each()]
        return pooled(laws, self.weights)

    @torch.no_grad()
    def advance(
        self, x_new: Tensor, context: Context = None, state: PoolState | None = None
    ) -> tuple[Distribution, PoolState]:
        """The same, incrementally: see `Autoregressive`."""
        states = [None] * len(self.teachers) if state is None else state.states
        pairs = [
            teacher.advance(x_new, context, own)
            for teacher, own in zip(self._each(), states, strict=True)
        ]
        law = pooled([law for law, _ in pairs], self.weights)
        return law, PoolState([own for _, own in pairs])

    def log_prob(self, x: Tensor, context: Context = None) -> Tensor:
        """Log-likelihood in nats, `(B,)`."""
        return self.conditionals(x, context).log_prob(x).sum(-1)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        context: Context = None,
        *,
        length: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Ancestral samples by the cached sampler, `(num, T)`.

        Arguments:
            num: Sequences to draw.
            context: As for the teachers.
            length: Samples `T`; may be left out for vectors, or where the context tells it.
            generator: Source of the noise.
        """
        length = length or getattr(self.teachers[0], "num_dims", None)
        encode = getattr(self.teachers[0], "encode", None)
        encoded = None if encode is None else encode(context)
        noise = sequence_noise(
            self.base,
            num,
            length,
            encoded,
            temperature=1.0,
            generator=generator,
            like=next(self.parameters()),
        )
        return cached(self, noise, context)

    def _each(self) -> list[Autoregressive]:
        return [cast("Autoregressive", teacher) for teacher in self.teachers]

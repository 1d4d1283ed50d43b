r"""The protocols that models, samplers and objectives agree on.

A density answers `log_prob` and `sample`. An autoregressive one also gives the law of every step,

.. math:: \log p(x) = \sum_t \log p(x_t \mid x_{<t}, c),

all at once (`conditionals`, one parallel pass) or as the samples arrive (`advance`). An inverse
autoregressive one gives a sample together with the laws of its own steps (`rsample`).
"""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from wavestill.distributions import Distribution, standard_noise


class Conditioning(NamedTuple):
    """What a sequence is conditioned on.

    Arguments:
        frames: Features at frame rate, `(B, F, C)`; frame `i` covers samples `i * hop ... (i + 1)
            * hop - 1`.
        speaker: Speaker numbers, `(B,)`, integers; None for models of one voice.
    """

    frames: Tensor | None = None
    speaker: Tensor | None = None


Context = Any
"""A tensor, a `Conditioning`, a model's `Encoded` form of one, or None: each model says which."""


OwnState = Any
"""A `State` of the model's own kind, or None."""


@runtime_checkable
class State(Protocol):
    """What a model carries between calls of `advance` or `stream`: opaque, but it can be cut."""

    def rewind(self, num_steps: int | Tensor) -> None:
        """Forget the last steps: so many of every sequence, or a number for each, `(B,)`.

        At most the steps of the last call. After unequal numbers every sequence stands at its own
        position.
        """
        ...

    def select(self, index: Tensor) -> None:
        """Keep only the sequences `index (B',)` of the batch, in this order."""
        ...


@runtime_checkable
class Density(Protocol):
    """Anything with these two methods is a valid teacher for the plain estimator."""

    def log_prob(self, x: Tensor, context: Context = None) -> Tensor:
        """Log-density of `x (B, ...)` in nats, `(B,)`."""
        ...

    def sample(self, num: int, context: Context = None) -> Tensor:
        """`num` independent draws, `(num, ...)`."""
        ...


@runtime_checkable
class Autoregressive(Density, Protocol):
    r"""A density known step by step, :math:`p(x_t \mid x_{<t}, c)`."""

    def conditionals(self, x: Tensor, context: Context = None) -> Distribution:
        """The law of every step given those before it, `(B, T)`, for `x (B, T)`: one pass."""
        ...

    def advance(
        self, x_new: Tensor, context: Context = None, state: OwnState = None
    ) -> tuple[Distribution, State]:
        """The same, incrementally: the laws that become known once `x_new (B, n)` has been seen.

        Without a state the sequence begins, and the laws of steps `0 ... n` are returned (`n` may
        be 0: then only that of the first step). With a state they are the `n` laws of the steps
        that follow each new sample. So `conditionals(x)` equals `advance(x[:, :-1])`, in one call
        or cut anywhere.
        """
        ...


@dataclass
class Draw:
    r"""A reparametrised sample, with the laws of its own steps.

    Since :math:`x_{<t} \leftrightarrow z_{<t}` is a bijection, the law of :math:`x_t` given
    :math:`x_{<t}` is known as soon as the sample is: base law moved by the total location and
    scale.

    Arguments:
        x: The sample, `(B, T)`; differentiable in the model's parameters.
        noise: The base draw it was made from, `(B, T)`.
        conditionals: Its laws :math:`q(x_t \mid x_{<t})`, batch shape `(B, T)`.
    """

    x: Tensor
    noise: Tensor
    conditionals: Distribution

    @property
    def log_prob(self) -> Tensor:
        """The sample's own log-density in nats, `(B,)`: free with the sample."""
        return self.conditionals.log_prob(self.x).sum(-1)


@dataclass
class JointDraw:
    """A reparametrised sample of which only the joint log-density is known.

    What a flow gives whose layers permute the steps: it has no laws `q(x_t | x_<t)` to show.

    Arguments:
        x: The sample, `(B, D)`; differentiable in the model's parameters.
        noise: The base draw it was made from, `(B, D)`.
        log_prob: The sample's own log-density in nats, `(B,)`.
    """

    x: Tensor
    noise: Tensor
    log_prob: Tensor


@runtime_checkable
class Reparametrised(Density, Protocol):
    """A density whose samples are a differentiable map of base noise: any student."""

    def rsample(self, noise: Tensor, context: Context = None) -> Draw | JointDraw:
        """The sample that `noise (B, T)`, drawn from the base law, maps to."""
        ...


def fresh_noise(
    student: Reparametrised, shape: tuple[int, ...], *, generator: torch.Generator | None = None
) -> Tensor:
    """Base noise for a student's `rsample`, on its device and in its precision.

    Arguments:
        student: A module with a `base`.
        shape: Of the noise.
        generator: Source of it.
    """
    parameter: Tensor = next(student.parameters())  # type: ignore[attr-defined]
    return standard_noise(
        student.base,  # type: ignore[attr-defined]
        shape,
        generator=generator,
        device=parameter.device,
        dtype=parameter.dtype,
    )


@runtime_checkable
class InverseAutoregressive(Reparametrised, Protocol):
    """A density that is sampled in one parallel pass, and knows the laws of its own steps."""

    def rsample(self, noise: Tensor, context: Context = None) -> Draw:
        """The sample that `noise (B, T)`, drawn from the base law, maps to."""
        ...


@runtime_checkable
class Streaming(InverseAutoregressive, Protocol):
    """An inverse autoregressive density whose one pass can be cut anywhere."""

    def stream(
        self, noise: Tensor, context: Context = None, state: OwnState = None
    ) -> tuple[Draw, State]:
        """`rsample` of the next draws `(B, n)`, and the state for those that follow."""
        ...


class _ForeignDensity:
    """An unconditional law with both methods, given the protocol's signatures."""

    def __init__(self, law: Any, sample: Callable[[int], Tensor]) -> None:  # noqa: ANN401
        self._law = law
        self._sample = sample

    def log_prob(self, x: Tensor, context: Context = None) -> Tensor:
        del context
        return _per_row(self._law.log_prob(x))

    def sample(self, num: int, context: Context = None) -> Tensor:
        del context
        return self._sample(num)

    def __deepcopy__(self, memo: dict[int, object]) -> "_ForeignDensity":
        """Itself: training changes no law, and one that others compute from cannot be copied."""
        return self


class _FlowDensity(torch.nn.Module):
    """A module that returns a distribution when called with the context.

    A module itself, so that a frozen copy holds the flow's parameters, and moves with them.
    """

    def __init__(self, flow: torch.nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def log_prob(self, x: Tensor, context: Context = None) -> Tensor:
        return _per_row(self._law(context).log_prob(x))

    @torch.no_grad()
    def sample(self, num: int, context: Context = None) -> Tensor:
        if not isinstance(context, Tensor) or context.dim() == 1:
            return self._law(context).sample((num,))
        if context.shape[0] not in {1, num}:
            raise ValueError(
                f"there are {num} samples to draw but {context.shape[0]} contexts; give each its "
                "own, or one to all"
            )
        return self._law(context.expand(num, *context.shape[1:])).sample()

    def _law(self, context: Context) -> torch.distributions.Distribution:
        law: torch.distributions.Distribution
        law = self.flow() if context is None else self.flow(context)
        _require_real(law)
        return law


def _cut(part: Any) -> Any:  # noqa: ANN401
    """A law, or a part of one, whose tensors belong to no graph: no gradient reaches beyond."""
    if isinstance(part, Tensor):
        return part.detach()
    if isinstance(part, list | tuple) and not hasattr(part, "_fields"):
        return type(part)(map(_cut, part))
    if isinstance(part, torch.distributions.Distribution):
        law = copy.copy(part)
        law.__dict__.update({name: _cut(value) for name, value in vars(part).items()})
        return law
    return part


def _per_row(log_prob: Tensor) -> Tensor:
    return log_prob.flatten(1).sum(1) if log_prob.dim() > 1 else log_prob


def as_density(obj: object) -> Density:
    """Take a foreign object as a density.

    Takes what already follows the protocol as it is; a `torch.distributions.Distribution` (batch
    dimensions are taken as independent steps of one event); a conditional flow, i.e. a module that
    returns such a distribution when called with the context (`(B, C)`: one row to each vector);
    and anything else with `log_prob` and `sample`, with a context or without.

    Only laws over the whole real line are distilled: a student's samples fall everywhere. For
    bounded supports wrap the law in a bijection first (for example `TransformedDistribution`).

    Raises:
        TypeError: If `obj` has no `log_prob` and `sample`.
        ValueError: If its support is bounded or discrete.
    """
    if isinstance(obj, torch.distributions.Distribution):
        _require_real(obj)
        law = _cut(obj)
        return _ForeignDensity(law, lambda num: law.sample((num,)))
    if isinstance(obj, torch.nn.Module) and not hasattr(obj, "log_prob"):
        return _FlowDensity(obj)
    if isinstance(obj, Density):
        if _takes_one(obj.log_prob) and not isinstance(obj, torch.nn.Module):
            return _ForeignDensity(obj, obj.sample)
        return obj
    raise TypeError(
        f"'{type(obj).__name__}' is no density; give it log_prob(x, context) and "
        "sample(num, context)"
    )


def _takes_one(method: Callable[..., Tensor]) -> bool:
    """Whether a method has no place for a context."""
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return False  # it does not tell, and is taken at the protocol's word
    places = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    return len(places) == 1 and places[0].kind is not inspect.Parameter.VAR_POSITIONAL


def _require_real(law: torch.distributions.Distribution) -> None:
    """Refuse a law that does not fill the real line."""
    try:
        support = law.support
    except (AttributeError, NotImplementedError):
        return  # it does not tell, and is taken at its word
    inner: object = support
    while hasattr(inner, "base_constraint"):  # of independent steps, of a mixture
        inner = inner.base_constraint
    real = (torch.distributions.constraints.real, torch.distributions.constraints.real_vector)
    if not any(inner is constraint for constraint in real):
        raise ValueError(
            f"the support of {type(law).__name__} is {support}, not the real line; "
            "map it there with a bijection (torch.distributions.TransformedDistribution) first"
        )

"""What laws of finitely many values share: logits, a unit, and what they cannot do."""

from typing import ClassVar, NoReturn

from torch import Tensor
from typing_extensions import Self, override

from wavestill.distributions.base import Base, Distribution


class Finite(Distribution):
    """A law of finitely many values, each times ``scale`` plus ``shift`` once moved.

    It has no density: a discrete teacher is sampled, not distilled.

    Arguments:
        logits: What the masses are made of.
        scale: Factor on the values.
        shift: Added to them.

    Attributes:
        kind: What errors call such a law.
        remedy: What they advise in place of distillation.
    """

    base: Base = "logistic"
    is_discrete: ClassVar[bool] = True
    kind: ClassVar[str]
    remedy: ClassVar[str]

    def __init__(
        self, logits: Tensor, scale: float | Tensor = 1.0, shift: float | Tensor = 0.0
    ) -> None:
        self.logits = logits
        self.scale = scale
        self.shift = shift

    @property
    def _parameter(self) -> Tensor:
        return self.logits

    @property
    @override
    def density(self) -> Distribution:
        raise ValueError(
            f"{self.kind} has no continuous density, so it cannot teach a continuous student; "
            f"{self.remedy}"
        )

    @override
    def to_noise(self, x: Tensor) -> NoReturn:
        raise ValueError(
            f"{self.kind} has no noise for a sample: a whole interval maps to it; "
            "use the noise it was drawn from"
        )

    @override
    def affine(self, scale: float | Tensor, shift: float | Tensor = 0.0) -> Self:
        return type(self)(self.logits, scale * self.scale, scale * self.shift + shift)

    @override
    def floored(self, log_scale_min: float) -> Self:
        """Return the law itself: it has no log-scale."""
        return self

    @override
    def detach(self) -> Self:
        return type(self)(self.logits.detach(), self.scale, self.shift)

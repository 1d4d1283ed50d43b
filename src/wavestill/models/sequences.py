"""Common to the sequence models: their state, how long a sequence is, the noise it is made of."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from wavestill.distributions import Base
from wavestill.nn.causal import History
from wavestill.nn.conditioning import Encoded
from wavestill.sampling import standard_noise


def sequence_length(conditioned: int | None, length: int | None) -> int:
    """Samples of a sequence, from what its conditioning covers and what was asked for.

    Raises:
        ValueError: If both are known and differ, or neither is.
    """
    if conditioned is None and length is None:
        raise ValueError("the length is open: give 'length' in samples, or frames that tell it")
    if conditioned is not None and length is not None and conditioned != length:
        raise ValueError(
            f"the sequence has {length} samples but its frames cover {conditioned}; "
            "cut one to the other (frames x hop_samples)"
        )
    return conditioned if conditioned is not None else int(length or 0)


class SequenceState(ABC):
    """What a sequence model carries between calls: histories, and a place in the conditioning.

    Attributes:
        encoded: The conditioning; None for none.
        position: The step that comes next; `(B,)` once sequences stand at their own.
    """

    encoded: Encoded | None
    position: int | Tensor

    @abstractmethod
    def histories(self) -> list[History]:
        """The past of every layer."""

    def rewind(self, num_steps: int | Tensor) -> None:
        """Forget the last steps; see `State`."""
        for history in self.histories():
            history.rewind(num_steps)
        self.position = rewound(self.position, num_steps)

    def select(self, index: Tensor) -> None:
        """Keep only the sequences `index (B',)`."""
        for history in self.histories():
            history.select(index)
        self.encoded = None if self.encoded is None else self.encoded.select(index)
        if isinstance(self.position, Tensor):
            self.position = rewound(self.position[index], 0)


def rewound(position: int | Tensor, num_steps: int | Tensor) -> int | Tensor:
    """The position so many steps before; a single number while all sequences stand together."""
    earlier = position - num_steps
    if isinstance(earlier, Tensor) and bool((earlier == earlier[0]).all()):
        return int(earlier[0])
    return earlier


def sequence_noise(
    base: Base,
    num: int,
    length: int | None,
    encoded: Encoded | None,
    *,
    temperature: float,
    generator: torch.Generator | None,
    like: Tensor,
) -> Tensor:
    """Base noise `(num, T)` of sequences under a context.

    Arguments:
        base: Kind of noise.
        num: Sequences.
        length: Samples `T`; None where the context tells.
        encoded: The context; None for none.
        temperature: Factor on the noise.
        generator: Source of the noise.
        like: Gives device and dtype.

    Raises:
        ValueError: If the length is open or contradicts the context, or the context is of another
            number of sequences.
    """
    if encoded is not None and encoded.features.shape[0] != num:
        raise ValueError(
            f"{num} sequences were asked for but the context is of {encoded.features.shape[0]}; "
            "give one context to each"
        )
    steps = sequence_length(None if encoded is None else encoded.num_samples, length)
    noise = standard_noise(
        base, (num, steps), generator=generator, device=like.device, dtype=like.dtype
    )
    return temperature * noise

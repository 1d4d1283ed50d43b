"""Common to the sequence models: how long a sequence is, and the noise it is made of."""

import torch
from torch import Tensor

from wavestill.distributions import Base
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

"""What a model is given: contexts and noise in its own place and precision."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wavestill.audio.corpus import Clip
from wavestill.density import Conditioning
from wavestill.distributions import Base
from wavestill.sampling import standard_noise


def device_of(model: object) -> torch.device:
    """Where the model computes."""
    return (
        next(model.parameters()).device
        if isinstance(model, torch.nn.Module)
        else torch.device("cpu")
    )


def dtype_of(model: object) -> torch.dtype:
    """The precision of its parameters."""
    return (
        next(model.parameters()).dtype
        if isinstance(model, torch.nn.Module)
        else torch.get_default_dtype()
    )


def size_of(model: object) -> dict[str, int]:
    """Its parameters, and how far it hears, where it has them."""
    size = {}
    if isinstance(model, torch.nn.Module):
        size["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    if hasattr(model, "receptive_field"):
        size["receptive_field_samples"] = int(model.receptive_field)
    return size


def set_to_evaluation(model: object) -> None:
    """Switch dropout and the like off."""
    if isinstance(model, torch.nn.Module):
        model.eval()


def tensor_for(model: object, values: np.ndarray) -> Tensor:
    """`values` where the model can use them."""
    return torch.tensor(values, device=device_of(model), dtype=dtype_of(model))


def noise_for(model: object, num: int, length: int, generator: torch.Generator) -> Tensor:
    """Base draws `(num, length)` of the model's kind; the generator is on the CPU."""
    base: Base = getattr(model, "base", "logistic")
    noise = standard_noise(base, (num, length), generator=generator, dtype=dtype_of(model))
    return noise.to(device_of(model))


def context_for(model: object, clips: Sequence[Clip]) -> Conditioning | None:
    """The conditioning of a batch of clips; None for unconditional models.

    Short clips are padded with their last frame.

    Raises:
        ValueError: If the model knows several speakers and a clip names none.
    """
    config = getattr(getattr(model, "config", None), "conditioning", None)
    if config is None and hasattr(model, "config"):
        return None
    longest = max(len(clip.frames) for clip in clips)
    frames = np.stack(
        [
            np.pad(clip.frames, ((0, longest - len(clip.frames)), (0, 0)), mode="edge")
            for clip in clips
        ]
    )
    if config is None or not config.num_speakers:
        return Conditioning(tensor_for(model, frames))
    for clip in clips:
        if clip.speaker is None:
            raise ValueError(
                f"clip '{clip.id}' names no speaker but the model knows "
                f"{config.num_speakers}; add them to the corpus"
            )
    speakers = torch.tensor([clip.speaker for clip in clips], device=device_of(model))
    return Conditioning(tensor_for(model, frames), speakers)

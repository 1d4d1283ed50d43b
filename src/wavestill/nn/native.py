"""The native kernel where it can be loaded: see `native/` and `_native.pyi`."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

try:
    from wavestill import _native
except ImportError as error:  # not built, or built for another interpreter
    _missing: str | None = str(error)
else:
    _missing = None


def is_available() -> bool:
    """Whether the native kernel can be loaded."""
    return _missing is None


def why_not() -> str | None:
    """Why the native kernel cannot be loaded; None where it can."""
    return _missing


def instruction_sets() -> list[str]:
    """Instruction sets the kernel can use here, fastest first; none where it is not available."""
    return _native.instruction_sets() if is_available() else []


def float32_array(x: Tensor) -> npt.NDArray[np.float32]:
    """`x` as the kernel takes it."""
    return x.detach().to("cpu", torch.float32).contiguous().numpy()

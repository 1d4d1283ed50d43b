"""torch.compile for the stacks in training, and a cache that survives being killed."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from wavestill.nn.conditioning import Encoded
from wavestill.nn.gated import GatedStack
from wavestill.training.hardware import process_number

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"

_VARIANTS_MAX = 64
"""Compilations of one function: every flow of a student is one, and so is every length of clip."""


@contextmanager
def compiled(task: nn.Module, folder: Path | None) -> Iterator[None]:
    """Within it the gated stacks of a task run compiled where they are trained.

    What samples (with a state) or validates (without gradients) runs as it is: it would have to be
    compiled anew. A run that was killed may have left half a file in its cache, which would break
    the next one: a cache is marked while it is in use, and one that is still marked is removed.

    Arguments:
        task: Its stacks are compiled, a teacher's too.
        folder: Where the compiler's files are kept; None: nowhere for longer.
    """
    cache = Path(tempfile.mkdtemp()) if folder is None else folder / f"{process_number()}"
    mark = cache / "in_use"
    if mark.exists():
        shutil.rmtree(cache)
    cache.mkdir(parents=True, exist_ok=True)
    mark.touch()
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = str(cache.resolve())
    stacks = [module for module in task.modules() if isinstance(module, GatedStack)]
    try:
        with torch._dynamo.config.patch(recompile_limit=_VARIANTS_MAX):
            for stack in stacks:
                stack.forward = _where_trained(stack.forward)  # type: ignore[method-assign]
            yield
    finally:
        for stack in stacks:
            del stack.forward  # the class's own shows again
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
        mark.unlink()
        if folder is None:
            shutil.rmtree(cache)


def _where_trained(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    fast = torch.compile(plain)

    def forward(h: Tensor, encoded: Encoded | None, state: object = None) -> Tensor:
        if state is None and torch.is_grad_enabled():
            return fast(h, encoded)
        return plain(h, encoded, state)

    return forward

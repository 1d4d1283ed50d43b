"""For all tests and doctests: shape checks at import, one seed, few threads."""

import os

import pytest

if os.environ.get("JAXTYPING_DISABLE", "0") in {"", "0"}:
    from jaxtyping import install_import_hook

    # Methods are checked one by one, and beartype alone with a method cannot know who Self is.
    install_import_hook(
        "wavestill",
        "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True, hint_overrides="
        "beartype.FrozenDict({__import__('typing_extensions').Self: object})))",
    )

import torch

# The tests' tensors are small: a second thread costs more than it brings on a busy machine.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed(doctest_namespace: dict[str, object]) -> None:
    """Every test and doctest starts from the same seed, with ``torch`` at hand in doctests."""
    torch.manual_seed(0)
    doctest_namespace["torch"] = torch

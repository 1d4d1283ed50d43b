"""Splits that leak no prompt: whoever says it, and however often, one text is in one split."""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SPLITS = ("train", "valid", "test")

_ALIASES = {
    "dev": "valid",
    "val": "valid",
    "validation": "valid",
    "eval": "test",
    "training": "train",
}


class SplitPlan(NamedTuple):
    """The split of each recording, and which recordings (by position) had to be moved to train."""

    splits: list[str]
    moved: list[int]


def canonical_split(name: str) -> str | None:
    """`train`, `valid` or `test` for a split's usual names; None for others."""
    lower = name.strip().lower()
    lower = _ALIASES.get(lower, lower)
    return lower if lower in SPLITS else None


def prompt_key(text: str | None, path: Path) -> str:
    """What must not be in two splits: the text's words, or without a text the file's bytes."""
    letters = unicodedata.normalize("NFKC", text or "").casefold()
    words = "".join(c if c.isalnum() else " " for c in letters).split()
    return " ".join(words) if words else "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def keep_splits(keys: Sequence[str], given: Sequence[str]) -> SplitPlan:
    """The corpus's own splits, but a prompt that is in more than one goes to train entirely."""
    found = defaultdict(set)
    for key, split in zip(keys, given, strict=True):
        found[key].add(split)
    splits = [
        split if len(found[key]) == 1 else "train" for key, split in zip(keys, given, strict=True)
    ]
    moved = [
        i for i, (split, before) in enumerate(zip(splits, given, strict=True)) if split != before
    ]
    return SplitPlan(splits, moved)


def make_splits(
    keys: Sequence[str], *, valid_fraction: float, test_fraction: float, seed: int
) -> SplitPlan:
    """Split by prompt in an order that only the prompts and the seed decide.

    A fraction above 0 gets at least one prompt where there are three or more; with fewer, all is
    train.
    """
    prompts = sorted(set(keys), key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    num = len(prompts)
    num_test = num_valid = 0
    if num >= 3:
        num_test = min(max(1, int(test_fraction * num)), num - 2) if test_fraction else 0
        num_valid = (
            min(max(1, int(valid_fraction * num)), num - 1 - num_test) if valid_fraction else 0
        )
    split_of = dict.fromkeys(prompts, "train")
    split_of.update(dict.fromkeys(prompts[:num_test], "test"))
    split_of.update(dict.fromkeys(prompts[num_test : num_test + num_valid], "valid"))
    return SplitPlan([split_of[key] for key in keys], [])

"""No prompt in two splits, and the same splits every time."""

import pytest

from wavestill.audio.splits import SPLITS, canonical_split, keep_splits, make_splits, prompt_key

PROMPTS = [f"prompt {i}" for i in range(100)]


def test_a_prompt_is_its_words(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    same = ["Hello, World!", "hello  world", "HELLO WORLD.", "\u201cHello\u201d world"]
    assert len({prompt_key(text, path) for text in same}) == 1
    assert prompt_key("hello word", path) != prompt_key("hello world", path)


def test_without_words_it_is_the_files_content(tmp_path):
    for name, content in {"a": b"one", "b": b"one", "c": b"two"}.items():
        (tmp_path / name).write_bytes(content)
    a, b, c = (prompt_key(None, tmp_path / name) for name in "abc")
    assert a == b != c
    assert prompt_key("...", tmp_path / "a") == a


@pytest.mark.parametrize("num", [3, 4, 5, 10, 100])
@pytest.mark.parametrize(
    "fractions", [(0.05, 0.05), (0.3, 0.6), (0.9, 0.05), (0.0, 0.2), (0.0, 0.0)]
)
def test_splits_hold_whole_prompts_in_the_shares_asked_for(num, fractions):
    valid_fraction, test_fraction = fractions
    keys = PROMPTS[:num] * 2
    splits, moved = make_splits(
        keys, valid_fraction=valid_fraction, test_fraction=test_fraction, seed=0
    )
    assert moved == []
    assert splits[:num] == splits[num:]
    counts = {split: splits[:num].count(split) for split in SPLITS}
    assert counts["train"] >= 1
    for split, fraction in (("valid", valid_fraction), ("test", test_fraction)):
        assert (counts[split] > 0) == (fraction > 0)
        if num == 100:
            assert counts[split] == round(100 * fraction)


def test_splits_depend_on_prompts_and_seed_alone():
    options = {"valid_fraction": 0.1, "test_fraction": 0.1}
    splits = dict(zip(PROMPTS, make_splits(PROMPTS, seed=0, **options).splits, strict=True))
    backwards = make_splits(PROMPTS[::-1], seed=0, **options).splits
    assert [splits[key] for key in PROMPTS[::-1]] == backwards
    assert make_splits(PROMPTS, seed=1, **options).splits != list(splits.values())


def test_fewer_than_three_prompts_are_all_train():
    assert (
        make_splits(["a", "b"], valid_fraction=0.4, test_fraction=0.4, seed=0).splits
        == ["train"] * 2
    )


def test_given_splits_are_kept_but_a_leaking_prompt_goes_to_train():
    splits, moved = keep_splits(
        ["a", "b", "c", "b", "a"], ["train", "test", "valid", "valid", "train"]
    )
    assert splits == ["train", "train", "valid", "train", "train"]
    assert moved == [1, 3]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Dev", "valid"),
        ("validation", "valid"),
        (" eval", "test"),
        ("other", None),
    ],
)
def test_usual_names_of_splits(name, split):
    assert canonical_split(name) == split

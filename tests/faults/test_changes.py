"""A recipe edited between runs: the difference is shown key by key, and refused unless allowed."""

import pytest

from wavestill.settings import plain_settings
from wavestill.training import TrainingConfig
from wavestill.training.changes import differences


def test_a_changed_recipe_is_refused_with_its_differences_and_allowed_on_request(runs, tmp_path):
    out = tmp_path / "run"
    runs.fit(out, max_steps=3)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match="began with another recipe") as told:
        runs.fit(out, resume=True, max_steps=5, learning_rate=1e-3)
    assert "max_steps 3 -> 5; learning_rate 0.002 -> 0.001" in str(told.value)
    assert "--allow-changes" in str(told.value)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    _, history = runs.fit(out, resume=True, allow_changes=True, max_steps=5, learning_rate=1e-3)
    assert history.last("step") == 5
    assert (out / "recipe_before_1.yaml").read_bytes() == before["recipe.yaml"]


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        ({"a": {"b": 1, "c": [1, 2]}}, {"a": {"b": 1, "c": [1, 2]}}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b 1 -> 2"]),
        ({"a": {"b": 1}}, {"a": {}}, ["a.b 1 -> absent"]),
        ({"w": {"x": 1.0}}, {"w": {"x": 1.0, "y": 2.0}}, ["w.y absent -> 2.0"]),
        ({"corpus": "a/../b"}, {"corpus": "b"}, []),
        ({"corpus": "a"}, {"corpus": "b"}, ["corpus 'a' -> 'b'"]),
        ({"out": "a"}, {"out": "b"}, []),
        ({"student": {"flows": [1]}}, {"student": {"flows": [2]}}, []),
        ({"fit": {}}, {"fit": {"accumulate": 1, "compile": False, "explosion": 100.0}}, []),
        ({"fit": {}}, {"fit": {"accumulate": 2}}, ["fit.accumulate absent -> 2"]),
    ],
)
def test_differences_are_those_that_matter(before, now, found):
    assert differences(before, now, beside=("student",)) == found


def test_a_run_of_an_earlier_version_goes_on_under_this_one():
    now = {"fit": plain_settings(TrainingConfig(max_steps=3))}
    new = ("accumulate", "chunk_samples", "compile", "explosion")
    before = {"fit": {key: value for key, value in now["fit"].items() if key not in new}}
    assert differences(before, now) == []

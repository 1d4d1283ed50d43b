"""Every recipe we ship loads and builds; a wrong one is refused in one line that names the key."""

import importlib.resources
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from wavestill.audio import MEL_PRESETS
from wavestill.models import IAFWaveNet, WaveNet
from wavestill.settings import plain_settings, read_settings
from wavestill.training.density_recipe import (
    DensityRecipe,
    is_density_recipe,
    load_density_recipe,
)
from wavestill.training.recipe import Recipe, load_recipe, read_yaml

ALL = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
DENSITIES = [path for path in ALL if is_density_recipe(read_yaml(path))]
SHIPPED = [
    *(path for path in ALL if path not in DENSITIES),
    Path(str(importlib.resources.files("wavestill") / "data" / "demo.yaml")),
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_recipe_loads_and_builds(path: Path) -> None:
    recipe = load_recipe(path)
    rate = next(name for name in ("8k", "16k", "24k") if name in path.stem or path.stem == "demo")
    spec = replace(MEL_PRESETS[f"wavestill_{rate}"], pitch=True)
    teacher = WaveNet(recipe.teacher_config(spec, 0))
    student = IAFWaveNet(recipe.student_config(teacher.config, spec, 0), teacher.encoder)
    objective = recipe.objective.build(teacher, student, spec.sample_rate)
    assert set(objective.terms) == {"kl", *recipe.objective.weights}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_resolved_recipe_reads_back_as_itself(path: Path) -> None:
    recipe = load_recipe(path)
    resolved = yaml.safe_load(yaml.safe_dump(recipe.to_dict()))
    assert read_settings(Recipe, resolved) == recipe
    assert plain_settings(recipe.fit)["betas"] == [0.9, 0.99]


@pytest.mark.parametrize("path", DENSITIES, ids=lambda path: path.stem)
def test_every_recipe_of_a_density_loads_builds_and_reads_back(path: Path, tmp_path: Path) -> None:
    rows = np.eye(30, 12)
    np.savez(tmp_path / "bits.npz", train=rows, valid=rows, test=rows)
    recipe, table = load_density_recipe(path, data=tmp_path / "bits.npz")
    assert recipe.out.name == f"{read_yaml(path)['out'].split('/')[-1]}_bits"
    model = recipe.build(table.num_dims)
    assert model.conditionals(table.train).batch_shape == (30, 12)
    resolved = yaml.safe_load(yaml.safe_dump(recipe.to_dict()))
    assert read_settings(DensityRecipe, resolved) == recipe


GOOD = {"corpus": "c", "out": "o", "fit": {"max_steps": 1}, "distill": {"max_steps": 1}}

BAD = {
    "unknown key": ({**GOOD, "corpse": 1}, "unknown key 'corpse'; did you mean 'corpus'"),
    "unknown inner key": (
        {**GOOD, "teacher": {"layer": 3}},
        "unknown key 'teacher.layer'; did you mean 'layers'",
    ),
    "missing": ({"out": "o"}, "the key 'corpus' is missing"),
    "text for a number": (
        {**GOOD, "fit": {"max_steps": "many"}},
        "'fit.max_steps' is 'many' but must be a whole",
    ),
    "fraction for a count": ({**GOOD, "fit": {"max_steps": 2.5}}, "'fit.max_steps' is 2.5"),
    "truth for a number": ({**GOOD, "fit": {"minutes": True}}, "'fit.minutes' is True"),
    "no such choice": (
        {**GOOD, "teacher": {"head": "cauchy"}},
        "'teacher.head' is 'cauchy'; choose among 'log",
    ),
    "number for a mapping": ({**GOOD, "teacher": 3}, "'teacher' is 3 but must hold keys"),
    "text in a list": ({**GOOD, "student": {"flows": [3, "x"]}}, r"'student.flows\[1\]' is 'x'"),
    "list of wrong length": (
        {**GOOD, "fit": {"max_steps": 1, "betas": [0.9]}},
        "'fit.betas' has 1 values but takes 2",
    ),
    "text in a mapping": (
        {**GOOD, "objective": {"weights": {"power": "x"}}},
        "'objective.weights.power' is 'x'",
    ),
    "out of range": ({**GOOD, "fit": {"max_steps": 0}}, "fit: 'max_steps' is 0"),
    "no end": ({**GOOD, "fit": {}}, "fit: neither 'max_steps' nor 'minutes'"),
    "of the corpus": (
        {**GOOD, "teacher": {"conditioning": {"hop_samples": 100}}},
        "'teacher.conditioning.hop_samples' follows from the corpus",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_recipes_are_refused_by_the_keys_name(tmp_path: Path, case: str) -> None:
    values, complaint = BAD[case]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=complaint) as error:
        load_recipe(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("a: [1", "not readable as YAML"), ("just words", "holds no keys"), ("", "holds no keys")],
)
def test_files_that_are_no_recipe(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint) as error:
        load_recipe(path)
    assert "\n" not in str(error.value)


def test_a_number_that_yaml_takes_for_a_text_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "{corpus: c, out: o, fit: {max_steps: 1, learning_rate: 1e-3}, distill: {minutes: 1}}"
    )
    assert load_recipe(path).fit.learning_rate == 1e-3

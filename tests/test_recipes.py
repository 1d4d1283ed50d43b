"""Every recipe we ship loads and builds; a wrong one is refused in one line that names the key."""

import importlib.resources
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from wavestill.audio import MEL_PRESETS
from wavestill.audio.mel import MelSpec
from wavestill.density import Conditioning
from wavestill.evaluation.training_cost import ACCELERATORS, needs
from wavestill.models import IAFWaveNet, WaveNet
from wavestill.models.phone_classifier import PhoneClassifier, PhoneClassifierConfig
from wavestill.settings import plain_settings, read_settings
from wavestill.training.classifier_recipe import is_classifier_recipe
from wavestill.training.config import TrainingConfig
from wavestill.training.density_recipe import (
    DensityRecipe,
    is_density_recipe,
    load_density_recipe,
)
from wavestill.training.recipe import Recipe, load_recipe, read_yaml

ALL = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
DENSITIES = [path for path in ALL if is_density_recipe(read_yaml(path))]
SHIPPED = [
    *(path for path in ALL if path not in DENSITIES and not is_classifier_recipe(read_yaml(path))),
    Path(str(importlib.resources.files("wavestill") / "data" / "demo.yaml")),
]


HEAVY = {"parallel_wavenet_24k", "vctk_multispeaker_24k"}
"""Recipes whose models take more than seconds for a single step here."""


def spec_of(path: Path) -> MelSpec:
    """The mel spec of the recipe's `wavestill prepare`."""
    preset = re.search(r"--preset (\w+)", path.read_text())
    pitch = preset is None or "--pitch" in path.read_text()
    return replace(MEL_PRESETS[preset[1] if preset else "wavestill_8k"], pitch=pitch)


def models_of(path: Path) -> tuple[Recipe, MelSpec, WaveNet, IAFWaveNet]:
    """A recipe, with its models as they begin."""
    recipe, spec = load_recipe(path), spec_of(path)
    num_speakers = 3 if "multispeaker" in path.stem else 0
    teacher = WaveNet(recipe.teacher_config(spec, num_speakers))
    config = recipe.student_config(teacher.config, spec, num_speakers)
    return recipe, spec, teacher, IAFWaveNet(config, teacher.encoder)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow if path.stem in HEAVY else (), id=path.stem)
        for path in SHIPPED
    ],
)
def test_every_recipe_loads_builds_and_steps(path: Path) -> None:
    recipe, spec, teacher, student = models_of(path)
    num_frames = -(-2100 // spec.hop_samples)  # one transform of the spectral terms
    num = 2 if {"contrastive"} & recipe.objective.weights.keys() else 1
    x = 0.1 * torch.randn(num, num_frames * spec.hop_samples)
    frames = torch.randn(num, num_frames, spec.num_features)
    if spec.pitch:
        frames[..., -2:] = torch.tensor([5.0, 1.0])
    speakers = torch.arange(num) if teacher.config.conditioning.num_speakers else None
    context = Conditioning(frames, speakers)

    classifier = None
    if recipe.objective.classifier is not None:
        shape = PhoneClassifierConfig(4, spec.hop_samples, spec.sample_rate, 2, 2, 8, 8)
        classifier = PhoneClassifier(shape)
    objective = replace(recipe.objective, skip_samples=0).build(
        teacher, student, spec.sample_rate, classifier=classifier
    )
    assert set(objective.terms) == {"kl", *recipe.objective.weights}
    objective_loss = objective(x, context, shape=tuple(x.shape)).total
    step(student, objective_loss, recipe.distill)
    for parameter in teacher.parameters():
        parameter.requires_grad_()  # the objective had put it to rest
    step(teacher, -teacher.log_prob(x, context).mean() / x.shape[1], recipe.fit)


def step(model: nn.Module, loss: torch.Tensor, config: TrainingConfig) -> None:
    """One step of Adam: a finite gradient for every parameter, and another model after it."""
    before = [p.detach().clone() for p in model.parameters()]
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    loss.backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())
    optimiser.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_a_recipe_says_it_needs_is_what_the_cost_model_says(path: Path) -> None:
    text = " ".join(path.read_text().replace("# ", "").split())
    if "cost model" not in text:
        assert path.stem in {"demo", "kathleen_16k_cpu"}, "measured"
        return
    recipe, spec = load_recipe(path), spec_of(path)
    num_speakers = 109 if "vctk" in path.stem else 0
    teacher = recipe.teacher_config(spec, num_speakers)
    student = recipe.student_config(teacher, spec, num_speakers)
    assert needs(teacher, student, recipe.fit, recipe.distill, ACCELERATORS["H100"]) in text


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

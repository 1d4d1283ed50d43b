"""Densities of vectors from the command line: what they are given, and what they reach."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from wavestill import cli
from wavestill.training.density_folder import load_density
from wavestill.training.density_recipe import load_density_recipe, settings_for
from wavestill.training.tables import load_table

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT.parent / "shared" / "data" / "binary_densities"


def bits(num: int, seed: int) -> np.ndarray:
    """Rows of 6 bits whose second half repeats the first: 3 ln 2 nats a row."""
    half = np.random.default_rng(seed).integers(0, 2, (num, 3))
    return np.concatenate([half, half], 1).astype(np.uint8)


def splits(**changes: object) -> dict[str, object]:
    return {"train": bits(400, 0), "valid": bits(100, 1), "test": bits(100, 2)} | changes


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "bits.npz"
    np.savez(path, **splits())
    return path


def recipe_file(folder: Path, data: Path, **changes: object) -> Path:
    values = {
        "data": str(data),
        "out": str(folder / "run"),
        "nade": {"num_hidden": 16},
        "fit": {"max_steps": 250, "learning_rate": 0.05, "averaging": 0.9, "patience": 20},
    }
    path = folder / "recipe.yaml"
    kept = {key: value for key, value in (values | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(kept))
    return path


def command(*arguments: object) -> int:
    try:
        return cli.run([str(argument) for argument in arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


def test_fit_learns_a_table_and_tells_its_nats(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    recipe = recipe_file(tmp_path, data)
    assert command("fit", recipe, "--json", figures) == 0
    said = capsys.readouterr().out
    told = json.loads(figures.read_text())
    assert told["test_nats"] == pytest.approx(3 * np.log(2), abs=0.15)
    assert f"test {told['test_nats']:.3f} nats per row" in said
    model = load_density(tmp_path / "run" / "density")
    test = load_table(data).test
    with torch.no_grad():
        assert -float(model.log_prob(test).mean()) == pytest.approx(told["test_nats"], abs=1e-5)
    assert {"metrics.csv", "recipe.yaml"} <= {
        p.name for p in (tmp_path / "run/training").iterdir()
    }
    # the same data by option, into a folder named after it
    assert command("fit", recipe, "--data", data) == 0
    assert (tmp_path / "run_bits" / "density" / "model.safetensors").exists()
    # and a run that is there already is left alone
    assert command("fit", recipe) == 1
    assert "holds a run already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "model",
    [
        {"made": {"hidden": [20]}},
        {"rnade": {"num_hidden": 8, "num_mixtures": 2}},
        {"made": {"hidden": [20], "head": "normal"}},
    ],
    ids=["made", "rnade", "made normal"],
)
def test_the_other_models_go_the_same_way(
    model: dict[str, object], data: Path, tmp_path: Path
) -> None:
    recipe = recipe_file(tmp_path, data, nade=None, fit={"max_steps": 2}, **model)
    assert command("fit", recipe) == 0
    loaded = load_density(tmp_path / "run" / "density")
    assert loaded.sample(3).shape == (3, 6)


BAD_FILES = {
    "missing array": (lambda: {"train": bits(9, 0), "valid": bits(9, 0)}, "it has no 'test'"),
    "two": (lambda: splits(valid=2 * bits(9, 0)), "'valid' holds 2 but .* takes 0 and 1"),
    "fraction": (lambda: splits(test=0.5 * bits(9, 0)), "'test' holds 0.5 but"),
    "widths": (lambda: splits(test=bits(9, 0)[:, :5]), "'train' 6, 'valid' 6, 'test' 5"),
    "vector": (lambda: splits(train=bits(9, 0)[0]), r"'train' has the shape \(6,\)"),
    "empty": (lambda: splits(valid=bits(9, 0)[:0]), r"'valid' has the shape \(0, 6\)"),
    "text": (lambda: splits(train=np.array([["a", "b"]])), "'train' holds <U1; give numbers"),
    "nan": (lambda: splits(train=np.full((3, 6), np.nan)), "'train' holds .* not finite"),
    "objects": (lambda: splits(train=np.array([[None]])), "allow_pickle=False|Object arrays"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_data_are_refused_in_one_line(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays, complaint = BAD_FILES[case]
    np.savez(tmp_path / "bad.npz", **arrays())
    assert command("fit", recipe_file(tmp_path, tmp_path / "bad.npz")) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(r"wavestill: [^\n]+\n", error), error
    assert re.search(complaint, error), error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip at all", b"PK\x03\x04 broken"], ids=str)
def test_files_that_are_no_data(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.npz"):
        load_table(path)
    np.save(tmp_path / "lone.npy", np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"is no \.npz file of arrays"):
        load_table(tmp_path / "lone.npy")
    with pytest.raises(ValueError, match="there is no data at"):
        load_table(tmp_path / "missing.npz")


BAD_RECIPES = {
    "no model": ({"nade": None}, "has no model; give just one of nade, rnade, made"),
    "two models": ({"made": {}}, "has nade and made; give just one"),
    "of the data": ({"nade": {"num_dims": 5}}, "leave them out: they follow from the data"),
    "typo": ({"nade": {"hidden": 5}}, "unknown key 'nade.hidden'"),
    "no units": ({"nade": {"num_hidden": 0}}, "'num_hidden' is 0; give at least 1"),
    "no such head": ({"nade": None, "made": {"head": "x"}}, "'made.head' is 'x'; choose"),
    "no end": ({"fit": {}}, "neither 'max_steps' nor 'minutes'"),
    "no fit": ({"fit": None}, "the key 'fit' is missing"),
    "seed": ({"seed": -1}, "'seed' is -1"),
}


@pytest.mark.parametrize("case", BAD_RECIPES)
def test_bad_recipes_are_refused_in_one_line(
    case: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, complaint = BAD_RECIPES[case]
    assert command("fit", recipe_file(tmp_path, data, **changes)) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(r"wavestill: [^\n]+\n", error), error
    assert complaint in error


def test_options_of_a_density_are_not_a_voices(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "voice.yaml"
    path.write_text("{corpus: c, out: o, fit: {max_steps: 1}, distill: {max_steps: 1}}")
    assert command("fit", path, "--data", data) == 1
    assert "set 'corpus' and 'out' in it" in capsys.readouterr().err


def test_settings_follow_from_the_rows(data: Path, tmp_path: Path) -> None:
    table = load_table(data)
    recipe, _ = load_density_recipe(recipe_file(tmp_path, data))
    assert recipe.fit.batch_size == settings_for(table)["batch_size"] == 20
    assert recipe.fit.validation_clips == 100
    given = {"max_steps": 1, "batch_size": 7}
    recipe, _ = load_density_recipe(recipe_file(tmp_path, data, fit=given))
    assert recipe.fit.batch_size == 7


def test_a_damaged_folder_is_no_density(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it has no config\.json"):
        load_density(tmp_path)
    assert command("fit", recipe_file(tmp_path, data, fit={"max_steps": 1})) == 0
    folder = tmp_path / "run" / "density"
    (folder / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="is no whole density"):
        load_density(folder)


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published data sets are not here")
@pytest.mark.parametrize(("name", "nats_max"), [("dna", 85.3), ("mushrooms", 9.95)])
def test_published_tables_are_reproduced(name: str, nats_max: float, tmp_path: Path) -> None:
    """NADE 84.81 and 9.81, MADE 83.63 and 9.68 (Germain et al., 2015, table 4)."""
    arguments = ["--data", PUBLISHED / f"{name}.npz", "--out", tmp_path / name]
    figures = tmp_path / "figures.json"
    assert command("fit", ROOT / "recipes" / "nade.yaml", *arguments, "--json", figures) == 0
    told = json.loads(figures.read_text())
    assert told["test_nats"] <= nats_max
    assert told["elapsed_s"] <= 600


def test_a_run_goes_on_with_the_data_it_began_with(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = tmp_path / "run", tmp_path / "other.npz"
    recipe = recipe_file(tmp_path, data, fit={"max_steps": 2, "checkpoint_minutes": 0.001})
    assert command("fit", recipe, "--out", run) == 0
    assert command("fit", recipe, "--out", run, "--resume") == 0
    np.savez(other, **splits(train=bits(400, 7)))
    record = (run / "training" / "recipe.yaml").read_text()
    capsys.readouterr()
    assert command("fit", recipe, "--data", other, "--out", run, "--resume") == 1
    told = capsys.readouterr().err
    assert "began with another recipe: data " in told
    assert "--allow-changes" in told
    assert (run / "training" / "recipe.yaml").read_text() == record

"""A voice survives its folder unchanged, and a folder that is no voice is refused in one line."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from wavestill import publish
from wavestill.density import Conditioning
from wavestill.publish import Voice


def test_a_voice_survives_its_folder_to_the_bit(tiny_voice: Voice, voice_path: Path) -> None:
    loaded = publish.load(voice_path)
    assert loaded.spec == tiny_voice.spec
    assert loaded.teacher is not None
    assert loaded.student is not None
    context = Conditioning(torch.randn(1, 3, tiny_voice.spec.num_features))
    noise = torch.randn(1, 3 * tiny_voice.spec.hop_samples)
    with torch.no_grad():
        assert torch.equal(
            loaded.student.rsample(noise, context).x,
            tiny_voice.require_student().rsample(noise, context).x,
        )
        assert torch.equal(
            loaded.teacher.log_prob(noise / 10, context),
            tiny_voice.require_teacher().log_prob(noise / 10, context),
        )


def test_saving_replaces_a_voice_but_nothing_else(tiny_voice: Voice, tmp_path: Path) -> None:
    publish.save(tiny_voice, tmp_path / "voice")
    publish.save(dataclasses.replace(tiny_voice, student=None), tmp_path / "voice")
    assert publish.load(tmp_path / "voice").student is None
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="is no voice and will not be overwritten"):
        publish.save(tiny_voice, tmp_path / "other")
    assert (tmp_path / "other" / "thesis.txt").exists()


def test_the_card_names_what_matters(tiny_voice: Voice, tmp_path: Path) -> None:
    measured = {"teacher": {"nll_nats_per_sample": 6.25}}
    publish.save(dataclasses.replace(tiny_voice, measured=measured), tmp_path / "voice")
    card = (tmp_path / "voice" / "README.md").read_text()
    assert "8000 Hz" in card
    assert "| teacher nll_nats_per_sample | 6.25 |" in card


def edit_config(path: Path, **changes: object) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **changes}))


def poison(path: Path) -> None:
    weights = load_file(path / "model.safetensors")
    weights["teacher.input.bias"][0] = float("nan")
    save_file(weights, path / "model.safetensors")


DAMAGES = {
    "no folder": (lambda path: shutil.rmtree(path), "there is no voice"),
    "no config": (lambda path: (path / "config.json").unlink(), "has no config.json"),
    "config is no JSON": (lambda path: (path / "config.json").write_text("{"), "cannot be read"),
    "another program's config": (
        lambda path: (path / "config.json").write_text("{}"),
        "does not describe a voice",
    ),
    "a later format": (lambda path: edit_config(path, format_version=99), "format version 99"),
    "a key is missing": (lambda path: edit_config(path, teacher={}), "damaged"),
    "an unknown key": (
        lambda path: edit_config(path, teacher={"layer": 3}),
        "unknown key 'teacher.layer'",
    ),
    "a wrong type": (
        lambda path: edit_config(path, teacher={"layers": "x"}),
        "'teacher.layers' is 'x'",
    ),
    "no weights": (lambda path: (path / "model.safetensors").unlink(), "model.safetensors"),
    "truncated weights": (
        lambda path: (path / "model.safetensors").write_bytes(
            (path / "model.safetensors").read_bytes()[:1000]
        ),
        "cannot be read",
    ),
    "other weights": (
        lambda path: edit_config(path, teacher={"layers": 2}),
        "does not fit|damaged",
    ),
    "weights that are not finite": (poison, "not finite in 'teacher.input.bias'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_folders_are_refused_in_one_line(
    voice_path: Path, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "voice"
    shutil.copytree(voice_path, path)
    break_it, complaint = DAMAGES[damage]
    break_it(path)
    with pytest.raises(ValueError, match=complaint) as error:
        publish.load(path)
    assert "\n" not in str(error.value)

"""A voice survives its folder unchanged, and a folder that is no voice is refused in one line."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from wavestill import publish
from wavestill.density import Conditioning
from wavestill.publish import Voice, folder
from wavestill.publish.migrations import FORMAT_VERSION, MIGRATIONS, migrated
from wavestill.publish.weights import sha256_of


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


def test_a_voice_saved_while_it_is_read_is_read_again(
    tiny_voice: Voice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = tmp_path / "voice", folder._read
    publish.save(tiny_voice, path)

    def saved_meanwhile(path: Path, config: dict[str, object]) -> Voice:
        monkeypatch.setattr(folder, "_read", read)
        publish.save(dataclasses.replace(tiny_voice, student=None), path)
        return read(path, config)

    monkeypatch.setattr(folder, "_read", saved_meanwhile)
    assert publish.load(path).student is None


def test_the_card_names_what_matters(tiny_voice: Voice, tmp_path: Path) -> None:
    measured = {"teacher": {"nll_nats_per_sample": 6.25}}
    made = {"version": "9.8", "commit": "abc", "command": "wavestill fit recipe.yaml"}
    voice = dataclasses.replace(tiny_voice, measured=measured, made=made)
    publish.save(voice, tmp_path / "voice")
    card = (tmp_path / "voice" / "README.md").read_text()
    assert "8000 Hz" in card
    assert "| teacher nll_nats_per_sample | 6.25 |" in card
    assert "Use it only with their\nconsent" in card
    assert "version 9.8, commit abc" in card
    assert "`wavestill fit recipe.yaml`" in card


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, ""),
        ({"student": None}, " --sampler cached"),
        ({"speakers": ("ada",)}, ""),
        ({"speakers": ("ada", "bea")}, " --speaker ada"),
    ],
    ids=["both", "teacher alone", "one speaker", "two speakers"],
)
def test_the_cards_command_suits_the_voice(
    tiny_voice: Voice, tmp_path: Path, changes: dict[str, object], options: str
) -> None:
    publish.save(dataclasses.replace(tiny_voice, **changes), tmp_path / "voice")
    card = (tmp_path / "voice" / "README.md").read_text()
    assert f"\nwavestill synth voice recording.wav -o copy.wav{options}\n" in card


def test_a_card_takes_whatever_figures_a_config_holds(tiny_voice: Voice, tmp_path: Path) -> None:
    measured = {"teacher": 3, "student": {"kl_nats_per_sample": "little"}, "speed": [1]}
    made = {"version": "1", "machine": {"processor": "abacus"}}
    voice = dataclasses.replace(
        tiny_voice, measured=measured, made=made, speakers=("Ada Lovelace", "bea")
    )
    publish.save(voice, tmp_path / "my voice")
    publish.save(publish.load(tmp_path / "my voice"), tmp_path / "my voice")
    card = (tmp_path / "my voice" / "README.md").read_text()
    assert "| teacher | 3 |" in card
    assert "processor abacus" in card
    assert "wavestill synth 'my voice' recording.wav -o copy.wav --speaker 'Ada Lovelace'" in card


def edit_config(path: Path, **changes: object) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **changes}))


def drop_key(path: Path, key: str) -> None:
    config = json.loads((path / "config.json").read_text())
    del config[key]
    (path / "config.json").write_text(json.dumps(config))


def edit_model(path: Path, part: str, **changes: object) -> None:
    config = json.loads((path / "config.json").read_text())
    edit_config(path, **{part: {**config[part], **changes}})


def edit_weights(path: Path, **changes: torch.Tensor | None) -> None:
    """As somebody would who means it: the sum is that of the new weights."""
    weights = {**load_file(path / "model.safetensors"), **changes}
    save_file({k: v for k, v in weights.items() if v is not None}, path / "model.safetensors")
    edit_config(path, weights_sha256=sha256_of(path / "model.safetensors"))


def flip_a_bit(path: Path) -> None:
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-3] ^= 4
    (path / "model.safetensors").write_bytes(content)


class Trojan:
    """What would write a file where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


def pickle_in_place_of_weights(path: Path) -> None:
    torch.save({"teacher.input.bias": Trojan()}, path / "model.safetensors")
    edit_config(path, weights_sha256=sha256_of(path / "model.safetensors"))


DAMAGES = {
    "no folder": (lambda path: shutil.rmtree(path), "there is no voice"),
    "no config": (lambda path: (path / "config.json").unlink(), "config.json is missing"),
    "config is no JSON": (lambda path: (path / "config.json").write_text("{"), "cannot be read"),
    "another program's config": (
        lambda path: (path / "config.json").write_text("{}"),
        "does not describe a voice",
    ),
    "a later format": (lambda path: edit_config(path, format_version=99), "format version 99"),
    "no format version": (lambda path: edit_config(path, format_version="1"), "is damaged"),
    "a key is missing": (
        lambda path: drop_key(path, "spec"),
        "is damaged: the key 'spec' is missing; get it again",
    ),
    "a spec that is none": (lambda path: edit_config(path, spec=[1]), r"'spec' is \[1\] but must"),
    "a level that is true": (
        lambda path: edit_config(path, level_dbfs=True),
        "'level_dbfs' is True but must be a number",
    ),
    "a number that no float can hold": (
        lambda path: edit_config(path, level_dbfs=-(10**400)),
        "is damaged: int too large",
    ),
    "brackets without end": (
        lambda path: (path / "config.json").write_text("[" * 100_000),
        r"config\.json' cannot be read",
    ),
    "no dilations": (
        lambda path: edit_model(path, "teacher", dilation_cycle=0),
        "'dilation_cycle' is 0; it must be positive",
    ),
    "more bits than a float has": (
        lambda path: edit_model(path, "teacher", bits=10**9),
        "'bits' is 1000000000; it must lie between 1 and 24",
    ),
    "a hundred thousand channels": (  # 240 GB a layer
        lambda path: edit_model(path, "student", channels=10**5),
        r"student\.flows\.0\.input\.weight has shape \(4, 1\), not \(100000, 1\)",
    ),
    "a billion channels": (
        lambda path: edit_model(path, "student", channels=10**9),
        "is damaged: Storage size calculation overflowed",
    ),
    "a billion layers": (
        lambda path: edit_model(path, "teacher", layers=10**9),
        r"'teacher' has 1000000000 layers but model\.safetensors",
    ),
    "a billion layers of a flow": (
        lambda path: edit_model(path, "student", flows=[10**9]),
        r"'student' has 1000000000 layers but model\.safetensors",
    ),
    "a flow of fewer than no layers": (
        lambda path: edit_model(path, "student", flows=[10**9, -(10**9)]),
        "each flow needs a layer",
    ),
    "an unknown key": (
        lambda path: edit_config(path, teacher={"layer": 3}),
        "unknown key 'teacher.layer'",
    ),
    "a wrong type": (
        lambda path: edit_config(path, teacher={"layers": "x"}),
        "'teacher.layers' is 'x'",
    ),
    "no weights": (lambda path: (path / "model.safetensors").unlink(), "is incomplete"),
    "truncated weights": (
        lambda path: (path / "model.safetensors").write_bytes(
            (path / "model.safetensors").read_bytes()[:1000]
        ),
        "is corrupted and cannot be read",
    ),
    "a pickle for weights": (pickle_in_place_of_weights, "is corrupted and cannot be read"),
    "a bit is flipped": (flip_a_bit, "is corrupted: its SHA-256"),
    "weights of another shape": (
        lambda path: edit_weights(path, **{"teacher.input.bias": torch.zeros(5)}),
        r"teacher\.input\.bias has shape \(5,\), not \(4,\)",
    ),
    "a weight is missing": (
        lambda path: edit_weights(path, **{"student.gain": None}),
        r"student\.gain is missing",
    ),
    "a weight too many": (
        lambda path: edit_weights(path, **{"teacher.trojan": torch.zeros(1)}),
        r"teacher\.trojan is not of this voice",
    ),
    "a part that the config denies": (
        lambda path: edit_config(path, student=None),
        r"student\.\S+ is not of this voice",
    ),
    "whole numbers for weights": (
        lambda path: edit_weights(path, **{"teacher.input.bias": torch.zeros(4).int()}),
        r"teacher\.input\.bias is of type I32",
    ),
    "weights that are not finite": (
        lambda path: edit_weights(path, **{"teacher.input.bias": torch.full((4,), torch.nan)}),
        r"teacher\.input\.bias holds values that are not finite",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_folders_are_refused_in_one_line(
    voice_path: Path, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "voice"
    shutil.copytree(voice_path, path)
    break_it, complaint = DAMAGES[damage]
    break_it(path)
    with pytest.raises(ValueError, match=complaint) as error:
        publish.load(path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "unpickled").exists()


def test_voices_of_every_older_format_are_read(tmp_path: Path) -> None:
    stored = sorted(Path(__file__).parent.glob("voice_version_*"))
    assert [path.name for path in stored] == [f"voice_version_{n}" for n in sorted(MIGRATIONS)]
    for path in stored:
        voice = publish.load(path)
        assert voice.speakers == ("ada", "bea")
        publish.save(voice, tmp_path / path.name)
        assert (
            json.loads((tmp_path / path.name / "config.json").read_text())["format_version"]
            == FORMAT_VERSION
        )
        context = Conditioning(torch.randn(1, 3, 7), torch.tensor([1]))
        again, noise = publish.load(tmp_path / path.name), torch.randn(1, 300)
        samples = [own.require_student().rsample(noise, context).x for own in (voice, again)]
        assert torch.equal(*samples)


def test_migrations_lead_from_each_version_to_the_next() -> None:
    assert sorted(MIGRATIONS) == list(range(1, FORMAT_VERSION))
    with pytest.raises(ValueError, match=f"reads up to {FORMAT_VERSION}; update wavestill"):
        migrated({"format_version": FORMAT_VERSION + 1})

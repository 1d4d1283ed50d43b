"""The phone classifier: centred, learns what can be learnt, its recipe and folder hold."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from wavestill.audio import Corpus
from wavestill.commands.fit import fit
from wavestill.models.phone_classifier import PhoneClassifier, PhoneClassifierConfig
from wavestill.settings import read_settings
from wavestill.training.classification import LabelledCrops, PhoneClassification, fit_classifier
from wavestill.training.classifier_recipe import (
    ClassifierRecipe,
    is_classifier_recipe,
    load_classifier,
    load_classifier_recipe,
    save_classifier,
)
from wavestill.training.config import TrainingConfig
from wavestill.training.data import Batch
from wavestill.training.recipe import read_yaml

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = PhoneClassifierConfig(
    num_classes=4,
    hop_samples=100,
    sample_rate=8000,
    layers=3,
    channels=8,
    hidden_channels=12,
)
FIT = TrainingConfig(max_steps=60, batch_size=4, clip_samples=800, learning_rate=1e-2)


def small() -> PhoneClassifier:
    torch.manual_seed(0)
    return PhoneClassifier(SMALL)


def test_a_frame_hears_its_surroundings_and_no_further() -> None:
    """As far after as before, half the receptive field; shifted by frames, the same."""
    classifier = small().double().eval()
    hop, size = SMALL.hop_samples, SMALL.step_samples
    reach = (classifier.receptive_field // size - 1) // 2
    assert (size, reach) == (4, 8)
    x = torch.randn(1, 20 * hop, dtype=torch.float64)
    # well inside a frame, and as far before and after an edge as can just be heard, or not
    for step in (5 * 25 + 12, 5 * 25 + 7, 5 * 25 + 8, 6 * 25 - 8, 6 * 25 - 9):
        changed = x.clone()
        changed[:, step * size] += 1.0
        moved = (classifier(changed) - classifier(x)).abs().sum(-1)[0] > 0
        heard = [25 * i - reach <= step < 25 * (i + 1) + reach for i in range(20)]
        assert moved.tolist() == heard
    later = torch.nn.functional.pad(x, (3 * hop, 0))[:, : 20 * hop]
    inner = slice(6, 18)  # away from the edges, which are silence here and sound there
    torch.testing.assert_close(
        classifier(later)[:, inner], classifier(x)[:, slice(inner.start - 3, inner.stop - 3)]
    )


def test_unknown_frames_teach_nothing() -> None:
    task = PhoneClassification(small(), FIT, 0)
    x, labels = torch.randn(2, 800), torch.randint(4, (2, 8))
    some = labels.clone()
    some[:, 4:] = -1
    logits = task.model(x)[:, :4].flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, labels[:, :4].flatten())
    torch.testing.assert_close(task.losses(Batch(x, some, (2, 800)))[0], expected)
    none = task.losses(Batch(x, torch.full_like(labels, -1), (2, 800)))[0]
    assert float(none.detach()) == 0


def test_crops_depend_on_the_step_alone_and_keep_labels_with_their_frames(corpus: Corpus) -> None:
    clips = corpus.split("train")

    def numbered(clip) -> torch.Tensor:
        """A class that tells the level of its samples: the sound says which frame it is."""
        return (1e4 * torch.from_numpy(clip.wave).view(-1, 100).abs().sum(1)).long()

    crops = LabelledCrops(clips, numbered, 3, 830, seed=1)
    x, labels, shape = crops.batch(5)
    assert shape == (3, 800)
    assert torch.equal((1e4 * x.view(3, 8, 100).abs().sum(2)).long(), labels)
    assert torch.equal(crops.batch(5).x, x)
    assert not torch.equal(crops.batch(6).x, x)
    with pytest.raises(ValueError, match=r"'clip_samples' is 100000 but the longest clip has"):
        LabelledCrops(clips, numbered, 3, 100_000, seed=1)


def test_it_learns_to_name_what_it_hears() -> None:
    """Tones of four pitches, a random one in each frame."""
    task = PhoneClassification(small(), FIT, 0)
    optimizer = torch.optim.Adam(task.trained(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(100) / 100
    for _ in range(60):
        labels = torch.randint(4, (4, 8), generator=generator)
        tones = torch.sin(2 * torch.pi * (3 + 5 * labels.unsqueeze(-1)) * time)
        loss, figures = task.losses(Batch(tones.flatten(1), labels, (4, 800)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(figures["accuracy"]) > 0.9
    assert float(figures["nats"].detach()) < 0.5


def recipe(corpus: Corpus, out: Path) -> ClassifierRecipe:
    shape = replace(SMALL, num_classes=0, hop_samples=0, sample_rate=0)
    return ClassifierRecipe(
        corpus.path, out, replace(FIT, max_steps=3), shape, pseudo_phones=6, seed=2
    )


def test_fit_knows_the_recipe_by_its_kind_and_writes_a_folder(
    corpus: Corpus, tmp_path: Path
) -> None:
    path = tmp_path / "phones.yaml"
    path.write_text(yaml.safe_dump(recipe(corpus, tmp_path / "run").to_dict()))
    assert load_classifier_recipe(path) == recipe(corpus, tmp_path / "run")
    figures = fit(path).figures["classifier"]
    assert 0 <= figures["valid_accuracy"] <= 1
    folder = tmp_path / "run" / "classifier"
    classifier = load_classifier(folder)
    assert not classifier.training
    assert classifier.config.num_classes == 6
    names = json.loads((folder / "config.json").read_text())["phones"]
    assert names == [f"cluster {k}" for k in range(6)]


SHIPPED = [
    path
    for path in sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
    if is_classifier_recipe(read_yaml(path))
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_recipe_of_a_classifier_loads_builds_and_reads_back(
    path: Path, corpus: Corpus
) -> None:
    shipped = load_classifier_recipe(path)
    resolved = yaml.safe_load(yaml.safe_dump(shipped.to_dict()))
    assert read_settings(ClassifierRecipe, resolved) == shipped
    classifier = shipped.build(corpus, shipped.pseudo_phones)
    assert classifier(torch.zeros(1, 400)).shape == (1, 4, shipped.pseudo_phones)


def test_a_folder_holds_the_classifier_and_damage_is_told(tmp_path: Path) -> None:
    classifier = small().eval()
    save_classifier(classifier, tmp_path / "c", ("a", "b", "c", "d"), {})
    x = torch.randn(1, 800)
    assert torch.equal(load_classifier(tmp_path / "c")(x), classifier(x))
    weights = tmp_path / "c" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    for path, complaint in ((tmp_path / "c", "no whole phone classifier"), (tmp_path, "has no")):
        with pytest.raises(ValueError, match=complaint) as error:
            load_classifier(path)
        assert "\n" not in str(error.value)


def test_what_does_not_fit_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is of 16000 Hz and hop 100 but the corpus of 8000 Hz"):
        fit_classifier(
            PhoneClassifier(replace(SMALL, sample_rate=16000)), corpus, lambda clip: 0, config=FIT
        )
    path = tmp_path / "r.yaml"
    values = recipe(corpus, tmp_path).to_dict()
    for key, value, complaint in (
        ("pseudo_phones", 1, "'pseudo_phones' is 1; give 2 or more"),
        ("classifier", {"num_classes": 5}, "'classifier.num_classes' follows from the corpus"),
        ("classifier", {"layers": 0}, "'layers' is 0; it must be positive"),
    ):
        path.write_text(yaml.safe_dump(values | {key: value}))
        with pytest.raises(ValueError, match=complaint) as error:
            load_classifier_recipe(path)
        assert str(path) in str(error.value)

"""A recipe for a classifier of phones, and the folder it makes."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wavestill.audio.corpus import Corpus
from wavestill.audio.labelled_phones import LabelledPhones, find_labelled_phones
from wavestill.audio.pseudo_phones import PseudoPhones, find_pseudo_phones
from wavestill.models.phone_classifier import PhoneClassifier, PhoneClassifierConfig
from wavestill.settings import plain_settings, read_settings, require_seed
from wavestill.training.config import TrainingConfig
from wavestill.training.model_folder import load_model, save_model
from wavestill.training.recipe import read_yaml

_KIND = "phone classifier"

_OF_THE_CORPUS = ("num_classes", "hop_samples", "sample_rate")


@dataclass(frozen=True)
class ClassifierRecipe:
    """What `wavestill fit` is told of a classifier of phones.

    The run's folder `out` then holds `training/` (figures, checkpoints) and `classifier/` (the
    model), which `objective.classifier` of a voice's recipe names.

    Arguments:
        corpus: A folder made by `wavestill prepare`, relative to where the command runs.
        out: Folder of the run.
        fit: How it is trained.
        classifier: Its shape; classes, hop and rate follow from the corpus.
        pseudo_phones: Clusters of mel-cepstra that stand for phones where there are no `labels`.
        labels: Folder of label files with times, `<clip id>.lab` or `<clip id>.TextGrid`.
        seed: Seed of clusters, weights and batches.
    """

    corpus: Path
    out: Path
    fit: TrainingConfig
    classifier: PhoneClassifierConfig = field(default_factory=PhoneClassifierConfig)
    pseudo_phones: int = 64
    labels: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self.seed)
        if self.pseudo_phones < 2:
            raise ValueError(f"'pseudo_phones' is {self.pseudo_phones}; give 2 or more")
        for name in _OF_THE_CORPUS:
            if getattr(self.classifier, name):
                raise ValueError(f"'classifier.{name}' follows from the corpus; leave it out")

    def labelling(self, corpus: Corpus) -> PseudoPhones | LabelledPhones:
        """The phones of the corpus, from its label files or by clustering.

        Raises:
            ValueError: If the label files cannot be read or name no phones, or there are too few
                frames to cluster.
        """
        clips = corpus.split("train")
        if self.labels is None:
            return find_pseudo_phones(clips, self.pseudo_phones, seed=self.seed)
        ids = (clips.entries[i].id for i in range(len(clips)))
        return find_labelled_phones(
            self.labels, ids, corpus.spec.hop_samples, corpus.spec.sample_rate
        )

    def build(self, corpus: Corpus, num_classes: int) -> PhoneClassifier:
        """The classifier, untrained."""
        spec = corpus.spec
        config = dataclasses.replace(
            self.classifier,
            num_classes=num_classes,
            hop_samples=spec.hop_samples,
            sample_rate=spec.sample_rate,
        )
        return PhoneClassifier(config)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the YAML file has them."""
        plain: dict[str, Any] = plain_settings(self)
        for name in _OF_THE_CORPUS:
            plain["classifier"].pop(name)
        return plain


def is_classifier_recipe(values: Mapping[str, Any]) -> bool:
    """Whether a recipe's plain values are of a classifier of phones, not of a voice."""
    return "classifier" in values or "pseudo_phones" in values


def load_classifier_recipe(path: Path | str) -> ClassifierRecipe:
    """Read a recipe for a classifier.

    Raises:
        ValueError: In one line and with the key's name, as `load_recipe`.
    """
    try:
        return read_settings(ClassifierRecipe, read_yaml(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def save_classifier(
    classifier: PhoneClassifier, path: Path, names: tuple[str, ...], measured: dict[str, Any]
) -> None:
    """Write a classifier; what stands in its place is replaced.

    Arguments:
        classifier: The model.
        path: The folder.
        names: What its classes are called.
        measured: Figures to keep with it.
    """
    config = {
        "classifier": plain_settings(classifier.config),
        "phones": list(names),
        "measured": measured,
    }
    save_model(classifier, path, _KIND, config)


def load_classifier(path: Path | str) -> PhoneClassifier:
    """The classifier of a folder that `wavestill fit` wrote, in eval mode; never unpickles.

    Raises:
        ValueError: In one line, if the folder holds none, or it is damaged.
    """
    return load_model(
        Path(path),
        _KIND,
        lambda config: PhoneClassifier(
            read_settings(PhoneClassifierConfig, config["classifier"], "classifier")
        ),
        remedy="; train one (wavestill fit recipes/phone_classifier_16k.yaml)",
    )

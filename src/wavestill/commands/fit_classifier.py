"""`wavestill fit` of a recipe for a classifier of phones."""

import math

import torch

from wavestill.audio import Corpus
from wavestill.audio.pseudo_phones import PseudoPhones
from wavestill.commands.fit import (
    ONE_OR_LAUNCHED,
    end_beside_the_first,
    figures_of_run,
    say_once,
)
from wavestill.commands.terminal import Outcome
from wavestill.training.classification import fit_classifier
from wavestill.training.classifier_recipe import ClassifierRecipe, save_classifier
from wavestill.training.hardware import Hardware


def fit_phone_classifier(
    recipe: ClassifierRecipe,
    *,
    resume: bool = False,
    allow_changes: bool = False,
    trainer: Hardware = ONE_OR_LAUNCHED,
) -> Outcome:
    """Train the phone classifier of a recipe that has been read.

    Arguments:
        recipe: The recipe; its 'out' folder gets training/ and classifier/.
        resume: As for `fit`.
        allow_changes: As for `fit`.
        trainer: As for `fit`.
    """
    corpus = Corpus(recipe.corpus)
    labelling = recipe.labelling(corpus)
    torch.manual_seed(recipe.seed)
    classifier = recipe.build(corpus, labelling.num_classes)
    num_parameters = sum(parameter.numel() for parameter in classifier.parameters())
    kind = "pseudo-phones" if isinstance(labelling, PseudoPhones) else "phones"
    say_once(
        f"classifier: {num_parameters:,} parameters for {labelling.num_classes} {kind}; hears "
        f"{classifier.receptive_field / corpus.spec.sample_rate:.2f} s; "
        f"{corpus.seconds('train') / 60:.1f} min of speech at {corpus.spec.sample_rate:,} Hz"
    )
    classifier, history = fit_classifier(
        classifier,
        corpus,
        labelling,
        config=recipe.fit,
        out=recipe.out / "training",
        resume=resume,
        allow_changes=allow_changes,
        trainer=trainer,
        seed=recipe.seed,
        recipe=recipe.to_dict(),
    )
    end_beside_the_first()
    names = ("nats", "accuracy", "valid_nats", "valid_accuracy")
    figures = {name: history.last(name) for name in names if not math.isnan(history.last(name))}
    figures |= figures_of_run(history)
    path = recipe.out / "classifier"
    save_classifier(classifier, path, labelling.names, figures)
    held_out = "valid_accuracy" in figures
    right = figures["valid_accuracy" if held_out else "accuracy"]
    speech = "held-out" if held_out else "training"
    say_once(
        f"classifier: {right:.1%} of the frames of {speech} speech "
        f"named right (by chance {1 / labelling.num_classes:.1%}), after {figures['steps']:,.0f} "
        f"steps in {figures['elapsed_s'] / 60:.1f} min; {path}"
    )
    return Outcome({"classifier": figures, "path": str(path)})

"""Training a classifier of phones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wavestill.audio.corpus import Clip, Clips, Corpus
from wavestill.models.phone_classifier import PhoneClassifier
from wavestill.settings import plain_settings
from wavestill.training.config import TrainingConfig
from wavestill.training.data import Batch, Reference, step_generator
from wavestill.training.folder import open_run
from wavestill.training.hardware import Hardware
from wavestill.training.history import History
from wavestill.training.module import Task
from wavestill.training.trainer import train

Labelling = Callable[[Clip], Tensor]
"""The class of every frame of a clip, `(F,)` whole numbers; below 0 where it is not known."""

_REFERENCE_CLIPS = 32


class PhoneClassification(Task):
    r"""A classifier in training by cross-entropy, over the frames whose phone is known.

    .. math:: L = -\mathrm{mean}_i \log p(k_i \mid i, x)
    """

    headline = "nats"
    model: PhoneClassifier

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Nats per frame, and the share of frames whose phone is the most probable."""
        figures = self.measure(batch)
        return figures["nats"], figures

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """The same figures; there is nothing to floor."""
        logits = self.model(batch.require_x()).flatten(0, 1).float()
        labels = batch.context.flatten()
        known = labels >= 0
        # a batch without a known frame teaches nothing, but must not divide by zero
        share = known.float() / known.sum().clamp_min(1)
        nats = F.cross_entropy(logits, labels.clamp_min(0), reduction="none")
        right = (logits.argmax(-1) == labels).float()
        return {"nats": (nats * share).sum(), "accuracy": (right * share).sum()}


class LabelledCrops:
    """Random crops of clips with the phones of their frames, by number.

    Arguments:
        clips: Where from; a clip is drawn in proportion to its length.
        labelling: The classes of a clip's frames.
        batch_size: Crops per batch.
        clip_samples: Samples per crop, rounded to whole frames; shorter clips are never drawn.
        seed: Of the choice.

    Raises:
        ValueError: If no clip is as long as a crop.
    """

    whole = False
    grid_nats = 0.0
    reads_files = True

    def __init__(
        self, clips: Clips, labelling: Labelling, batch_size: int, clip_samples: int, seed: int
    ) -> None:
        self.clips = clips
        self.labelling = labelling
        self.batch_size = batch_size
        self.seed = seed
        self.hop_samples = clips.spec.hop_samples
        self.clip_frames = max(1, round(clip_samples / self.hop_samples))
        self.clip_samples = self.clip_frames * self.hop_samples
        lengths = torch.from_numpy(clips.num_frames).double()
        self._weights = torch.where(lengths >= self.clip_frames, lengths, 0.0)
        if not bool(self._weights.any()):
            raise ValueError(
                f"'clip_samples' is {clip_samples} but the longest clip has "
                f"{int(lengths.max()) * self.hop_samples if len(clips) else 0}; set it lower"
            )

    def batch(self, step: int) -> Batch:
        """The batch of one step: crops `(B, T)`, and as their context the classes `(B, F)`."""
        generator = step_generator(self.seed, step)
        chosen = torch.multinomial(
            self._weights, self.batch_size, replacement=True, generator=generator
        )
        waves, labels = [], []
        for i in chosen.tolist():
            clip = self.clips[i]
            classes = self.labelling(clip)
            rest = len(clip.frames) - self.clip_frames
            first = int(torch.randint(rest + 1, (), generator=generator))
            last = first + self.clip_frames
            hop = self.hop_samples
            waves.append(torch.from_numpy(clip.wave[first * hop : last * hop]))
            labels.append(classes[first:last])
        x = torch.stack(waves)
        return Batch(x, torch.stack(labels), (x.shape[0], x.shape[1]))

    def reference(self, num_samples: int) -> Reference:
        """Clips from the front, to set the classifier's level by."""
        waves = [
            torch.from_numpy(self.clips[i].wave)
            for i in range(min(_REFERENCE_CLIPS, len(self.clips)))
        ]
        return Reference(torch.cat(waves)[:num_samples], None)


def fit_classifier(
    classifier: PhoneClassifier,
    corpus: Corpus,
    labelling: Labelling,
    *,
    config: TrainingConfig,
    out: Path | None = None,
    resume: bool = False,
    allow_changes: bool = False,
    trainer: Hardware | None = None,
    seed: int = 0,
    progress: bool | None = None,
    recipe: dict[str, Any] | None = None,
) -> tuple[PhoneClassifier, History]:
    """Train a classifier of phones; it ends with its averaged weights, in eval mode.

    Arguments:
        classifier: Trained in place.
        corpus: Its sounds; the `valid` split is measured on where there is one.
        labelling: The classes of a clip's frames: `PseudoPhones`, `LabelledPhones`, or any
            function of a `Clip` that gives whole numbers `(F,)`, below 0 for unknown ones.
        config: The run's settings.
        out: As for `fit`.
        resume: As for `fit`.
        allow_changes: As for `fit`.
        trainer: As for `fit`.
        seed: As for `fit`.
        progress: As for `fit`.
        recipe: As for `fit`.

    Returns:
        The classifier, and the figures of the run by step (`nats` and `accuracy` per frame;
        `valid_...` of held-out clips).

    Raises:
        ValueError: If the corpus is of another rate or hop than the classifier, or has no clip as
            long as a crop; and as `fit`.
    """
    spec, shape = corpus.spec, classifier.config
    if (spec.sample_rate, spec.hop_samples) != (shape.sample_rate, shape.hop_samples):
        raise ValueError(
            f"the classifier is of {shape.sample_rate} Hz and hop {shape.hop_samples} but the "
            f"corpus of {spec.sample_rate} Hz and {spec.hop_samples}; build it for this corpus"
        )
    crops = (labelling, config.batch_size, config.clip_samples)
    source = LabelledCrops(corpus.split("train"), *crops, seed)
    held_out = None
    if len(corpus.split("valid")):
        valid = LabelledCrops(corpus.split("valid"), *crops, seed + 1)
        num_batches = -(-config.validation_clips // config.batch_size)
        held_out = [valid.batch(step) for step in range(num_batches)]
    run = None
    if out is not None:
        settings = recipe if recipe is not None else plain_settings(config)
        run = open_run(out, settings, seed, resume=resume, allow_changes=allow_changes)
    if run is None or not run.has_begun:
        classifier.calibrate(source.reference(500_000).x)
    task = PhoneClassification(classifier, config, seed)
    history = train(
        *(task, source, held_out, run, None),
        title="classifier",
        criterion="valid_nats",
        progress=progress,
        hardware=trainer or Hardware(),
    )
    return classifier.eval(), history

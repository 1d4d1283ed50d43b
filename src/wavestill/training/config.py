"""The settings of one training run."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import torch


@dataclass(frozen=True)
class TrainingConfig:
    """How long, on what batches and with which optimiser a density is trained.

    The learning rate climbs linearly over `warmup_steps` and falls along a cosine to
    `final_rate_share` of its peak. The cosine follows the share of the run that is over: steps of
    `max_steps`, or elapsed time of `minutes`, whichever is further; the run ends when it reaches
    one. Elapsed time is stored in checkpoints, so a resumed run goes on where its budget stood.

    Arguments:
        max_steps: Optimiser steps; None: as many as `minutes` allow.
        minutes: Wall-clock budget in minutes, validation and checkpoints included; None: no limit.
        batch_size: Clips per step, of all processes together: how many processes share a step, and
            in how many parts it is computed, changes nothing in what is learnt.
        accumulate: Parts in which each process computes its share of a step, one after the other,
            the gradients summed: memory for a part, the step of the whole.
        clip_samples: Samples per clip; longer material is cropped at random, shorter sequences are
            used whole.
        skip_samples: Samples at the head of a crop that are left out of the likelihood, since
            their past was cut off; None: the model's receptive field, at most a quarter of the
            clip (0 for whole sequences).
        learning_rate: Peak learning rate of Adam.
        final_rate_share: Learning rate at the end as a share of the peak.
        warmup_steps: Steps of linear warm-up.
        betas: Adam's decay rates of the first and second moment.
        clip_norm: Largest gradient norm; longer gradients are shortened to it.
        averaging: Decay of the weights' exponential moving average, in [0, 1); it warms up as (1 +
            n) / (10 + n).
        chunk_samples: Likelihood of long clips piece by piece, so many samples at a time: the
            model's state is carried from piece to piece, gradients are summed over the clip but do
            not cross from a piece into the one before (truncated backpropagation through time).
            Memory then follows the piece, not the clip. None: clips whole.
        explosion: A gradient norm so many times the median of the last 100 is an accident, as one
            that is not finite: the step is skipped, counted and named.
        log_scale_min: Floor of log-scales in the likelihood loss, in nats of the unit-variance
            signal; None: no floor.
        precision: "bfloat16" runs the networks' matrix products in bfloat16 (heads stay in
            float32); "auto" does so where the processor has instructions for it.
        compile: Compile the networks' stacks with torch.compile: about a minute before the first
            step; its files are kept in the run's folder.
        log_every_steps: Steps between rows of metrics.csv.
        validate_every_steps: Steps between validations on held-out clips with averaged weights.
        validation_clips: Held-out clips per validation; the same ones each time.
        patience: Validations without improvement of the held-out estimate after which a run ends
            before its budget does; the averaged weights of the best validation are then kept,
            however the run ended. None: the whole budget, and the last averaged weights.
        checkpoint_minutes: Minutes between checkpoints.
        sound_minutes: Minutes between the sounds drawn from the averaged weights; None: none.
    """

    max_steps: int | None = None
    minutes: float | None = None
    batch_size: int = 4
    accumulate: int = 1
    clip_samples: int = 5000
    chunk_samples: int | None = None
    skip_samples: int | None = None
    learning_rate: float = 2e-3
    final_rate_share: float = 0.02
    warmup_steps: int = 100
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    explosion: float = 100.0
    averaging: float = 0.995
    log_scale_min: float | None = -9.0
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    compile: bool = False
    log_every_steps: int = 25
    validate_every_steps: int = 500
    validation_clips: int = 16
    patience: int | None = None
    checkpoint_minutes: float = 10.0
    sound_minutes: float | None = None

    def __post_init__(self) -> None:
        if self.max_steps is None and self.minutes is None:
            raise ValueError("neither 'max_steps' nor 'minutes' is given; set one (or both)")
        positive = (
            *("max_steps", "minutes", "batch_size", "clip_samples", "learning_rate", "clip_norm"),
            *("accumulate", "chunk_samples"),
            *(
                "log_every_steps",
                "validate_every_steps",
                "validation_clips",
                "patience",
                "checkpoint_minutes",
                "sound_minutes",
            ),
        )
        for name in positive:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"'{name}' is {value}; it must be positive")
        if self.compile and self.chunk_samples is not None:
            raise ValueError(
                f"'compile' is true and 'chunk_samples' {self.chunk_samples}: pieces with a "
                "carried state are not compiled; leave one of them out"
            )
        if self.explosion <= 1:
            raise ValueError(
                f"'explosion' is {self.explosion}; it is a factor on the usual gradient norm, "
                "well above 1"
            )
        if self.warmup_steps < 0:
            raise ValueError(f"'warmup_steps' is {self.warmup_steps}; it must be 0 or more")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"'betas' is {self.betas}; decay rates lie in [0, 1)")
        if not 0 <= self.averaging < 1:
            raise ValueError(f"'averaging' is {self.averaging}; a decay lies in [0, 1)")
        if not 0 <= self.final_rate_share <= 1:
            raise ValueError(
                f"'final_rate_share' is {self.final_rate_share}; a share lies in [0, 1]"
            )
        if self.skip_samples is not None and not 0 <= self.skip_samples < self.clip_samples:
            raise ValueError(
                f"'skip_samples' is {self.skip_samples} and 'clip_samples' {self.clip_samples}; "
                "skip fewer samples than a clip has"
            )


def in_bfloat16(precision: Literal["float32", "bfloat16", "auto"]) -> bool:
    """Whether to compute in bfloat16 on this machine."""
    if precision != "auto":
        return precision == "bfloat16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Torch tells this in private names only; where they are missing float32 is right, if slow.
    tellers = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in tellers)


def training_config(
    base: TrainingConfig | None, settings: dict[str, Any], defaults: dict[str, Any] | None = None
) -> TrainingConfig:
    """`base` with `settings` changed in it; without a base, `defaults` with them.

    Raises:
        ValueError: If a setting does not exist or has a value out of range.
    """
    names = [field.name for field in dataclasses.fields(TrainingConfig)]
    for name in settings:
        if name not in names:
            raise ValueError(
                f"no training setting is called '{name}'; there are {', '.join(names)}"
            )
    if base is None:
        defaults = dict(defaults or {})
        if settings.get("minutes") is not None:
            defaults.pop("max_steps", None)  # the clock alone is asked for
        return TrainingConfig(**(defaults | settings))
    return dataclasses.replace(base, **settings)


def vector_defaults(num_rows: int | None = None, *, num_dims: int = 2) -> dict[str, Any]:
    """What a run on vectors is set to where its caller says nothing.

    Arguments:
        num_rows: Rows there are to train on; None where they are drawn without end, by a student.
        num_dims: Values of a vector: a student of more has more to learn.
    """
    common = {
        "max_steps": 5000,
        "batch_size": 256,
        "validate_every_steps": 250,
        "validation_clips": 4096,
        "patience": 10,
    }
    if num_rows is None:
        max_steps = 12_000 if num_dims <= 4 else 24_000
        return {**common, "max_steps": max_steps, "learning_rate": 3e-3, "averaging": 0.998}
    return {**common, "batch_size": min(256, max(4, num_rows // 8))}

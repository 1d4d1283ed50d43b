"""What a call is given, made into what a run trains and validates on."""

from typing import Any, TypeVar

from torch import Tensor, nn

from wavestill.audio.corpus import Corpus
from wavestill.training.config import TrainingConfig, vector_defaults
from wavestill.training.data import (
    Batch,
    CorpusSource,
    Data,
    Rows,
    Source,
    TensorSource,
    rows_with_x,
    whole_batches,
)

HELD_OUT_SHARE = 0.1
"""Share of the rows that `fit` holds out for early stopping where no validation data are given."""


DataOrNone = TypeVar("DataOrNone", bound=Data | None)


def in_precision(data: DataOrNone, model: nn.Module) -> DataOrNone:
    """Tensors in the model's own precision."""
    dtype = next(model.parameters()).dtype

    def cast(part: Tensor | None) -> Tensor | None:
        return part.to(dtype) if part is not None and part.is_floating_point() else part

    if isinstance(data, tuple):
        return tuple(cast(part) for part in data)  # type: ignore[return-value]
    return data.to(dtype) if isinstance(data, Tensor) else data  # type: ignore[return-value]


def defaults_for(rows: Rows | None) -> dict[str, Any] | None:
    """Settings of a run on vectors; None where every run needs its own."""
    return vector_defaults(len(rows)) if rows is not None and rows.are_vectors else None


def hold_out(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Most of the rows, and a share of them to validate on."""
    if len(rows) < 2:
        raise ValueError(
            f"'patience' needs held-out material, and there is {len(rows)} sequence; "
            "give 'validation'"
        )
    return rows.split(max(1, round(HELD_OUT_SHARE * len(rows))), seed)


def source_of(data: Data, rows: Rows | None, config: TrainingConfig, seed: int) -> Source:
    """Batches to train on."""
    if isinstance(data, Corpus):
        return CorpusSource(data, "train", config.batch_size, config.clip_samples, seed)
    assert rows is not None
    return TensorSource(rows, config.batch_size, config.clip_samples, seed)


def fresh_batches(source: Source, config: TrainingConfig) -> list[Batch]:
    """Batches whose noise is no training step's: steps are seeded by large numbers only."""
    size = source.batch(0).shape[0]
    return [source.batch(step) for step in range(-(-config.validation_clips // size))]


def held_out_batches(
    data: Data,
    validation: Data | Rows | None,
    config: TrainingConfig,
    seed: int,
    skip_samples: int,
) -> list[Batch] | None:
    """Held-out batches; None where there are none longer than what is left out of the figures.

    Rows are taken whole and each once; crops of longer material at random.
    """
    size = min(config.batch_size, config.validation_clips)
    crops = {"clip_samples": config.clip_samples, "batch_size": size, "seed": seed + 1}
    if validation is None:
        if not isinstance(data, Corpus) or len(data.split("valid")) == 0:
            if config.patience is not None and isinstance(data, Corpus):
                raise ValueError(
                    "'patience' needs held-out material, and the corpus has no 'valid' split; "
                    "give 'validation'"
                )
            return None
        validation = data
    held_out: Source
    if isinstance(validation, Corpus):
        held_out = CorpusSource(validation, "valid", **crops)
    else:
        rows = validation if isinstance(validation, Rows) else rows_with_x(validation)
        held_out = TensorSource(rows, **crops)
        if held_out.whole:
            return whole_batches(rows, config.validation_clips)
    if held_out.clip_samples <= skip_samples:
        return None
    num_batches = -(-config.validation_clips // held_out.batch(0).shape[0])
    return [held_out.batch(step) for step in range(num_batches)]


def skipped_samples(config: TrainingConfig, model: nn.Module, source: Source) -> int:
    """Samples of a crop whose past was cut off; see `TrainingConfig.skip_samples`."""
    if source.whole:
        return 0
    if config.skip_samples is not None:
        return config.skip_samples
    reach = int(getattr(model, "receptive_field", 0))
    return min(reach, source.clip_samples // 4)

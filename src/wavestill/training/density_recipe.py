"""A recipe for a density of vectors: what `wavestill fit` makes of a table of rows."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from wavestill.models.made import MADE, MADEConfig
from wavestill.models.nade import NADE, NADEConfig
from wavestill.models.rnade import RNADE, RNADEConfig
from wavestill.settings import plain_settings, read_settings, require_seed
from wavestill.training.config import TrainingConfig
from wavestill.training.recipe import read_yaml
from wavestill.training.tables import Table, load_table

MODELS: dict[str, tuple[Any, Any]] = {
    "nade": (NADEConfig, NADE),
    "rnade": (RNADEConfig, RNADE),
    "made": (MADEConfig, MADE),
}
"""Shape and class of each model, by the name that recipes call it."""


@dataclass(frozen=True)
class DensityRecipe:
    """What `wavestill fit` is told of a density of vectors.

    The run's folder `out` then holds `training/` (figures, checkpoints) and `density/` (the
    model). Just one of the models is given; its `num_dims` follows from the data.

    Arguments:
        data: An .npz file with the arrays train, valid and test, relative to where the command
            runs.
        out: Folder of the run.
        fit: How it is trained. Batch size and validation follow from the number of rows where
            they are left out (`settings_for`).
        seed: Seed of weights and batches.
        nade: Shape of a NADE, of bits.
        rnade: Shape of an RNADE, of real values.
        made: Shape of a MADE, of either.
    """

    data: Path
    out: Path
    fit: TrainingConfig
    seed: int = 0
    nade: NADEConfig | None = None
    rnade: RNADEConfig | None = None
    made: MADEConfig | None = None

    def __post_init__(self) -> None:
        require_seed(self.seed)
        given = [name for name in MODELS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"the recipe has {' and '.join(given) or 'no model'}; "
                f"give just one of {', '.join(MODELS)}"
            )
        config = getattr(self, given[0])
        if config.num_dims or config.num_context:
            raise ValueError(
                f"'{given[0]}' has 'num_dims' {config.num_dims} and 'num_context' "
                f"{config.num_context}; leave them out: they follow from the data"
            )

    @property
    def model_name(self) -> str:
        """Which of the models it is."""
        return next(name for name in MODELS if getattr(self, name) is not None)

    def build(self, num_dims: int) -> nn.Module:
        """The model for vectors of so many dimensions.

        Raises:
            ValueError: If its shape is out of range.
        """
        config = dataclasses.replace(getattr(self, self.model_name), num_dims=num_dims)
        _, kind = MODELS[self.model_name]
        model: nn.Module = kind(config)
        return model

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the YAML file has them."""
        plain: dict[str, Any] = plain_settings(self)
        plain = {key: value for key, value in plain.items() if value is not None}
        for name in ("num_dims", "num_context"):
            plain[self.model_name].pop(name)
        return plain


def settings_for(table: Table) -> dict[str, Any]:
    """What follows from the number of rows: steps are many, validations one or two epochs apart.

    A batch is a fortieth of the rows, between 20 and 100: few rows are soon learned by heart, and
    then need steps small enough to stop between; many rows gain from less noise.
    """
    num_rows = table.train.shape[0]
    batch_size = min(100, max(20, num_rows // 40))
    return {
        "batch_size": batch_size,
        "clip_samples": table.num_dims,  # whole rows
        "validation_clips": table.valid.shape[0],
        "validate_every_steps": min(1000, max(50, 2 * num_rows // batch_size)),
    }


def is_density_recipe(values: dict[str, Any]) -> bool:
    """Whether a recipe's plain values are of a density of vectors, not of a voice."""
    return "corpus" not in values and ("data" in values or any(name in values for name in MODELS))


def load_density_recipe(
    path: Path | str, *, data: Path | None = None, out: Path | None = None
) -> tuple[DensityRecipe, Table]:
    """Read a recipe and its data.

    Arguments:
        path: The recipe.
        data: Takes the place of the recipe's data; the run's folder then is named after it too.
        out: Takes the place of the recipe's folder.

    Raises:
        ValueError: In one line and with the key's name, as `load_recipe`; or if the data are not
            what the recipe's model takes.
    """
    values = dict(read_yaml(path))
    if data is not None:
        values["data"] = data
        if "out" in values:
            values["out"] = f"{values['out']}_{data.stem}"
    if out is not None:
        values["out"] = out
    try:
        # once without the data, to complain of the recipe first
        fit = values.get("fit")
        read_settings(DensityRecipe, values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    table = load_table(values["data"])
    if isinstance(fit, dict):
        values["fit"] = settings_for(table) | fit
    recipe = read_settings(DensityRecipe, values)
    if recipe.nade is not None or (recipe.made is not None and recipe.made.head == "bernoulli"):
        table.require_binary()
    return recipe, table

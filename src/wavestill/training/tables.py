"""Vectors to learn from: `train`, `valid` and `test` arrays in one .npz file."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Table:
    """Rows of one data set, split.

    Arguments:
        train: Rows to learn from, `(N, D)`, float32.
        valid: Rows that say when to stop, `(M, D)`.
        test: Rows that nothing is chosen by, `(K, D)`.
    """

    train: Tensor
    valid: Tensor
    test: Tensor

    @property
    def num_dims(self) -> int:
        """Values of a row."""
        return self.train.shape[1]

    def require_binary(self) -> None:
        """Check that all values are 0 or 1.

        Raises:
            ValueError: If one is not.
        """
        for name in SPLITS:
            rows: Tensor = getattr(self, name)
            others = rows[(rows != 0) & (rows != 1)]
            if len(others):
                raise ValueError(
                    f"'{name}' holds {float(others[0]):g} but a density of bits takes 0 and 1; "
                    "binarise the data, or train an 'rnade' on real values"
                )


def load_table(path: Path | str) -> Table:
    """Read a data set.

    Arguments:
        path: An .npz file with the arrays `train`, `valid` and `test`, `(rows, values)` each, of
            numbers or truth values.

    Raises:
        ValueError: In one line, if the file is missing or no .npz, an array is missing, is not a
            matrix of finite numbers or has no rows, or their widths differ.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no data at '{path}'")
    try:
        if not zipfile.is_zipfile(path):  # numpy would ask to unpickle it
            raise zipfile.BadZipFile
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            missing = [name for name in SPLITS if name not in file.files]
            if missing:
                raise ValueError(
                    f"it has no '{missing[0]}' but {', '.join(file.files) or 'nothing'}; "
                    "give the arrays 'train', 'valid' and 'test'"
                )
            splits = {name: _rows(name, file[name]) for name in SPLITS}
    except (OSError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        # what lies in an archive beside arrays is read as bytes, and fails only afterwards
        raise ValueError(
            f"'{path}' is no .npz file of arrays; write one with numpy.savez"
        ) from error
    except ValueError as error:
        raise ValueError(f"'{path}': {' '.join(str(error).split())}") from error
    widths = {name: rows.shape[1] for name, rows in splits.items()}
    if len(set(widths.values())) > 1:
        told = ", ".join(f"'{name}' {width}" for name, width in widths.items())
        raise ValueError(f"'{path}': the rows differ in length: {told}; give all the same")
    return Table(**splits)


def _rows(name: str, array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> Tensor:
    """A matrix of finite numbers as float32."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"'{name}' holds {array.dtype}; give numbers")
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"'{name}' has the shape {array.shape}; give (rows, values)")
    rows = torch.from_numpy(array.astype(np.float32))
    if not bool(torch.isfinite(rows).all()):
        raise ValueError(f"'{name}' holds values that are not finite; remove their rows")
    return rows

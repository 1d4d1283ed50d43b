"""The figures of a run, row by row, in memory and in metrics.csv."""

import csv
import io
import math
from pathlib import Path


class History:
    """Rows of figures, each with its `step`; kept in a CSV file too where there is one.

    Arguments:
        path: The CSV file; None: in memory only. Rows that stand there already are read.

    Example:
        >>> history = History()
        >>> history.append({"step": 10.0, "nats": 7.5})
        >>> history.append({"step": 20.0, "nats": 7.0, "valid_nats": 7.1})
        >>> history.column("nats"), history.last("valid_nats")
        ([7.5, 7.0], 7.1)
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._columns: list[str] = []
        if path is not None and path.exists():
            try:
                self._read(path)
            except (ValueError, TypeError, csv.Error) as error:
                raise ValueError(
                    f"'{path}' is damaged ({error}); remove it to go on without its figures"
                ) from error

    def _read(self, path: Path) -> None:
        text = path.read_bytes().decode("utf-8")
        whole = text[: text.rfind("\n") + 1]  # a run killed while writing leaves part of a line
        reader = csv.DictReader(io.StringIO(whole, newline=""))
        self._columns = list(reader.fieldnames or [])
        self.rows = [
            {name: float(value) for name, value in row.items() if value not in ("", None)}
            for row in reader
        ]
        if any("step" not in row for row in self.rows):
            raise ValueError("a row has no 'step'")

    def append(self, row: dict[str, float]) -> None:
        """Add a row; columns not seen before are added to the file."""
        self.rows.append(row)
        new = [name for name in row if name not in self._columns]
        self._columns += new
        if self.path is None:
            return
        if new:
            self._write()
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                self._writer(file).writerow(_rounded(row))

    def forget_after(self, step: int) -> None:
        """Drop the rows of steps after `step`: a resumed run writes them again."""
        self.rows = [row for row in self.rows if row["step"] <= step]
        if self.path is not None:
            self._write()

    def column(self, name: str) -> list[float]:
        """The values of one column, rows without it left out."""
        return [row[name] for row in self.rows if name in row]

    def last(self, name: str) -> float:
        """The newest value of one column; NaN if there is none."""
        values = self.column(name)
        return values[-1] if values else math.nan

    def _write(self) -> None:
        assert self.path is not None
        file = io.StringIO(newline="")
        writer = self._writer(file)
        writer.writeheader()
        writer.writerows(_rounded(row) for row in self.rows)
        write_whole(self.path, file.getvalue())

    def _writer(self, file: io.TextIOBase) -> "csv.DictWriter[str]":
        return csv.DictWriter(file, self._columns)


def write_whole(path: Path, text: str) -> None:
    """Write a file beside its place and move it there: it is never half written."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(text.encode("utf-8"))  # as it is: a table has its own line ends
    partial.replace(path)


def _rounded(row: dict[str, float]) -> dict[str, str]:
    # nine digits keep a float32 exactly
    return {name: f"{value:.9g}" for name, value in row.items()}

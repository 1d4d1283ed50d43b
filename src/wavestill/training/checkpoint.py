"""Checkpoints as files: written whole or not at all, checked before they are believed.

    checkpoints/
      last.ckpt       the newest state
      previous.ckpt   the one before it

A checkpoint is a zip archive with a CRC-32 of every part, which is compared before anything of it
is used: a file that was cut off, or rotted, is known for it. Nothing in it is unpickled but
tensors and plain values (`weights_only=True`).
"""

import io
import os
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

_PARTS = ("pytorch-lightning_version", "state_dict", "optimizer_states", "callbacks")


@dataclass(frozen=True)
class CheckpointFiles:
    """Where a run's checkpoints are.

    Arguments:
        folder: The folder they are in.
    """

    folder: Path

    @property
    def last(self) -> Path:
        """The newest state."""
        return self.folder / "last.ckpt"

    @property
    def previous(self) -> Path:
        """The state before it."""
        return self.folder / "previous.ckpt"

    @property
    def existing(self) -> list[Path]:
        """Those that are there, the newest first."""
        return [path for path in (self.last, self.previous) if path.exists()]


class WholeFiles(CheckpointIO):
    """Lightning's way to checkpoint files, made safe; see `write_checkpoint`."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Write one; the file that stood there becomes `previous.ckpt`."""
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: object = None,
        weights_only: bool | None = None,  # noqa: FBT001  (the interface's)
    ) -> dict[str, Any]:
        """Read one; whatever is asked for, nothing but weights and plain values."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove one."""
        Path(path).unlink(missing_ok=True)


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint beside its place, then move it there; what stood there is kept as well.

    A process that is killed at any moment leaves the newest whole state as `last.ckpt`, or as
    `previous.ckpt` if that was between the two moves.

    Raises:
        ValueError: If the disk is full or the file cannot be written; what stood there stays.
    """
    partial = path.with_suffix(".partial")
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    try:
        with partial.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            path.replace(path.with_name("previous.ckpt"))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ValueError(
            f"'{path}' could not be written ({error.strerror or error}); the checkpoint before it "
            "is as it was: make room, then go on with --resume"
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, tensors on the CPU.

    Raises:
        ValueError: In one line, if it is damaged, no checkpoint of a run, or holds anything but
            tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of its part '{damaged}' is wrong")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        for part in _PARTS:
            state[part]
        int(state["global_step"])
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"'{path}' is no checkpoint of a run: it holds more than tensors and plain values, "
            "and was not unpickled"
        ) from error
    except Exception as error:  # torch's own unpickler fails on rubbish in any way there is
        reason = " ".join(str(error).split())[:100] or "empty"
        raise ValueError(f"'{path}' is damaged, or no checkpoint of a run ({reason})") from error
    return state

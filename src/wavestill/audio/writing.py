"""Writing a corpus whole or not at all, and never over anything else."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float32, Int16

from wavestill.audio.corpus import FORMAT, FORMAT_VERSION, INDEX_FILE, ClipEntry, read_index
from wavestill.audio.mel import MelSpec
from wavestill.audio.splits import SPLITS

_OWN_FILES = {INDEX_FILE} | {
    f"{split}_{kind}.npy" for split in SPLITS for kind in ("audio", "frames")
}


def require_replaceable(out: Path, source: Path, spec: MelSpec) -> None:
    """Refuse a folder whose replacement would lose anything.

    Raises:
        ValueError: If `out` is neither absent, empty, nor a corpus of this source and spec and
            nothing else.
    """
    if not out.exists():
        return
    remedy = "choose another folder, or remove this one"
    if not out.is_dir():
        raise ValueError(f"{out}: is a file; {remedy}")
    files = {path.name for path in out.iterdir()}
    if not files:
        return
    if foreign := sorted(files - _OWN_FILES):
        raise ValueError(f"{out}: holds {foreign[0]!r}, which 'prepare' did not make; {remedy}")
    index = read_index(out)
    if index.get("source") != str(source.resolve()):
        raise ValueError(
            f"{out}: holds a corpus of {index.get('source')}, not of {source.resolve()}; {remedy}"
        )
    try:
        spec.require_same(MelSpec.from_dict(index["spec"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{out}: holds a corpus with {error}, or {remedy}") from error


class CorpusWriter:
    """Clips go in one by one; `finish` sorts them into splits and puts the folder in its place.

    Until then everything is in a hidden folder beside it, which vanishes if the `with` block is
    left early. Clips are spooled in the order they come, since splits are decided only once it is
    known which recordings are usable.

    Arguments:
        out: The corpus to make or replace.
        spec: How its frames are made.
    """

    def __init__(self, out: Path, spec: MelSpec) -> None:
        self.out = out
        self.spec = spec
        self.entries: list[ClipEntry] = []
        self._partial = out.parent / f".{out.name}.partial-{os.getpid()}"

    def __enter__(self) -> "CorpusWriter":
        self._partial.mkdir(parents=True)
        self._audio = (self._partial / "audio.spool").open("wb")
        self._frames = (self._partial / "frames.spool").open("wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._audio.close()
        self._frames.close()
        shutil.rmtree(self._partial, ignore_errors=True)

    def add(
        self, entry: ClipEntry, audio: Int16[np.ndarray, " T"], frames: Float32[np.ndarray, "F C"]
    ) -> None:
        """Take one clip; its split and place are filled in by `finish`."""
        self._audio.write(audio.tobytes())
        self._frames.write(frames.tobytes())
        self.entries.append(entry)

    def sort(self, splits: Sequence[str]) -> list[ClipEntry]:
        """Copy the clips into two arrays per split; returns their final entries."""
        self._audio.close()
        self._frames.close()
        hop, width = self.spec.hop_samples, self.spec.num_features
        audio_path, frames_path = (
            self._partial / name for name in ("audio.spool", "frames.spool")
        )
        audio = np.memmap(audio_path, np.int16, "r")
        frames = np.memmap(frames_path, np.float32, "r").reshape(-1, width)
        counts = [entry.num_frames for entry in self.entries]
        firsts = np.cumsum([0, *counts])
        placed = []
        for split in SPLITS:
            chosen = [i for i, name in enumerate(splits) if name == split]
            total = sum(counts[i] for i in chosen)
            audio_out = self._new_array(f"{split}_audio.npy", np.int16, (total * hop,))
            frames_out = self._new_array(f"{split}_frames.npy", np.float32, (total, width))
            position = 0
            for i in chosen:
                first, end = firsts[i], position + counts[i]
                audio_out[position * hop : end * hop] = audio[first * hop : firsts[i + 1] * hop]
                frames_out[position:end] = frames[first : firsts[i + 1]]
                placed.append(replace(self.entries[i], split=split, offset_samples=position * hop))
                position = end
        audio_path.unlink()
        frames_path.unlink()
        return placed

    def _new_array(self, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
        path = self._partial / name
        if 0 in shape:  # nothing to map
            np.save(path, np.empty(shape, dtype))
            return np.empty(shape, dtype)
        return np.lib.format.open_memmap(path, "w+", dtype, shape)

    def finish(
        self, entries: Sequence[ClipEntry], header: dict[str, Any], report: dict[str, Any]
    ) -> None:
        """Write the index and put the folder in place; an old one is kept until that is done."""
        index = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **header,
            "spec": self.spec.to_dict(),
            "speakers": sorted({entry.speaker for entry in entries if entry.speaker is not None}),
            "clips": [asdict(entry) for entry in entries],
            "report": report,
        }
        text = json.dumps(index, indent=1, ensure_ascii=False) + "\n"
        (self._partial / INDEX_FILE).write_text(text, encoding="utf-8")
        if not self.out.exists():
            self._partial.rename(self.out)
            return
        old = self.out.parent / f".{self.out.name}.old-{os.getpid()}"
        self.out.rename(old)
        self._partial.rename(self.out)
        shutil.rmtree(old)

"""What an interrupted preparation has done so far, so that the next one goes on from there."""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from wavestill.audio.recordings import Recording

if sys.platform != "win32":
    import fcntl

SETTINGS_FILE = "settings.json"
JOURNAL_FILE = "journal.jsonl"
STATE_FILES = (SETTINGS_FILE, JOURNAL_FILE)

_FORMAT = "wavestill preparation"


@dataclass(frozen=True)
class Done:
    """A line of the journal: a recording that is in the shards, or skipped.

    Arguments:
        recording: Digest of what was known of it, its file's size and time included.
        skipped: Why it is left out; None for a clip, of which the rest tells.
        prompt: What must not be in two splits.
        num_frames: Its length.
        gain_db: What it was raised by.
        notes: What was converted.
        audio_crc32: Checksum of its samples.
        frames_crc32: Checksum of its frames.
        shard_crc32: Checksums of the samples and the frames of its shard up to its own end.
    """

    recording: str
    skipped: str | None = None
    prompt: str = ""
    num_frames: int = 0
    gain_db: float = 0.0
    notes: tuple[str, ...] = ()
    audio_crc32: int = 0
    frames_crc32: int = 0
    shard_crc32: tuple[int, int] = (0, 0)


class Journal:
    """The settings of a preparation and a line per recording done, in the source's order.

    Arguments:
        folder: Where the corpus is being made.
        settings: What decides every byte of it; compared with those found there.

    Raises:
        ValueError: If the folder holds another preparation, one that runs now, or something else.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{folder}: cannot be made ({error.strerror or error})") from error
        path = folder / JOURNAL_FILE
        if not path.exists() and any(folder.iterdir()):
            raise ValueError(
                f"{folder}: holds something that 'prepare' did not make, where it keeps a "
                "corpus in the making; move it away or choose another folder"
            )
        self._file: IO[bytes] = path.open("a+b")
        try:
            _lock(self._file, folder)
            _require_settings(folder, settings)
        except ValueError:
            self._file.close()
            raise

    def resume(self, recordings: Sequence[Recording]) -> list[Done]:
        """The lines that still hold: as long as recording follows recording as it did."""
        self._file.seek(0)
        done, end = [], 0
        for line, recording in zip(self._file, recordings, strict=False):
            entry = _parse(line)
            if entry is None or entry.recording != digest(recording):
                break
            done.append(entry)
            end += len(line)
        self._file.truncate(end)
        return done

    def keep(self, entries: Sequence[Done]) -> None:
        """Keep these lines only."""
        self._file.truncate(0)
        for entry in entries:
            self._write(entry)
        self._file.flush()

    def add(self, entry: Done) -> None:
        """Write a line; what it tells of must be in the shards' files already."""
        self._write(entry)
        self._file.flush()

    def sync(self) -> None:
        """Have the lines on the disk before anything relies on them."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file and let go of the lock; the lines stay."""
        self._file.close()

    def _write(self, entry: Done) -> None:
        line = json.dumps(asdict(entry), ensure_ascii=True, separators=(",", ":"))
        self._file.write(line.encode() + b"\n")


def digest(recording: Recording) -> str:
    """Changes with anything that is known of a recording, and with its file."""
    stamps = []
    for path in (recording.path, recording.labels):
        try:
            stat = path.stat() if path is not None else None
        except OSError:
            stat = None
        stamps.append((stat.st_size, stat.st_mtime_ns) if stat else None)
    known = repr((tuple(map(str, recording)), stamps))
    return hashlib.blake2b(known.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _parse(line: bytes) -> Done | None:
    if not line.endswith(b"\n"):  # cut short by a kill
        return None
    try:
        facts = json.loads(line)
        tuples = {name: tuple(facts[name]) for name in ("notes", "shard_crc32")}
        return Done(**{**facts, **tuples})
    except (ValueError, TypeError, KeyError):
        return None


def _require_settings(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / SETTINGS_FILE
    wanted = {"format": _FORMAT, **settings}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        fresh.replace(path)
        return
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error}); remove {folder} to begin anew") from error
    found = found if isinstance(found, dict) else {}
    differing = [
        f"{name} {found.get(name)!r}, now {wanted.get(name)!r}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
    if differing:
        raise ValueError(
            f"{folder}: a preparation begun with {', '.join(differing)}; give the same again to "
            "go on, or remove this folder to begin anew"
        )


def _lock(file: IO[bytes], folder: Path) -> None:
    """One process at a time; the lock goes with the process, however it ends."""
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"{folder}: another 'prepare' is making this corpus now; wait for it"
        ) from None
    except OSError:  # a file system without locks
        return

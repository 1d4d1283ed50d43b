"""Finding a corpus's recordings: five layouts, and what in them cannot be used."""

from pathlib import Path

from wavestill.audio.files import SOUND_SUFFIXES
from wavestill.audio.label_files import LabelFinder
from wavestill.audio.recordings import Layout, Recording, Skipped
from wavestill.audio.speech_corpora import find_libritts, find_vctk

UNREAD_SUFFIXES = (".m4a", ".aac", ".wma", ".opus", ".aiff", ".aif", ".au", ".raw", ".pcm")
"""Sounds in a plain folder that are named as skipped rather than passed over like a text file."""

_SOUND_FOLDERS = ("flac", "wavs", "wav", ".")


def find_recordings(source: Path) -> Layout:
    """List a corpus by the first layout that fits.

    - `metadata.psv`: a header `id|...` of any columns, of which `text`, `split` and `speaker` are
      used; sounds in `flac/`, `wavs/`, `wav/` or beside it.
    - `ljspeech`: `metadata.csv` with rows `id|text|normalised text`, no header, and `wavs/`.
    - `vctk`, `libritts`: as published (`speech_corpora`).
    - `folder`: every WAV, FLAC, Ogg and MP3 file below; no texts.

    Label files of any layout are found by `label_files.LabelFinder`.

    Raises:
        ValueError: If `source` is no folder, its metadata cannot be read, or it holds no
            recordings.
    """
    if not source.is_dir():
        raise ValueError(
            f"{source}: {'not a folder' if source.exists() else 'no such folder'}; "
            "give a folder of recordings"
        )
    if (source / "metadata.psv").is_file():
        layout = _find_psv(source)
    elif (source / "metadata.csv").is_file() and (source / "wavs").is_dir():
        layout = _find_ljspeech(source)
    else:
        layout = find_vctk(source) or find_libritts(source) or _find_folder(source)
    if not layout.recordings:
        first = (
            f"; the first: {layout.skipped[0].source}: {layout.skipped[0].reason}"
            if layout.skipped
            else ""
        )
        raise ValueError(
            f"{source}: holds no recordings ({', '.join(SOUND_SUFFIXES)}; "
            f"{len(layout.skipped)} skipped{first})"
        )
    finder = LabelFinder(source)
    recordings = [
        recording._replace(labels=finder.find(recording)) for recording in layout.recordings
    ]
    return layout._replace(recordings=recordings)


def _find_psv(source: Path) -> Layout:
    metadata = source / "metadata.psv"
    lines = _read_lines(metadata)
    columns = [cell.strip() for cell in lines[0][1].split("|")] if lines else []
    if "id" not in columns:
        raise ValueError(f"{metadata}: its first line must name the columns, 'id' among them")
    rows: list[tuple[int, dict[str, str]]] = []
    skipped = []
    for number, line in lines[1:]:
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == len(columns):
            rows.append((number, dict(zip(columns, cells, strict=True))))
        else:
            reason = f"has {len(cells)} cells, its header {len(columns)}"
            skipped.append(Skipped(f"metadata.psv line {number}", reason))
    return _listed(source, "metadata.psv", rows, skipped)


def _find_ljspeech(source: Path) -> Layout:
    rows: list[tuple[int, dict[str, str]]] = []
    skipped = []
    for number, line in _read_lines(source / "metadata.csv"):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) in (2, 3):
            rows.append((number, {"id": cells[0], "text": cells[-1] or cells[1]}))
        else:
            reason = f"has {len(cells)} cells; LJSpeech's have 3 (id|text|normalised text)"
            skipped.append(Skipped(f"metadata.csv line {number}", reason))
    return _listed(source, "ljspeech", rows, skipped)


def _listed(
    source: Path, name: str, rows: list[tuple[int, dict[str, str]]], skipped: list[Skipped]
) -> Layout:
    """Recordings of metadata rows: each row needs a file of its own, and each file a row."""
    metadata = "metadata.csv" if name == "ljspeech" else "metadata.psv"
    folders = ("wavs",) if name == "ljspeech" else _SOUND_FOLDERS
    recordings: dict[str, Recording] = {}
    for number, row in rows:
        id_ = row["id"]
        candidates = [
            source / folder / (id_ + suffix) for folder in folders for suffix in SOUND_SUFFIXES
        ]
        path = next((path for path in candidates if _is_file(path)), None)
        if not id_:
            skipped.append(Skipped(f"{metadata} line {number}", "has no id"))
        elif Path(id_).is_absolute() or ".." in Path(id_).parts:
            skipped.append(
                Skipped(f"{metadata} line {number}", f"its id {id_} leads out of the folder")
            )
        elif id_ in recordings:
            skipped.append(Skipped(f"{metadata} line {number}", f"a second row of id {id_}"))
        elif path is None:
            skipped.append(
                Skipped(f"{metadata} line {number}", f"no sound file of id {id_} is there")
            )
        else:
            split = row["split"] or "train" if "split" in row else None
            speaker = row["speaker"] or "unnamed" if "speaker" in row else None
            recordings[id_] = Recording(id_, path, row.get("text") or None, split, speaker)
    known = {recording.path for recording in recordings.values()}
    for path in sorted(path for folder in folders for path in (source / folder).glob("*")):
        if path.suffix.lower() in SOUND_SUFFIXES and path not in known:
            skipped.append(Skipped(str(path.relative_to(source)), f"not listed in {metadata}"))
    return Layout(name, list(recordings.values()), skipped)


def _find_folder(source: Path) -> Layout:
    recordings: dict[str, Recording] = {}
    skipped = []
    for path in sorted(source.rglob("*")):
        suffix = path.suffix.lower()
        if path.is_dir():
            continue
        name = path.relative_to(source)
        if suffix in SOUND_SUFFIXES and not str(name).isprintable():
            # an index could not hold it, nor a line of the report
            reason = "its name holds a control character or is not UTF-8; rename it"
            skipped.append(Skipped(ascii(str(name))[1:-1], reason))
        elif suffix in SOUND_SUFFIXES:
            id_ = name.with_suffix("").as_posix()
            if id_ in recordings:  # the same name under two suffixes
                id_ = name.as_posix()
            recordings[id_] = Recording(id_, path)
        elif suffix in UNREAD_SUFFIXES:
            skipped.append(Skipped(str(name), f"{suffix} is not read; convert it to WAV or FLAC"))
    return Layout("folder", list(recordings.values()), skipped)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long to be one
        return False


def _read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start:,}; convert it") from error
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]

"""Two corpora of many speakers as they are published: VCTK and LibriTTS."""

import re
from pathlib import Path

from wavestill.audio.files import SOUND_SUFFIXES
from wavestill.audio.recordings import Layout, Recording, Skipped

VCTK_FOLDERS = ("wav48_silence_trimmed", "wav48")

_VCTK_NAME = re.compile(r"(?P<id>(?P<speaker>[a-z]\d+)_\d+)(?:_(?P<microphone>mic[12]))?")
_SUBSET_NAME = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")


def find_vctk(source: Path) -> Layout | None:
    """VCTK 0.92 (`wav48_silence_trimmed/p225/p225_001_mic1.flac`) or 0.80 (`wav48/`); else None.

    Texts are in `txt/p225/p225_001.txt`. Of two microphones the first is used, the other's takes
    of the same sentences are left out (p280 and p315 have none). p315 has no texts: its recordings
    are kept, each as a prompt of its own. VCTK has no splits.

    References:
        | Yamagishi, Veaux and MacDonald, CSTR VCTK Corpus 0.92 (2019), README,
          https://datashare.ed.ac.uk/handle/10283/3443
    """
    root = next((source / name for name in VCTK_FOLDERS if (source / name).is_dir()), None)
    if root is None:
        return None
    recordings: dict[str, Recording] = {}
    skipped: list[Skipped] = []
    seconds: list[tuple[str, Path]] = []
    for path in _sounds(root, "*/*"):
        match = _VCTK_NAME.fullmatch(path.stem)
        name = path.relative_to(source).as_posix()
        if match is None or match["speaker"] != path.parent.name:
            skipped.append(Skipped(name, "not named as VCTK names its recordings"))
        elif match["microphone"] == "mic2":
            seconds.append((match["id"], path))
        elif match["id"] in recordings:
            skipped.append(Skipped(name, f"a second recording of id {match['id']}"))
        else:
            text = _read_text(source / "txt" / match["speaker"] / f"{match['id']}.txt")
            recordings[match["id"]] = Recording(match["id"], path, text, speaker=match["speaker"])
    if not recordings:
        return None
    num_doubles = 0
    for id_, path in seconds:
        if id_ in recordings:
            num_doubles += 1
        else:
            name = path.relative_to(source).as_posix()
            skipped.append(Skipped(name, "only the second microphone's take is there"))
    if num_doubles:
        reason = f"{num_doubles:,} takes by the second microphone, of recordings that are used"
        skipped.append(Skipped(f"{root.name}/*_mic2", reason))
    return Layout("vctk", list(recordings.values()), skipped, _without_text(recordings))


def find_libritts(source: Path) -> Layout | None:
    """LibriTTS (`train-clean-100/103/1241/103_1241_000000_000001.wav`), whole or some subsets.

    Texts are the `.normalized.txt` beside. Subsets named `dev` and `test` are the splits valid and
    test; where all are of one kind nothing is said of splits.

    References:
        | Zen et al., "LibriTTS" (2019), section 3, https://arxiv.org/abs/1904.02882
    """
    candidates = [source, *sorted(source.iterdir())]
    subsets = [path for path in candidates if _SUBSET_NAME.fullmatch(path.name)]
    found = [(subset, _sounds(subset, "*/*/*")) for subset in subsets]
    kinds = {subset.name.split("-")[0] for subset, paths in found if paths}
    if not kinds:
        return None
    recordings: dict[str, Recording] = {}
    skipped: list[Skipped] = []
    for subset, paths in found:
        split = subset.name.split("-")[0] if len(kinds) > 1 else None
        for path in paths:
            if path.stem in recordings:
                name = path.relative_to(source).as_posix()
                skipped.append(Skipped(name, f"a second recording of id {path.stem}"))
                continue
            text = _read_text(path.with_suffix(".normalized.txt"))
            speaker = path.parent.parent.name
            recordings[path.stem] = Recording(path.stem, path, text, split, speaker)
    return Layout("libritts", list(recordings.values()), skipped, _without_text(recordings))


def _sounds(root: Path, pattern: str) -> list[Path]:
    return sorted(path for path in root.glob(pattern) if path.suffix.lower() in SOUND_SUFFIXES)


def _read_text(path: Path) -> str | None:
    """One transcript; None where it is missing, empty or not readable."""
    try:
        return " ".join(path.read_text(encoding="utf-8-sig").split()) or None
    except (OSError, UnicodeDecodeError):
        return None


def _without_text(recordings: dict[str, Recording]) -> tuple[str, ...]:
    """A note on each speaker some of whose recordings have no text."""
    missing: dict[str, int] = {}
    for recording in recordings.values():
        if recording.text is None:
            speaker = str(recording.speaker)
            missing[speaker] = missing.get(speaker, 0) + 1
    return tuple(
        f"{speaker}: {count:,} recordings without a text, each a prompt of its own"
        for speaker, count in missing.items()
    )

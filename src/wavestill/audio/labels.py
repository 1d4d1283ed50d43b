"""Time-stamped phones from label files: HTK and Festival `.lab`, Praat TextGrid."""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

LABEL_SUFFIXES = (".lab", ".TextGrid")

SILENCE = "sil"
"""What is said where nothing is labelled."""

MAX_SECONDS = 3600.0
"""Longer label files are not of one utterance."""

_MAX_BYTES = 1 << 24
_HTK_UNIT_S = 1e-7
_ROUNDING_S = 1e-4
"""Neighbours whose times differ by less were meant to meet: writers round."""

# p1^p2-p3+p4=p5 with @, / or : after it (HTS), or p2-p3+p4 (HTK): the phone is between - and +
_FULL_CONTEXT = re.compile(r"[^\^]+\^[^-]+-(?P<phone>[^+]+)\+[^=]+=[^@/:]+(?:[@/:].*)?")
_TRIPHONE = re.compile(r"(?:[^-+]+-)?(?P<phone>[^-+]+)(?:\+[^-+]+)?")
_STATE = re.compile(r"(?P<name>.+)\[(?P<number>\d+)\]")


class Label(NamedTuple):
    """A phone and when it is said.

    Arguments:
        start_s: Its beginning in seconds.
        end_s: Its end in seconds, after `start_s`.
        phone: Its name.
    """

    start_s: float
    end_s: float
    phone: str


def read_labels(path: Path | str, *, tier: str = "phones") -> tuple[Label, ...]:
    """Read one utterance's phones.

    - HTK `.lab`: lines `start end name ...` in units of 100 ns. Of full-context names
      (`p1^p2-p3+p4=p5@...`) and triphones (`a-b+c`) the phone is taken, since its neighbours are
      in the lines before and after; the states of a phone (`name[2]`, `name[3]`, ...) are joined.
    - Festival and ESPS `.lab`: a header up to a line `#`, then lines `end colour name` in seconds.
    - Praat `.TextGrid`, long or short, UTF-8 or UTF-16: the interval tier of the name given.

    What is left unlabelled between phones, and empty intervals, are `SILENCE`.

    Arguments:
        path: The file.
        tier: Name of a TextGrid's tier, in any case of letters.

    Raises:
        ValueError: In one line, with file and line number, if the file cannot be read, is none of
            these, or its times do not ascend.
    """
    path = Path(path)
    text = _text(path)
    if "ooTextFile" in text[:200] or path.suffix.lower() == ".textgrid":
        found = _read_textgrid(path, text, tier)
    elif any(line.strip() == "#" for line in text.splitlines()):
        found = _read_festival(path, text)
    else:
        found = _read_htk(path, text)
    labels = tuple(_contiguous(path, found))
    if not labels:
        raise ValueError(f"{path}: holds no labels")
    return labels


def labels_beside(path: Path) -> Path | None:
    """The label file of a recording: of the same name but for the suffix, in the same folder."""
    beside = (path.with_suffix(suffix) for suffix in LABEL_SUFFIXES)
    return next((found for found in beside if found.is_file()), None)


class _Line(NamedTuple):
    """A label with the line it stands in."""

    number: int
    label: Label


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"{path}: larger than 16 MiB; give one file per utterance")
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error
    is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        kind = "UTF-16" if is_utf16 else "UTF-8"
        raise ValueError(f"{path}: not {kind} at byte {error.start:,}; convert it") from error


def _read_htk(path: Path, text: str) -> Iterator[_Line]:
    if text.startswith("#!MLF!#"):
        raise ValueError(f"{path}: a master label file; split it into one file per utterance")
    before: re.Match[str] | None = None
    kept: _Line | None = None
    for number, line in _lines(text):
        cells = line.split()
        if len(cells) < 3 or not (_is_whole(cells[0]) and _is_whole(cells[1])):
            raise ValueError(
                f"{path} line {number}: '{_short(line)}' is not 'start end phone' in whole units "
                "of 100 ns (HTK); labels in seconds have a '#' line before them (Festival)"
            )
        state = _STATE.fullmatch(cells[2])
        name = cells[2] if state is None else state["name"]
        start_s, end_s = (float(cell) * _HTK_UNIT_S for cell in cells[:2])
        if kept is not None and _goes_on(before, state):
            # one phone, of which this is a later state
            kept = _Line(kept.number, kept.label._replace(end_s=end_s))
        else:
            if kept is not None:
                yield kept
            kept = _Line(number, Label(start_s, end_s, _phone(name)))
        before = state
    if kept is not None:
        yield kept


def _goes_on(before: re.Match[str] | None, here: re.Match[str] | None) -> bool:
    return (
        before is not None
        and here is not None
        and before["name"] == here["name"]
        and int(before["number"][-9:]) < int(here["number"][-9:])
    )


def _phone(name: str) -> str:
    found = _FULL_CONTEXT.fullmatch(name) or _TRIPHONE.fullmatch(name)
    return name if found is None else found["phone"]


def _read_festival(path: Path, text: str) -> Iterator[_Line]:
    is_header, start_s = True, 0.0
    for number, line in _lines(text):
        if is_header:
            is_header = line.strip() != "#"
            continue
        cells = line.split(None, 2)
        if len(cells) < 3:
            raise ValueError(
                f"{path} line {number}: '{_short(line)}' is not 'end colour phone' (Festival)"
            )
        end_s = _seconds(path, number, cells[0])
        yield _Line(number, Label(start_s, end_s, cells[2].split(";")[0].strip() or SILENCE))
        start_s = end_s


class _Token(NamedTuple):
    """A free-standing number, string or flag of a Praat file; everything else is comment."""

    line: int
    value: str
    is_string: bool


_TOKEN = re.compile(r'"(?:[^"]|"")*"|<[^>\s]*>|![^\n]*|\S+')
_NUMBER = re.compile(r"[-+]?\d{1,30}(?:\.\d*)?(?:[eE][-+]?\d{1,3})?")


def _tokens(text: str) -> Iterator[_Token]:
    number, seen = 1, 0
    for found in _TOKEN.finditer(text):
        number += text.count("\n", seen, found.start())
        seen, token = found.start(), found.group()
        if token.startswith('"') and token.endswith('"') and len(token) > 1:
            yield _Token(number, token[1:-1].replace('""', '"'), is_string=True)
        elif token.startswith("<") or _NUMBER.fullmatch(token):
            yield _Token(number, token, is_string=False)


class _Praat:
    """The values of a Praat file, one after the other.

    Arguments:
        path: The file, for messages.
        text: What is in it.
    """

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._tokens = _tokens(text)
        self.line = 1

    def string(self) -> str:
        """The next value, a string."""
        return self._next("a text in quotes", lambda token: token.is_string)

    def seconds(self) -> float:
        """The next value, a time."""
        return _seconds(self._path, self.line, self._number())

    def count(self) -> int:
        """The next value, a whole number."""
        value = self._number()
        if not value.isdecimal():
            raise ValueError(f"{self._path} line {self.line}: '{value}' is no number of items")
        return int(value)

    def flag(self) -> str:
        """The next value, a flag such as `<exists>`."""
        return self._next("a flag", lambda token: token.value.startswith("<"))

    def _number(self) -> str:
        return self._next(
            "a number", lambda token: not token.is_string and not token.value.startswith("<")
        )

    def _next(self, wanted: str, fits: Callable[[_Token], bool]) -> str:
        token = next(self._tokens, None)
        if token is None:
            raise ValueError(
                f"{self._path} line {self.line}: the file ends where {wanted} must stand; it is "
                "truncated or no TextGrid"
            )
        self.line = token.line
        if not fits(token):
            raise ValueError(
                f"{self._path} line {token.line}: '{_short(token.value)}' stands where {wanted} "
                "must; it is no TextGrid in text form"
            )
        return token.value


def _read_textgrid(path: Path, text: str, tier: str) -> Iterator[_Line]:
    praat = _Praat(path, text)
    if (kind := [praat.string(), praat.string()]) != ["ooTextFile", "TextGrid"]:
        raise ValueError(f"{path} line {praat.line}: holds '{_short(kind[1])}', not a TextGrid")
    praat.seconds()
    praat.seconds()
    if praat.flag() != "<exists>":
        raise ValueError(f"{path}: has no tiers")
    names = []
    for _ in range(praat.count()):
        is_of_intervals = praat.string() == "IntervalTier"
        names.append(praat.string())
        praat.seconds()
        praat.seconds()
        is_wanted = is_of_intervals and names[-1].strip().casefold() == tier.strip().casefold()
        for _ in range(praat.count()):
            start_s = praat.seconds()
            line = praat.line
            end_s = praat.seconds() if is_of_intervals else start_s
            phone = praat.string().strip()
            if is_wanted:
                yield _Line(line, Label(start_s, end_s, phone or SILENCE))
        if is_wanted:
            return
    listed = ", ".join(f"'{_short(name)}'" for name in names[:20]) or "none"
    raise ValueError(f"{path}: has no interval tier '{tier}'; its tiers: {listed}")


def _contiguous(path: Path, lines: Iterator[_Line]) -> Iterator[Label]:
    """The labels from 0 on, with silence in the gaps; times must ascend."""
    before_s = 0.0
    for number, label in lines:
        start_s = before_s if abs(label.start_s - before_s) < _ROUNDING_S else label.start_s
        if start_s < before_s:
            raise ValueError(
                f"{path} line {number}: '{_short(label.phone)}' begins at {label.start_s:g} s, "
                f"before the one above ends ({before_s:g} s)"
            )
        if label.end_s <= start_s:
            raise ValueError(
                f"{path} line {number}: '{_short(label.phone)}' ends at {label.end_s:g} s but "
                f"begins at {start_s:g} s"
            )
        if label.end_s > MAX_SECONDS:
            raise ValueError(
                f"{path} line {number}: ends at {label.end_s:g} s, after more than "
                f"{MAX_SECONDS:g} s; give one file per utterance"
            )
        if not label.phone.isprintable():
            raise ValueError(f"{path} line {number}: a phone's name holds a control character")
        if start_s > before_s:
            yield Label(before_s, start_s, SILENCE)
        yield Label(start_s, label.end_s, label.phone)
        before_s = label.end_s


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    return ((n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip())


def _is_whole(cell: str) -> bool:
    return cell.isascii() and cell.isdecimal() and len(cell) < 20


def _seconds(path: Path, number: int, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{path} line {number}: '{_short(cell)}' is no time in seconds")
    return value


def _short(text: str) -> str:
    """A piece of a file that is fit for a message of one line."""
    text = "".join(char if char.isprintable() else " " for char in text).strip()
    return text if len(text) <= 60 else f"{text[:60]} ..."

"""Label files of every kind say the same; damaged ones are refused in one line."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wavestill.audio.labels import SILENCE, Label, read_labels

EXPECTED = ((0.0, 0.1, "sil"), (0.1, 0.25, "k"), (0.25, 0.4, "ae"), (0.4, 0.5, "t"))

HTK = "0 1000000 sil\n1000000 2500000 k\n2500000 4000000 ae\n4000000 5000000 t\n"
HTK_WITH_GAP = "1000000 2500000 k -12.5 cat\n2500000 4000000 ae -3\n4000000 5000000 t 1\n"
FULL_CONTEXT = (
    "0 1000000 x^x-sil+k=ae@x_x/A:0_0_0/B:x-x-x\n"
    "1000000 2500000 x^sil-k+ae=t@1_3/A:0_0_0/B:1-1-3\n"
    "2500000 4000000 sil^k-ae+t=x@2_2/A:0_0_0/B:1-1-3\n"
    "4000000 5000000 k^ae-t+x=x@3_1/A:0_0_0/B:1-1-3\n"
)
STATES = (
    "0 1000000 sil[2]\n1000000 1500000 sil-k+ae[2]\n1500000 2500000 sil-k+ae[3]\n"
    "2500000 3000000 k-ae+t[2]\n3000000 4000000 k-ae+t[4]\n4000000 5000000 ae-t[2]\n"
)
FESTIVAL = "separator ;\nnfields 1\n#\n0.1 26 sil\n0.25 26 k\n0.4 26 ae ; 1.2\n0.5 26 t\n"


def textgrid(*, is_long: bool, phones: str = "phones") -> str:
    """The labels as a TextGrid with a tier of words and one of points before the phones."""
    tiers = [
        ("IntervalTier", "words", [(0.0, 0.1, ""), (0.1, 0.5, 'the "cat" 9 [2]:\nit is')]),
        ("TextTier", "clicks", [(0.2, None, "click")]),
        ("IntervalTier", phones, [(a, b, "" if p == "sil" else p) for a, b, p in EXPECTED]),
    ]
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", "xmax = 0.5", "tiers? <exists> ", f"size = {len(tiers)} ", "item []: "]
    for i, (kind, name, items) in enumerate(tiers, 1):
        lines += [f"    item [{i}]:", f'        class = "{kind}" ', f'        name = "{name}" ']
        lines += [
            "        xmin = 0",
            "        xmax = 0.5",
            f"        intervals: size = {len(items)}",
        ]
        for k, (start, end, text) in enumerate(items, 1):
            quoted = '"' + text.replace('"', '""') + '"'
            lines += [f"        intervals [{k}]:", f"            xmin = {start}"]
            lines += [] if end is None else [f"            xmax = {end}"]
            lines += [f"            text = {quoted} ! 7 of them"]
    if is_long:
        return "\n".join(lines) + "\n"
    values = re.findall(r'"(?:[^"]|"")*"|<exists>|(?<=[=] )[\d.]+', "\n".join(lines))
    return "\n".join(values) + "\n"


GOOD: dict[str, tuple[str, bytes]] = {
    "htk": (".lab", HTK.encode()),
    "htk with a gap": (".lab", HTK_WITH_GAP.encode()),
    "htk of windows": (".lab", b"\xef\xbb\xbf" + HTK.replace("\n", "\r\n").encode()),
    "full context": (".lab", FULL_CONTEXT.encode()),
    "states": (".lab", STATES.encode()),
    "festival": (".lab", FESTIVAL.encode()),
    "textgrid": (".TextGrid", textgrid(is_long=True).encode()),
    "short textgrid": (".TextGrid", textgrid(is_long=False).encode()),
    "utf-16": (".TextGrid", textgrid(is_long=True).encode("utf-16")),
    "utf-16 big-endian": (".textgrid", b"\xfe\xff" + textgrid(is_long=False).encode("utf-16-be")),
    "tier of other case": (".TextGrid", textgrid(is_long=True, phones="Phones ").encode()),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_form_says_the_same(name: str, tmp_path: Path) -> None:
    suffix, data = GOOD[name]
    path = tmp_path / f"cat{suffix}"
    path.write_bytes(data)
    labels = read_labels(path)
    assert [label.phone for label in labels] == [phone for *_, phone in EXPECTED]
    for label, (start_s, end_s, _) in zip(labels, EXPECTED, strict=True):
        assert label[:2] == pytest.approx((start_s, end_s))


BAD: dict[str, tuple[str, bytes, str]] = {
    "empty": (".lab", b"", "holds no labels"),
    "not utf-8": (".lab", b"0 1 \xff", "not UTF-8 at byte 4"),
    "seconds without a header": (".lab", b"0.0 0.1 sil\n", "line 1: '0.0 0.1 sil' is not 'start"),
    "a cell too few": (".lab", b"0 10 a\n10 20\n", "line 2: '10 20' is not"),
    "backwards": (".lab", b"0 2000000 a\n0 3000000 b\n", "line 2: 'b' begins at 0 s, before"),
    "nothing long": (".lab", b"0 2000000 a\n2000000 2000000 b", "line 2: 'b' ends at 0.2 s but"),
    "a day": (".lab", b"0 864000000000 a\n", "line 1: ends at 86400 s, after more"),
    "many files": (".lab", b'#!MLF!#\n"a.lab"\n', "a master label file"),
    "no number": (".lab", b"#\nnan 26 a\n", "line 2: 'nan' is no time"),
    "festival's cell": (".lab", b"#\n0.1 a\n", "line 2: '0.1 a' is not 'end colour phone'"),
    "control": (".lab", b"0 10000 a\x07b\n", "line 1: a phone's name holds a control"),
    "other object": (".TextGrid", b'"ooTextFile"\n"Pitch 1"\n', "line 2: holds 'Pitch 1', not"),
    "truncated": (
        ".TextGrid",
        textgrid(is_long=False)[:120].encode(),
        "the file ends where .* must stand",
    ),
    "other tier": (
        ".TextGrid",
        textgrid(is_long=True, phones="segments").encode(),
        "no interval tier 'phones'; its tiers: 'words', 'clicks', 'segments'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_damaged_is_named_with_its_line(name: str, tmp_path: Path) -> None:
    suffix, data, message = BAD[name]
    path = tmp_path / f"cat{suffix}"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_labels(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_tier_may_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "cat.TextGrid"
    path.write_text(textgrid(is_long=True).replace("\nit is", ""))
    assert [x.phone for x in read_labels(path, tier="WORDS")] == [SILENCE, 'the "cat" 9 [2]:']


def _require_sound(path: Path) -> None:
    """Either labels that ascend from 0 without gaps, or one line."""
    said = ""
    try:
        labels = read_labels(path)
    except ValueError as error:
        said = str(error)
    if said:
        assert said.isprintable()
        assert said.startswith(str(path))
        return
    ends = [0.0, *(label.end_s for label in labels)]
    assert [label.start_s for label in labels] == ends[:-1]
    assert all(isinstance(x, Label) and x.start_s < x.end_s and x.phone for x in labels)


FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(data=st.binary(max_size=200), suffix=st.sampled_from([".lab", ".TextGrid"]))
def test_any_bytes_are_labels_or_one_line(data: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"fuzz{suffix}"
    path.write_bytes(data)
    _require_sound(path)


@FUZZ
@given(
    name=st.sampled_from(list(GOOD)),
    position=st.floats(0, 1),
    cut=st.integers(0, 30),
    piece=st.text(max_size=8) | st.sampled_from(["-1", "1e999", "9" * 40, "nan", '"', "#\n", "-"]),
)
def test_damage_in_a_good_file_is_found_or_harmless(
    name: str, position: float, cut: int, piece: str, tmp_path: Path
) -> None:
    suffix, data = GOOD[name]
    at = round(position * len(data))
    path = tmp_path / f"fuzz{suffix}"
    path.write_bytes(data[:at] + piece.encode("utf-8", "replace") + data[at + cut :])
    _require_sound(path)

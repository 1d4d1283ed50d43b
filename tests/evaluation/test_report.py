import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from wavestill.evaluation import ClipSounds, curves, pictures, tables, write_report
from wavestill.evaluation.figures import figure
from wavestill.evaluation.report import Lead

from .conftest import voice_like

RESULTS = {
    "machine": {"processor": "abacus", "cores": 2, "torch_threads": 2},
    "version": "0.1.0",
    "commit": "0123456789ab",
    "data": {
        "split": "test",
        "num_clips": 2,
        "seconds": 3.2,
        "sample_rate_hz": 8000,
        "harmonicity": 0.8,
    },
    "teacher": {"nll_nats_per_sample": 6.2314, "nll_nats_per_sample_standard_error": 0.043},
    "student": {
        "kl_nats_per_sample": 0.1934,
        "kl_nats_per_sample_standard_error": 0.0071,
        "kl_floor_nats_per_sample": 0.011,
        "tv_per_step": 0.16,
        "std_over_data": 0.5,
    },
    "speed": {
        "naive": {"samples_per_second": 61.0, "times_real_time": 61 / 8000},
        "cached": {"samples_per_second": 1740.0, "times_real_time": 1740 / 8000},
        "student": {"samples_per_second": 164000.0, "times_real_time": 20.5},
    },
    "quality": {
        "teacher": {"mcd_db": 2.1, "pesq": 3.0, "harmonicity": 0.7},
        "student": {"mcd_db": 3.2, "harmonicity": 0.95},
        "griffin_lim": {"mcd_db": 1.0, "pesq": 3.4, "harmonicity": 0.74},
    },
    "notes": ["student: pesq has no value on 2 of 2 clips (silent)."],
    "known_truth": {
        "entropy_rate_nats": -1.2,
        "true_nll_nats_per_sample": -1.201,
        "teacher_nll_nats_per_sample": -1.2005,
        "teacher_tolerance_nats": 0.003,
        "student_kl_nats_per_sample": 0.004,
        "student_tolerance_nats": 0.002,
    },
}


def clip(name="one", text="a <script>alert(1)</script> & b", seconds=0.5):
    wave = voice_like(seconds, seed=3)
    sounds = {
        "recording": wave,
        "teacher": 0.5 * wave,
        "student": 0 * wave,
        "griffin_lim": 30 * wave,
    }
    return ClipSounds(name, text, sounds)


class Page(HTMLParser):
    """Tags with their attributes, text, and whether every tag was closed."""

    VOID = frozenset({"meta", "link", "img", "input", "br", "path"})

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def run_metrics(tmp_path):
    for run, column in (("teacher", "nats"), ("student", "kl_nats")):
        rows = [
            f"{step},{3 / (1 + step)},{'' if step % 2 else 4 / (1 + step)}" for step in range(10)
        ]
        (tmp_path / f"{run}.csv").write_text(
            f"step,{column},valid_{column}\n" + "\n".join([*rows, "10,nan,"])
        )
    return {run: tmp_path / f"{run}.csv" for run in ("teacher", "student")}


@pytest.fixture
def html(tmp_path, run_metrics):
    path = tmp_path / "new" / "report.html"
    write_report(
        path, RESULTS, [clip()], 8000, metrics=run_metrics, commands=["wavestill demo --out 'a&b'"]
    )
    return path.read_text(encoding="utf-8")


def test_nothing_is_fetched(html):
    page = Page(html)
    assert page.open == []
    addresses = [
        attributes[name]
        for _, attributes in page.tags
        for name in ("src", "href")
        if name in attributes
    ]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"https?://|url\(|@import", html)


def test_everything_has_a_name_for_those_who_do_not_see_it(html):
    page = Page(html)
    assert page.all("html") == [{"lang": "en"}]
    assert all(len(image["alt"]) > 20 for image in page.all("img"))
    named = [*page.all("button"), *page.all("input")]
    assert len(named) == 8
    assert len({attributes["aria-label"] for attributes in named}) == 8
    assert all("aria-label" in svg or svg.get("aria-hidden") == "true" for svg in page.all("svg"))
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {
        attributes["aria-labelledby"]
        for _, attributes in page.tags
        if "aria-labelledby" in attributes
    } <= targets
    assert "prefers-color-scheme: dark" in html


def test_headline_and_commands(html):
    page = Page(html)
    assert "94 times" in page.text
    assert "0.193 ± 0.007" in page.text
    assert "wavestill demo --out 'a&b'" in page.text
    assert "6.0 dB quieter" in page.text
    assert "0123456789ab" in page.text


def test_text_of_a_corpus_stays_text(html):
    page = Page(html)
    assert len(page.all("script")) == 1
    assert "a <script>alert(1)</script> & b" in page.text


def test_the_sounds_are_in_it_bit_for_bit(html):
    sounds = [
        soundfile.read(io.BytesIO(base64.b64decode(attributes["src"].split(",")[1])))
        for attributes in Page(html).all("audio")
    ]
    expected = clip().sounds
    assert [rate for _, rate in sounds] == [8000] * 4
    for (x, _), wave in zip(sounds, expected.values(), strict=True):
        assert np.abs(x - np.clip(wave, -1, 1 - 2**-15)).max() <= 2**-15


def test_known_truth_says_what_is_within_and_what_is_beyond(html):
    text = Page(html).text
    verdicts = [row["verdict"] for row in tables.known_truth_table(RESULTS["known_truth"])["rows"]]
    assert verdicts == ["", "✓ within", "✗ beyond"]
    assert text.index("✓ within") < text.index("✗ beyond")
    assert "+0.00050" in text
    assert "−1.20100" in text


@pytest.mark.parametrize("left_out", [*RESULTS, "everything"])
def test_any_part_may_be_missing(tmp_path, left_out):
    results = (
        {} if left_out == "everything" else {k: v for k, v in RESULTS.items() if k != left_out}
    )
    write_report(tmp_path / "report.html", results)
    assert Page((tmp_path / "report.html").read_text(encoding="utf-8")).open == []


def test_a_page_does_not_grow_without_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("wavestill.evaluation.report._MAX_CHARACTERS", 100_000)
    write_report(tmp_path / "report.html", RESULTS, [clip(str(i)) for i in range(9)], 8000)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    shown = html.count("<article")
    assert 1 <= shown < 9
    assert f"{9 - shown} more clips were measured" in html


def test_curves_leave_out_what_is_empty_or_not_finite(run_metrics):
    found = curves.read_curves(run_metrics["teacher"])
    assert set(found) == {"nats", "valid_nats"}
    assert found["valid_nats"][0].tolist() == [0, 2, 4, 6, 8]
    assert len(found["nats"][0]) == 10


def test_the_best_of_a_column_is_the_nearest_to_its_aim():
    quality = tables.quality_table(RESULTS)
    best = {
        column.key: [row["system"] for row in quality["rows"] if row["cells"][i]["best"]]
        for i, column in enumerate(quality["columns"])
    }
    assert best == {
        "mcd_db": ["griffin_lim"],
        "pesq": ["griffin_lim"],
        "harmonicity": ["griffin_lim"],
    }


def test_speeds_are_compared_with_the_slowest_way():
    rows = tables.speed_table(RESULTS["speed"])["rows"]
    assert [row["ratio"] for row in rows] == ["1", "28.5", "2,690"]
    assert [row["width"] for row in rows] == sorted(row["width"] for row in rows)
    assert all(0 < row["width"] < 100 for row in rows)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (6.4921, 0.0312, "6.49 ± 0.03"),
        (6.4921, 0.0132, "6.492 ± 0.013"),
        (1234.5, 61.0, "1,234 ± 61"),
        (0.25, 0.0, "0.25"),
        (0.0, None, "0"),
        (-0.00123, None, "-0.00123"),
        (999.6, None, "1,000"),
        (164000.0, None, "164,000"),
    ],
)
def test_figures_bear_as_many_digits_as_their_error(value, error, text):
    assert figure(value, error) == text


@pytest.mark.parametrize("num_samples", [1, 100, 399, 400, 8000])
def test_pictures_of_any_length(num_samples):
    wave = voice_like(1.0, seed=0)[:num_samples]
    decibels = pictures.spectrogram_db(wave, 8000)
    assert np.isfinite(decibels).all()
    assert pictures.spectrogram_png(decibels, float(decibels.max())).startswith(b"\x89PNG")
    path = pictures.waveform_path(wave, 0.1)
    assert "nan" not in path
    assert len(re.findall(r"[\d.]+,[\d.]+", path)) == 800


def test_a_louder_picture_is_brighter_under_the_same_limits():
    from PIL import Image

    wave = voice_like(1.0, seed=0)
    top_db = float(pictures.spectrogram_db(wave, 8000).max())
    loud, quiet = (
        np.asarray(
            Image.open(
                io.BytesIO(
                    pictures.spectrogram_png(pictures.spectrogram_db(g * wave, 8000), top_db)
                )
            ).convert("L")
        ).mean()
        for g in (1.0, 0.1)
    )
    assert loud > quiet + 10


def test_a_report_may_open_with_another_voice(tmp_path):
    lead = Lead("The voice at hand", "As it came.", [clip("other", None)], 16000)
    write_report(tmp_path / "report.html", RESULTS, [clip()], 8000, lead=lead)
    page = Page((tmp_path / "report.html").read_text())
    assert page.text.index("The voice at hand") < page.text.index("Listen")
    assert len(page.all("audio")) == 8
    tops = {re.search(r"0 to (\d+) kHz", image["alt"])[1] for image in page.all("img")}
    assert tops == {"4", "8"}
    ids = [tag["id"] for _, tag in page.tags if "id" in tag]
    assert len(ids) == len(set(ids))

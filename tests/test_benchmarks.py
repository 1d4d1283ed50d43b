"""The scripts around the measure: peers in turns, failures named, the page complete."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from wavestill import cli

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parent.parent

FAKE_WORKER = """
import json, sys
log, name, *answers = sys.argv[1:]
about = {"parameters": 7, "sample_rate_hz": 8000, "num_samples": 16000, "versions": {name: "1"}}
print(json.dumps(about), flush=True)
for line in sys.stdin:
    open(log, "a").write(name)
    if not answers:
        sys.exit("out of breath")
    print(answers.pop(0), flush=True)
"""


@pytest.fixture(scope="module")
def peers():
    return runpy.run_path(str(ROOT / "benchmarks" / "peers.py"))


def fake(peers, tmp_path, name, *answers, ours=False):
    script = tmp_path / "worker.py"
    script.write_text(FAKE_WORKER)
    command = [sys.executable, str(script), str(tmp_path / "log"), name, *map(str, answers)]
    return peers["Entrant"](name.upper(), "float32", command, ours=ours)


def test_entrants_take_turns_and_ratios_are_of_medians(peers, tmp_path):
    entrants = {
        "a": fake(peers, tmp_path, "a", 1.0, 8.0, 2.0),
        "b": fake(peers, tmp_path, "b", 0.5, 0.5, 0.5, ours=True),
    }
    skipped = {}
    figures = peers["compete"](entrants, 1, 3, skipped)
    assert (tmp_path / "log").read_text() == "ababab"
    assert figures["entrants"]["a"]["times_real_time"] == 1.0  # 2 s of sound in 2 s
    assert figures["entrants"]["a"]["times_real_time_min"] == 0.25
    assert figures["entrants"]["a"]["times_real_time_max"] == 2.0
    assert figures["ratios"] == {"b": {"a": 4.0}}
    assert skipped == {}


def test_an_entrant_that_fails_is_named_with_its_reason(peers, tmp_path):
    entrants = {
        "absent": peers["Entrant"]("X", "float32", [sys.executable, "-c", "import not_there"]),
        "tired": fake(peers, tmp_path, "t", 1.0),
        "fit": fake(peers, tmp_path, "f", 1.0, 1.0),
    }
    skipped = {}
    figures = peers["compete"](entrants, 1, 2, skipped)
    assert set(figures["entrants"]) == {"fit"}
    assert "No module named 'not_there'" in skipped["absent"]
    assert skipped["tired"] == "out of breath"


def test_an_environment_is_made_once(peers, tmp_path, monkeypatch):
    monkeypatch.setattr(peers["venv"], "create", lambda *_, **__: pytest.fail("made again"))
    made = tmp_path / "vocos" / "made_with.json"
    made.parent.mkdir()
    made.write_text(json.dumps(peers["INSTALLS"]["vocos"]))
    assert tmp_path in peers["prepare"](tmp_path / "vocos", "vocos").parents


def test_a_full_disk_makes_no_environment(peers, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(peers["shutil"], "disk_usage", lambda _: usage)
    with pytest.raises(peers["Unavailable"], match="free"):
        peers["prepare"](tmp_path / "vocos", "vocos")


def test_the_page_is_written_from_the_figures(peers, voice_path, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    bench, competition, docs = tmp_path / "b.json", tmp_path / "p.json", tmp_path / "docs"
    arguments = ["--samplers", "cached,speculative,student", "--seconds", "0.01", "--repeats", "1"]
    assert cli.run(["bench", str(voice_path), *arguments, "--json", str(bench)]) == 0
    figures = json.loads(bench.read_text())
    skipped = {"absent": "no such package"}
    entrants = {
        "a": fake(peers, tmp_path, "a", 1.0),
        "b": fake(peers, tmp_path, "b", 0.5, ours=True),
    }
    settings = {"threads": 1, "rounds": 1, "seconds": 2.0}
    head = {key: figures[key] for key in ("machine", "version", "commit", "date", "command")}
    result = peers["compete"](entrants, 1, 1, skipped)
    competition.write_text(
        json.dumps({**head, "settings": settings, **result, "skipped": skipped})
    )
    script = str(ROOT / "scripts" / "write_benchmarks.py")
    files = [str(bench), "--voices", str(bench), "--peers", str(competition), "--docs", str(docs)]
    monkeypatch.setattr(sys, "argv", [script, *files, "--note", "Read with care."])
    runpy.run_path(script, run_name="__main__")
    page = (docs / "benchmarks.md").read_text()
    for own in figures["samplers"].values():
        assert f"| {own['label']} |" in page
    assert re.search(r"\| A \| float32 \| 7 \| 2 \(2 – 2\) \| 2 \|", page)
    assert "absent (no such package)" in page
    assert "samples per round" in page
    assert page.endswith("Read with care.\n")
    [picture] = re.findall(r"\]\((.+\.png)\)", page)
    assert (docs / picture).stat().st_size > 10_000
    for rows in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):  # tables are rectangular
        assert len({row.count("|") for row in rows.splitlines()}) == 1

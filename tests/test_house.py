"""The house stands: modules import alone, arrows point one way, files are short, pins agree."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wavestill

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "wavestill"
SOURCES = sorted(PACKAGE.rglob("*.py"))
LINES_MAX = 400
MATHS = {
    "density",
    "distributions",
    "divergences",
    "nn",
    "models",
    "sampling",
    "distillation",
}
MATHS_MAY_IMPORT = {
    "torch",
    "numpy",
    "jaxtyping",
    "typing_extensions",
    "zuko",
    *sys.stdlib_module_names,
}
NOT_MATHS = {
    *("logging", "argparse"),
    *("lightning", "pytorch_lightning", "jsonargparse", "yaml", "rich", "tensorboard"),
    *("soundfile", "soxr", "librosa", "pyworld", "matplotlib", "jinja2", "scipy"),
    *("huggingface_hub", "onnx", "onnxruntime"),
    *("wavestill.audio", "wavestill.training", "wavestill.evaluation", "wavestill.publish"),
    *("wavestill.serving", "wavestill.cli", "wavestill.commands"),
}
EXTRAS = (
    *("pesq", "pystoi", "matplotlib", "jinja2", "pyworld", "onnx", "onnxruntime"),
    *("fastapi", "uvicorn", "starlette", "prometheus_client", "websockets"),
)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MATHS_SOURCES = [
    path for path in SOURCES if path.relative_to(PACKAGE).with_suffix("").parts[0] in MATHS
]


def imported_names(path: Path) -> Iterator[str]:
    package = path.parent.relative_to(PACKAGE.parent).parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = (*base, *([node.module] if node.module else []))
            yield from (".".join((*stem, alias.name)) for alias in node.names)


def imported_alone(modules: list[str], *, preload: tuple[str, ...]) -> list[dict[str, object]]:
    command = [sys.executable, str(ROOT / "tests" / "imports_alone.py")]
    command += [",".join(preload), *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [report["module"] for report in reports] == modules, done.stderr
    return reports


def test_every_module_imports_alone():
    heavy = ("torch", "lightning.pytorch", "librosa", "jsonargparse", "matplotlib.pyplot", "rich")
    modules = [module_name(path) for path in SOURCES]
    failures = [r for r in imported_alone(modules, preload=heavy) if r["error"]]
    assert not failures, "\n".join(f"{r['module']}:\n{r['error']}" for r in failures)


def test_maths_brings_in_no_input_or_output():
    modules = ["wavestill", *(module_name(path) for path in MATHS_SOURCES)]
    for report in imported_alone(modules, preload=("torch", "numpy", "jaxtyping")):
        brought = NOT_MATHS & set(report["imported"])
        assert not brought, f"importing {report['module']} brings in {sorted(brought)}"


def test_help_and_completion_need_no_extra():
    program = f"""
import sys
import lightning.pytorch  # whose metrics use the extras where they are installed
sys.modules.update(dict.fromkeys({EXTRAS}))
from wavestill import cli
assert all(cli.parser_for(command).format_help() for command in cli.COMMANDS)
sys.exit(cli.run(["completion", "bash"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", MATHS_SOURCES, ids=module_name)
def test_maths_imports_only_torch_numpy_and_itself(path: Path):
    for name in imported_names(path):
        top, *rest = name.split(".")
        if top == "wavestill":
            assert not rest or rest[0] in MATHS | {"_native"}, f"{path.name} imports {name}"
        else:
            allowed = top in MATHS_MAY_IMPORT and top not in NOT_MATHS
            assert allowed, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_files_are_short_and_rooms_are_named(path: Path):
    num_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert num_lines <= LINES_MAX, f"{path} has {num_lines} lines"
    assert path.stem not in {"utils", "helpers", "misc", "common"}, f"{path}: name what it does"


def test_versions_agree():
    [project] = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    [citation] = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert wavestill.__version__ == project == citation


def requirement_name(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name, f"no name in {requirement!r}"
    return re.sub(r"[-_.]+", "-", name.group()).lower()


def pinned_versions(name: str) -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split(";")[0].split("==") for line in lines if "==" in line]
    return [version.strip() for pin, version in pins if requirement_name(pin) == name]


def test_every_direct_dependency_is_pinned():
    required = importlib.metadata.requires("wavestill") or []
    names = {requirement_name(requirement) for requirement in required} - {"wavestill"}
    assert "torch" in names
    assert {name for name in names if not pinned_versions(name)} == set()


def test_pre_commit_has_the_same_ruff():
    config = (ROOT / ".pre-commit-config.yaml").read_text()
    [revision] = re.findall(r"ruff-pre-commit\s+rev: v(.+)", config)
    assert pinned_versions("ruff") == [revision]


def test_the_demo_speech_is_whole():
    folder = PACKAGE / "data" / "demo_speech"
    rows = [line.split("|") for line in (folder / "metadata.csv").read_text().splitlines()]
    assert all(len(row) == 3 for row in rows)
    recordings = {path.stem: path for path in (folder / "wavs").glob("*.flac")}
    assert sorted(row[0] for row in rows) == sorted(recordings)
    assert len({row[2] for row in rows}) == len(rows), "a sentence is spoken twice"
    assert sum(path.stat().st_size for path in recordings.values()) <= 3_000_000
    assert (folder / "LICENCE.md").exists()

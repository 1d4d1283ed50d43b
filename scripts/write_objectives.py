"""Write docs/objectives.md from what benchmarks/objectives.py measured.

python benchmarks/objectives.py --json objectives.json
python scripts/write_objectives.py objectives.json
"""

import argparse
import json
import statistics
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "objectives.md"
COLUMNS = {
    "kl_nats": ("KL(student‖teacher)", 3),
    "forward_kl_nats": ("KL(teacher‖student)", 3),
    "tv": ("TV", 3),
    "coverage": ("coverage", 2),
    "std_over_teacher": ("level", 2),
    "steps": ("steps", 0),
}


def main() -> None:
    """Read the figures, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path)
    figures = json.loads(parser.parse_args().figures.read_text())
    rows = figures["rows"]
    seeds = len(rows["Divergences"]["KL"]["kl_nats"])
    variance = figures["gradient_variance"]
    machine = figures["machine"]
    lines = [
        "# Objectives",
        "",
        "Written by `scripts/write_objectives.py`; do not edit.",
        "",
        f"`{figures['command']}`: {machine['processor']}, one thread, commit {figures['commit']}.",
        "",
        "Every way to distil, on one problem and in equal processor time. The problem: paths of",
        "48 steps in a double well that jump to the other well once in twenty steps. A step's law",
        "has two modes, and the student, an affine flow, has one law per step: what it does about",
        "the second tells the objectives apart. The teacher is a WaveNet fitted to the paths.",
        "",
        "- KL(student‖teacher), TV: nats and rejections per step under the student's prefixes.",
        "- KL(teacher‖student): nats per step under the teacher's.",
        "- Coverage: the wells at three times make 8 modes; the mass that both have in each,",
        "  summed (1 is best, one mode alone about 1/8; of teacher and data: "
        f"{figures['teacher_coverage']:.2f}).",
        "- Level: standard deviation over the teacher's.",
        f"- Mean ± standard deviation over {seeds} seeds of student and noise; one teacher.",
        "",
    ]
    for group, settings in rows.items():
        heads = [head for head, _ in COLUMNS.values()]
        lines += [f"## {group}", "", "| | " + " | ".join(heads) + " |"]
        lines += ["|---|" + "---|" * len(heads)]
        for name, columns in settings.items():
            cells = [cell(columns[key], digits) for key, (_, digits) in COLUMNS.items()]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    ratio = variance["full"] / variance["path_wise"]
    lines += [
        "## Path-wise gradients",
        "",
        "Summed variance of KL's gradient over 40 draws of 16 paths, one point per step, at the",
        f"student that KL alone gave: full {variance['full']:.3g}, path-wise "
        f"{variance['path_wise']:.3g}: {ratio:.2f} times as small. Where student and teacher are",
        "equal the path-wise gradient has no variance at all (`tests/test_divergences.py`); here",
        "the second modes keep them apart.",
        "",
    ]
    PAGE.write_text("\n".join(lines), encoding="utf-8")
    print(f"wrote {PAGE}")


def cell(values: list[float], digits: int) -> str:
    """Mean and spread."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    if digits == 0:
        return f"{statistics.mean(values):,.0f}"
    return f"{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}"


if __name__ == "__main__":
    main()

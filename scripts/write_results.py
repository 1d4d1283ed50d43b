"""Write docs/results.md, its picture and the README's table from what `wavestill evaluate` made.

python scripts/write_results.py runs/kathleen_16k_cpu/evaluation recipes/kathleen_16k_cpu.yaml
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import soundfile
import yaml

NAMES = {
    "recording": "recording",
    "teacher": "teacher",
    "student": "student",
    "griffin_lim": "Griffin–Lim",
}
COLUMNS = {
    "mel_distance_db": ("mel distance, dB ↓", 2),
    "mcd_db": ("MCD, dB ↓", 2),
    "pesq": ("PESQ ↑", 2),
    "stoi": ("STOI ↑", 3),
    "f0_rmse_cents": ("F0 error, cents ↓", 0),
    "voicing_error": ("voicing error ↓", 3),
    "std_over_data": ("std / data", 2),
    "harmonicity": ("harmonicity", 2),
}


def main() -> None:
    """Read the figures, write the page."""
    parser = argparse.ArgumentParser(description="Write docs/results.md from an evaluation.")
    parser.add_argument("evaluation", type=Path, help="folder with results.json and sounds/")
    parser.add_argument("recipe", type=Path, help="the recipe that made the voice")
    parser.add_argument(
        "--minutes", type=float, nargs=2, help="of teacher and student, where not the recipe's"
    )
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where to write")
    parser.add_argument("--note", default="", help="what else must be said")
    options = parser.parse_args()
    results = json.loads((options.evaluation / "results.json").read_text(encoding="utf-8"))
    (options.docs / "images").mkdir(parents=True, exist_ok=True)
    draw_copies(options.evaluation / "sounds", options.docs / "images" / "copies.png")
    page = write_page(results, options.recipe, options.note, options.minutes)
    (options.docs / "results.md").write_text(page, encoding="utf-8")
    readme = options.docs.parent / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition("<!-- results -->\n")
    after = rest.partition("<!-- end of results -->")[2]
    table = f"<!-- results -->\n{summary(results)}<!-- end of results -->"
    readme.write_text(before + table + after, encoding="utf-8")


def with_error(figures: dict[str, float], name: str, digits: int) -> str:
    """The mean over clips and its standard error."""
    if name not in figures:
        return "–"
    error = figures.get(f"{name}_standard_error")
    spread = "" if error is None else f" ± {error:.{digits}f}"
    return f"{figures[name]:.{digits}f}{spread}"


def summary(results: dict) -> str:
    """The README's table."""
    machine, speed, quality = results["machine"], results["speed"], results["quality"]
    rows = ["| | nats per sample | PESQ ↑ | STOI ↑ | × real time |", "|---|---|---|---|---|"]
    likelihoods = {
        "teacher": with_error(results["teacher"], "nll_nats_per_sample", 3),
        "student": "KL " + with_error(results["student"], "kl_nats_per_sample", 3),
        "griffin_lim": "–",
    }
    speeds = {"teacher": "native" if "native" in speed else "cached", "student": "student"}
    for system, nats in likelihoods.items():
        cells = [nats, *(with_error(quality[system], key, 2) for key in ("pesq", "stoi"))]
        rate = speed[speeds[system]]["times_real_time"] if system in speeds else None
        cells.append("–" if rate is None else f"{rate:.2g}")
        rows.append(f"| {NAMES[system]} | " + " | ".join(cells) + " |")
    data = results["data"]
    return "\n".join(rows) + (
        f"\n\n*{data['num_clips']} held-out clips at {data['sample_rate_hz'] / 1000:g} kHz, "
        f"± one standard error; {machine['processor']}, {machine['torch_threads']} thread, commit "
        f"{results['commit']}; `wavestill evaluate runs/kathleen_16k_cpu/voice "
        "corpora/kathleen_16k --num_clips 16`, [all figures](docs/results.md).*\n"
    )


def write_page(
    results: dict, recipe: Path, note: str, own_minutes: list[float] | None = None
) -> str:
    """The page as Markdown."""
    machine, data = results["machine"], results["data"]
    teacher, student = results["teacher"], results["student"]
    columns = {
        k: v for k, v in COLUMNS.items() if any(k in q for q in results["quality"].values())
    }
    rows = [
        "| | " + " | ".join(title for title, _ in columns.values()) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for system, name in NAMES.items():
        figures = results["quality"].get(system) or (data if system == "recording" else None)
        if figures:
            cells = [with_error(figures, key, digits) for key, (_, digits) in columns.items()]
            rows.append(f"| {name} | " + " | ".join(cells) + " |")
    speeds = ["| sampler | samples/s | × real time | against naive |", "|---|---|---|---|"]
    naive = results["speed"]["naive"]["samples_per_second"]
    for sampler, speed in results["speed"].items():
        rate = speed["samples_per_second"]
        speeds.append(
            f"| {sampler} | {rate:,.0f} | {speed['times_real_time']:.3g} | {rate / naive:,.0f} × |"
        )
    recipe_values = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    minutes = {part: recipe_values[part]["minutes"] for part in ("fit", "distill")}
    if own_minutes is not None:
        minutes = dict(zip(minutes, own_minutes, strict=True))
    commands = "\n".join(
        f"    {line[1:].strip()}"
        for line in recipe.read_text(encoding="utf-8").splitlines()
        if line.startswith("#   ")
    )
    machine_line = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in machine.items())
    return f"""# Results

<!-- written by scripts/write_results.py from results.json; do not edit -->

One voice at {data["sample_rate_hz"]:,} Hz by [`{recipe}`](../{recipe}): {minutes["fit"]:g} minutes
for the teacher and {minutes["distill"]:g} for the student. Measured on {data["num_clips"]} clips
({data["seconds"]:.0f} s) of the {data["split"]} split, whose prompts neither has heard. Means over
clips ± one standard error.

| | |
|---|---|
| teacher | {with_error(teacher, "nll_nats_per_sample", 3)} nats per sample of the 16-bit grid \
({with_error(teacher, "nll_bits_per_sample", 3)} bits), {teacher["parameters"]:,} parameters |
| student | KL(student‖teacher) {with_error(student, "kl_nats_per_sample", 3)} nats per sample, \
no step of one shape gets under {with_error(student, "kl_floor_nats_per_sample", 3)}; \
{student["parameters"]:,} parameters |
| rejection rate | TV {with_error(student, "tv_per_step", 3)} per step under its own prefixes; \
{with_error(student, "tv_per_step_under_teacher", 3)} under the teacher's, on loud stretches |
| as a draft | {with_error(student, "samples_per_round", 2)} samples per speculative round there |
| level | std of the student {with_error(student, "std_over_data", 2)} of the data's |

## Copies of held-out recordings, from their mel frames and F0

{chr(10).join(rows)}

![A recording and its copies](images/copies.png)

## Speed on this machine

{chr(10).join(speeds)}

## How it was made

{commands}
    python scripts/write_results.py runs/{recipe.stem}/evaluation {recipe}

Machine: {machine_line}. wavestill {results["version"]}, commit {results["commit"]}.
{note}
"""


def draw_copies(sounds: Path, out: Path) -> None:
    """Spectrograms of the first clip, one below the other."""
    clip = sorted(path for path in sounds.iterdir() if path.is_dir())[0]
    systems = [name for name in NAMES if (clip / f"{name}.wav").exists()]
    figure, axes = plt.subplots(
        len(systems), 1, figsize=(9, 1.7 * len(systems)), sharex=True, layout="constrained"
    )
    for axis, system in zip(axes, systems, strict=True):
        wave, rate = soundfile.read(clip / f"{system}.wav")
        window = np.hanning(round(0.025 * rate))
        starts = range(0, len(wave) - len(window), round(0.005 * rate))
        frames = np.stack([wave[start : start + len(window)] * window for start in starts])
        power_db = 20 * np.log10(np.abs(np.fft.rfft(frames, 1024)).T + 1e-4)
        axis.imshow(
            power_db,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=-50,
            vmax=35,
            extent=(0, len(wave) / rate, 0, rate / 2000),
        )
        axis.set(ylabel="kHz")
        axis.set_title(NAMES[system], loc="left", fontsize=10)
    axes[-1].set(xlabel="seconds")
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()

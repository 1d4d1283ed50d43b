"""What the report says around its tables: headline, lede, tiles, the note on how to read it."""

import math
from collections.abc import Mapping
from typing import Any

from wavestill.evaluation.figures import SYSTEM_NAMES, figure, figure_of

_MACHINE_NAMES = {
    "processor": "Processor",
    "cores": "Cores",
    "torch_threads": "Threads of torch",
    "memory_gib": "Memory, GiB",
    "accelerator": "Accelerator",
    "system": "System",
    "python": "Python",
    "torch": "PyTorch",
}


def front(results: Mapping[str, Any], title: str) -> dict[str, Any]:
    """What stands before and after the body."""
    described = results.get("machine", {})
    machine = [(name, described[key]) for key, name in _MACHINE_NAMES.items() if key in described]
    version, commit = results.get("version", "unknown"), results.get("commit", "unknown")
    return {
        "title": title,
        "version": version,
        "headline": _headline(results),
        "lede": _lede(results),
        "tiles": _tiles(results),
        "listening": _listening(results),
        "notes": results.get("notes", []),
        "machine": [*machine, ("wavestill", version), ("Commit", commit)],
    }


def about(results: Mapping[str, Any]) -> list[str]:
    """An honest note on how to read the page, in paragraphs."""
    note = [
        "Every copy was made from the mel frames of the very recording it stands beside "
        "(copy-synthesis). It shows what a vocoder does with perfect frames; it is no "
        "text-to-speech.",
        "The teacher is sampled exactly as trained, one sample after another. The student draws "
        "the whole clip at once from noise of its own: its copies differ from the teacher’s by "
        "chance as well as by what distillation lost. KL and total variation are integrals over "
        "the two known laws of each step, not listening tests; PESQ, STOI and the rest are "
        "algorithms’ opinions of a few clips. Trust your ears first.",
    ]
    if results.get("data", {}).get("split") == "train":
        note.append("The clips are from the training split: the models have seen them.")
    loudness = results.get("student", {}).get("std_over_data", 1.0)
    if not 0.7 <= loudness <= 1.4:
        word = "quieter" if loudness < 1 else "louder"
        note.append(
            f"This student is clearly {word} than the recordings ({figure(loudness)} of their "
            "standard deviation): read its KL together with that."
        )
    return note


def _headline(results: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Pieces of a sentence, each with whether it is stressed."""
    speed, student = results.get("speed", {}), results.get("student", {})
    nats = figure_of(student, "kl_nats_per_sample")
    paces = [speed[name]["samples_per_second"] for name in ("native", "cached") if name in speed]
    if nats and "student" in speed and paces:
        ratio = speed["student"]["samples_per_second"] / max(paces)
        return [
            ("One parallel pass speaks ", False),
            (f"{figure(ratio, digits=2)} times", True),
            (" as fast as the teacher step by step, and costs ", False),
            (nats, True),
            (" nats per sample.", False),
        ]
    if nats:
        return [
            ("The student is ", False),
            (nats, True),
            (" nats per sample from its teacher.", False),
        ]
    if nll := figure_of(results.get("teacher", {}), "nll_nats_per_sample"):
        return [
            ("A teacher that predicts speech at ", False),
            (nll, True),
            (" nats per sample.", False),
        ]
    return [("What was measured.", False)]


def _lede(results: Mapping[str, Any]) -> str:
    data, machine = results.get("data", {}), results.get("machine", {})
    parts = []
    if data:
        clips = "one clip" if data["num_clips"] == 1 else f"{data['num_clips']} clips"
        rate_khz = data["sample_rate_hz"] / 1000
        parts.append(
            f"{clips} of the {data['split']} split, {data['seconds']:.0f} s at {rate_khz:g} kHz"
        )
    if "processor" in machine:
        threads = machine.get("torch_threads", 1)
        where = "one thread of" if threads == 1 else f"{threads} threads of"
        parts.append(str(machine.get("accelerator", f"{where} {machine['processor']}")))
    sentence = f"Measured on {', on '.join(parts)}." if parts else ""
    if data.get("num_clips", 0) > 1:
        sentence += " A figure after ± is the standard error over clips."
    return sentence


def _tiles(results: Mapping[str, Any]) -> list[dict[str, str]]:
    teacher, student, speed = (results.get(part, {}) for part in ("teacher", "student", "speed"))
    tiles: list[dict[str, str]] = []

    def tile(name: str, value: str, unit: str, aside: str) -> None:
        tiles.append({"name": name, "value": value, "unit": unit, "aside": aside})

    if "nll_nats_per_sample" in teacher:
        bits = figure(teacher["nll_nats_per_sample"] / math.log(2))
        aside = f"{bits} of 16 bits"
        tile("Teacher’s NLL", figure_of(teacher, "nll_nats_per_sample"), "nats / sample", aside)
    if "kl_nats_per_sample" in student:
        floor = student.get("kl_floor_nats_per_sample")
        aside = "KL, on the student’s own samples"
        if floor is not None:
            aside = f"no student of its kind gets under {figure(floor)}"
        value = figure_of(student, "kl_nats_per_sample")
        tile("Student’s KL to the teacher", value, "nats / sample", aside)
    if "tv_per_step" in student:
        aside = f"total variation {figure(student['tv_per_step'])}"
        tile("Steps a verifier rejects", figure_of(student, "tv_per_step", 100.0), "%", aside)
    if student.get("std_over_data", 0) > 0:
        decibels = 20 * math.log10(student["std_over_data"])
        aside = f"{abs(decibels):.1f} dB {'louder' if decibels > 0 else 'quieter'} than they"
        value = figure_of(student, "std_over_data")
        tile("Student’s loudness", value, "of the recordings’ std", aside)
    if "student" in speed:
        aside = f"{figure(speed['student']['samples_per_second'])} samples / s"
        value = figure(speed["student"]["times_real_time"])
        tile("Student’s speed", value, "× real time", aside)
    return tiles


def _listening(results: Mapping[str, Any]) -> str:
    known = results.get("quality", {})
    names = [
        name if key == "griffin_lim" else f"the {name.lower()}"
        for key, name in SYSTEM_NAMES.items()
        if key in known
    ]
    if not names:
        return "Recordings."
    copies = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"Recordings, and copies of them by {copies}."

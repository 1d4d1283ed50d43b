"""`wavestill doctor`."""

from pathlib import Path
from typing import Any

from wavestill import publish
from wavestill.commands.terminal import Outcome, say
from wavestill.diagnosis import diagnose


def doctor(model: Path | None = None) -> Outcome:
    """Print what a bug report needs: versions, processor, kernel, GPU, extras, a voice's state.

    Exits with 1 if something is not as it should be; the last lines say what.

    Arguments:
        model: Folder of a voice to check, if any.
    """
    figures = diagnose()
    if model is not None:
        figures["voice"] = {"path": str(model), **_checked(model)}
        if "problem" in figures["voice"]:
            figures["problems"].append(figures["voice"]["problem"])
    for name, value in figures.items():
        if name != "problems":
            say(f"{name}: {_told(value)}")
    for problem in figures["problems"]:
        say(f"problem: {problem}")
    say() if figures["problems"] else say("no problem was found")
    return Outcome(figures, failed=bool(figures["problems"]))


def _checked(model: Path) -> dict[str, Any]:
    try:
        voice = publish.load(model)
    except ValueError as error:
        return {"problem": str(error)}
    parts = [part for part in ("teacher", "student") if getattr(voice, part) is not None]
    return {
        "has": parts,
        "sample_rate": voice.spec.sample_rate,
        "made": voice.made.get("version"),
    }


def _told(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_told(own)}" for key, own in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "-" if value is None else str(value)

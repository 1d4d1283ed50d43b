"""The report: one HTML file with sounds, pictures, figures and the commands that made them."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wavestill.evaluation import curves, pages, pictures, tables
from wavestill.evaluation.figures import SYSTEM_NAMES
from wavestill.evaluation.measurement import ClipSounds


@dataclass(frozen=True)
class Lead:
    """A voice of its own that the report opens with.

    Arguments:
        heading: What it is.
        text: What is to be known of it.
        clips: Its sounds.
        sample_rate_hz: Their rate.
    """

    heading: str
    text: str
    clips: Sequence[ClipSounds]
    sample_rate_hz: int


_MAX_CHARACTERS = 7_500_000  # of sounds and pictures: a page of 8 MB still mails


def write_report(
    path: Path | str,
    results: Mapping[str, Any],
    clips: Sequence[ClipSounds] = (),
    sample_rate_hz: int = 16000,
    *,
    metrics: Mapping[str, Path] | None = None,
    commands: Sequence[str] = (),
    title: str = "wavestill",
    about: str | None = None,
    lead: Lead | None = None,
) -> None:
    """Write a self-contained report: offline, dark or light, on a phone, by keyboard.

    Clips are embedded in order until the page would grow beyond about 8 MB; the rest is said to be
    left out.

    Arguments:
        path: The HTML file.
        results: As of `evaluate`; every part may be missing. `known_truth` may hold, all in nats
            per sample, `entropy_rate_nats`, `true_nll_nats_per_sample`,
            `teacher_nll_nats_per_sample`, `student_kl_nats_per_sample`, `teacher_tolerance_nats`,
            `student_tolerance_nats`, and a `description`.
        clips: Sounds to show, as of `evaluate`.
        sample_rate_hz: Their rate.
        metrics: The `metrics.csv` of the runs, by `teacher` and `student`.
        commands: Shell commands that made the figures, in order.
        title: Name of the voice or the experiment.
        about: What to say first of what this is; a general note follows it.
        lead: Another voice to open with.

    Raises:
        ValueError: If the packages for reports are not installed.
    """
    if missing := [
        name for name in ("jinja2", "matplotlib") if importlib.util.find_spec(name) is None
    ]:
        raise ValueError(
            f"the report needs {' and '.join(missing)}: pip install 'wavestill[eval]'"
        )
    import jinja2

    shown = _shown(clips, sample_rate_hz)
    page = {
        **pages.front(results, title),
        "quality": tables.quality_table(results),
        "speed": tables.speed_table(results.get("speed", {})),
        "known_truth": tables.known_truth_table(results.get("known_truth")),
        "charts": curves.charts(metrics or {}),
        "clips": shown,
        "clips_left_out": f"{len(clips) - len(shown)} more clips were measured."
        if len(shown) < len(clips)
        else "",
        "commands": commands,
        "about": [*([about] if about else []), *pages.about(results)],
        "range_db": pictures.RANGE_DB,
        "top_khz": f"{sample_rate_hz / 2000:g}",
        "lead": None if lead is None else _lead(lead),
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("wavestill.evaluation"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    html = environment.get_template("report.html.jinja").render(page=page)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(html, encoding="utf-8")


def _lead(lead: Lead) -> dict[str, Any]:
    return {
        "heading": lead.heading,
        "text": lead.text,
        "clips": [_players(clip, lead.sample_rate_hz) for clip in lead.clips],
        "top_khz": f"{lead.sample_rate_hz / 2000:g}",
    }


def _shown(clips: Sequence[ClipSounds], sample_rate_hz: int) -> list[dict[str, Any]]:
    """Players of the clips, as many as the page can carry."""
    shown: list[dict[str, Any]] = []
    num_characters = 0
    for clip in clips:
        player = _players(clip, sample_rate_hz)
        num_characters += sum(
            len(sound["audio"]) + len(sound["spectrogram"]) for sound in player["sounds"]
        )
        if shown and num_characters > _MAX_CHARACTERS:
            break
        shown.append(player)
    return shown


def _players(clip: ClipSounds, sample_rate_hz: int) -> dict[str, Any]:
    recording = clip.sounds.get("recording", next(iter(clip.sounds.values())))
    top_db = float(pictures.spectrogram_db(recording, sample_rate_hz).max())
    # a broken copy may be far louder: it is cut, so that the others still show
    peak = min(
        max(float(np.abs(np.nan_to_num(x)).max(initial=0)) for x in clip.sounds.values()),
        1.5 * float(np.abs(recording).max(initial=0)),
    )
    sounds = [
        {
            "system": system,
            "name": SYSTEM_NAMES[system],
            "audio": pictures.data_uri(
                "audio/wav", pictures.wav(clip.sounds[system], sample_rate_hz)
            ),
            "waveform": pictures.waveform_path(clip.sounds[system], peak),
            "spectrogram": pictures.data_uri(
                "image/png",
                pictures.spectrogram_png(
                    pictures.spectrogram_db(clip.sounds[system], sample_rate_hz), top_db
                ),
            ),
        }
        for system in SYSTEM_NAMES
        if system in clip.sounds
    ]
    seconds = f"{len(recording) / sample_rate_hz:.1f}"
    return {"id": clip.id, "text": clip.text, "seconds": seconds, "sounds": sounds}

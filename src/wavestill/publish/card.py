"""The card of a voice: its README.md."""

import json
import shlex
from typing import Any

from torch import Tensor

from wavestill.audio.spec import spec_from_dict

_CONSENT = """\
It sounds like the people it was trained on, whatever is put into it. Use it only with their
consent and within the licence of their recordings. Do not use it to pass as somebody, to deceive,
to harass or to get past a check of a voice; and say that the sound is synthetic wherever it is
heard. If the voice is yours and you did not agree, ask whoever publishes it to take it down."""


def card(name: str, config: dict[str, Any], weights: dict[str, Tensor]) -> str:
    """What a voice is, how it was made and what was measured, as Markdown.

    Arguments:
        name: The voice's name.
        config: What stands in its config.json.
        weights: Its weights, by full name.
    """
    spec, made = config["spec"], config["made"]
    lines = [
        *_front_matter(config),
        f"# {name}",
        "",
        f"A vocoder with a likelihood: {_kind(spec)} to sound. Made with wavestill.",
    ]
    lines += ["", "| | |", "|---|---|"]
    lines.append(
        f"| sound | {spec['sample_rate']} Hz, mono, trained at {config['level_dbfs']:g} dBFS RMS |"
    )
    summary = spec_from_dict(spec).summary
    lines.append(f"| frames | {summary}; hop {spec['hop_samples']} samples |")
    for part, what in (("teacher", "autoregressive WaveNet"), ("student", "parallel IAF WaveNet")):
        if config[part] is not None:
            count = sum(
                value.numel() for key, value in weights.items() if key.startswith(f"{part}.")
            )
            lines.append(f"| {part} | {what}, {count / 1e6:.2f} M parameters |")
    if config["speakers"]:
        lines.append(f"| speakers | {', '.join(config['speakers'])} |")
    if config["license"] is not None:
        lines.append(f"| licence | {config['license']} |")
    headline = _headline(config["measured"])
    if headline:
        lines += ["", headline]
    lines += ["", "## Use", "", "```sh"]
    sampler = "" if config["student"] is not None else " --sampler cached"
    speaker = (
        f" --speaker {shlex.quote(config['speakers'][0])}" if len(config["speakers"]) > 1 else ""
    )
    given = "sentence.lab" if "phones" in spec and not spec["pitch"] else "recording.wav"
    lines += [f"wavestill synth {shlex.quote(name)} {given} -o copy.wav{sampler}{speaker}", "```"]
    lines += ["", "## Whose voice it is", "", _CONSENT]
    figures = list(_flat(config["measured"]))
    if figures:
        lines += ["", "## Measured", "", "| figure | value |", "|---|---|"]
        lines += [f"| {key} | {value:.4g} |" for key, value in figures]
    if made:
        lines += ["", "## Made", ""]
        lines.append(
            f"version {made.get('version')}, commit {made.get('commit')}, {made.get('started')}"
        )
        if isinstance(machine := made.get("machine"), dict):
            told = ", ".join(f"{key} {value}" for key, value in machine.items())
            lines += ["", f"The machine, for speeds too: {told}"]
        lines += ["", f"`{made.get('command')}`"]
    return "\n".join(lines) + "\n"


def _kind(spec: dict[str, Any]) -> str:
    return "time-stamped phones" if "phones" in spec else "mel frames"


def _front_matter(config: dict[str, Any]) -> list[str]:
    """What the Hugging Face Hub reads."""
    tags = ["vocoder", "speech-synthesis", "wavenet", "density-distillation", "safetensors"]
    licence = config["license"]
    return [
        "---",
        *([] if licence is None else [f"license: {json.dumps(licence)}"]),
        "library_name: wavestill",
        "pipeline_tag: text-to-speech",
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
        "",
    ]


def _headline(measured: dict[str, Any]) -> str:
    """The figures that matter, in a sentence each, as far as they were measured."""
    figures, said = dict(_flat(measured)), []
    if (nll := figures.get("teacher nll_nats_per_sample")) is not None:
        said.append(f"The teacher gives recordings {nll:.3f} nats per sample of the 16-bit grid.")
    if (kl := figures.get("student kl_nats_per_sample")) is not None:
        tv = figures.get("student tv_per_step")
        said.append(
            f"The student is {kl:.3f} nats per sample from its teacher (KL"
            f"{'' if tv is None else f', total variation {tv:.3f}'} per step)."
        )
    start, end = "speed ", " times_real_time"
    speeds = [
        f"{key.removeprefix(start).removesuffix(end)} {value:.3g}"
        for key, value in figures.items()
        if key.startswith(start) and key.endswith(end)
    ]
    if speeds:
        said.append(f"Speed, × real time: {', '.join(speeds)}.")
    return " ".join(said)


def _flat(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    flat: list[tuple[str, float]] = []
    for key, value in figures.items():
        if isinstance(value, dict):
            flat += _flat(value, f"{prefix}{key} ")
        elif isinstance(value, int | float):
            flat.append((f"{prefix}{key}", float(value)))
    return flat

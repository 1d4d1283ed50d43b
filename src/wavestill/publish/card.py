"""The card of a voice: its README.md."""

from typing import Any

from torch import Tensor

from wavestill.audio.spec import spec_from_dict


def card(name: str, config: dict[str, Any], weights: dict[str, Tensor]) -> str:
    """What a voice is, how it was made and what was measured, as Markdown.

    Arguments:
        name: The voice's name.
        config: What stands in its config.json.
        weights: Its weights, by full name.
    """
    spec, made = config["spec"], config["made"]
    lines = [
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
    lines += ["", "## Use", "", "```sh"]
    sampler = "" if config["student"] is not None else " --sampler cached"
    speaker = f" --speaker {config['speakers'][0]}" if len(config["speakers"]) > 1 else ""
    given = "sentence.lab" if "phones" in spec and not spec["pitch"] else "recording.wav"
    lines += [f"wavestill synth {name} {given} -o copy.wav{sampler}{speaker}", "```"]
    figures = list(_flat(config["measured"]))
    if figures:
        lines += ["", "## Measured", "", "| figure | value |", "|---|---|"]
        lines += [f"| {key} | {value:.4g} |" for key, value in figures]
    if made:
        lines += [
            "",
            "## Made",
            "",
            f"version {made.get('version')}, commit {made.get('commit')}, {made.get('started')}",
        ]
        lines += ["", f"`{made.get('command')}`"]
    return "\n".join(lines) + "\n"


def _kind(spec: dict[str, Any]) -> str:
    return "time-stamped phones" if "phones" in spec else "mel frames"


def _flat(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    flat: list[tuple[str, float]] = []
    for key, value in figures.items():
        if isinstance(value, dict):
            flat += _flat(value, f"{prefix}{key} ")
        elif isinstance(value, int | float):
            flat.append((f"{prefix}{key}", float(value)))
    return flat

"""The command line: one subcommand, one public function of the same name and arguments."""

import dataclasses
import importlib
import inspect
import io
import json
import logging
import os
import re
import sys
from argparse import SUPPRESS, Action
from collections.abc import Callable, Collection, Sequence
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import docstring_parser
from jsonargparse import ActionYesNo, ArgumentParser, DefaultHelpFormatter

from wavestill import __version__
from wavestill.commands.terminal import Outcome, complain
from wavestill.settings import require_seed

COMMANDS = {
    "demo": "the whole story on this machine, in minutes, with a report",
    "prepare": "check, resample, level and index a folder of recordings",
    "fit": "train a recipe's teacher by maximum likelihood",
    "distill": "train a recipe's student from its teacher",
    "synth": "write the sound of recordings or of saved mel frames",
    "evaluate": "nats, KL, spectral and perceptual metrics, speed; JSON and a report",
    "bench": "samples/s, × real time, first-sound latency, share of this machine's limits",
    "export": "the student, whole or streaming, or the teacher's likelihood as an ONNX file",
    "serve": "a service over HTTP and WebSocket, with a page that speaks",
    "push": "put a voice on the Hugging Face Hub",
    "doctor": "what a bug report needs: versions, processor, kernel, extras, a voice's state",
    "completion": "what makes bash, zsh or fish complete these commands",
}

_INTERRUPTED = 130  # what shells make of Ctrl-C


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 not done (one line says why), 2 wrong usage."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run a command; its exit status."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a sign must not end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read what we say has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        complain("wavestill: interrupted; a run in training goes on with --resume")
        return _INTERRUPTED
    return status


def _run(arguments: Sequence[str]) -> int:
    given = [_with_underscores(argument) for argument in arguments]
    chosen = next((argument for argument in given if argument in COMMANDS), None)
    settings = parser_for(chosen).parse_args(given)
    logging.captureWarnings(capture=True)  # what a user must know we say ourselves
    if settings["command"] is None:
        parser_for(None).print_help()
        return 0
    values: dict[str, Any] = settings[settings["command"]].as_dict()
    json_path: Path | None = values.pop("json")
    try:
        _check(json_path, values.get("seed"))
        function = _function(settings["command"])
        outcome: Outcome = function(**_with_settings(function, values))
        if json_path is not None:
            json_path.write_text(json.dumps(outcome.figures, indent=2) + "\n", encoding="utf-8")
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        complain(f"wavestill: {' '.join(str(error).split()) or type(error).__name__}")
        return 1
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise  # a fault of ours: its traceback helps to mend it
        complain(
            f"wavestill: not enough memory ({' '.join(str(error).split())[:200]}); make the "
            "model, its batches or its clips smaller"
        )
        return 1
    except ModuleNotFoundError as error:
        complain(
            f"wavestill: the package '{error.name}' is not installed: pip install "
            f"'wavestill[{_extra_of(error.name)}]'"
        )
        return 1
    return int(outcome.failed)


def _check(json_path: Path | None, seed: int | None) -> None:
    """Complain of what would otherwise fail only after all the work.

    Raises:
        ValueError: If the figures cannot be written, or a seed is out of range.
    """
    if json_path is not None:
        folder = json_path.resolve().parent
        if not folder.is_dir():
            raise ValueError(f"the folder of '{json_path}' does not exist; make it first")
        if json_path.is_dir():
            raise ValueError(f"'{json_path}' is a folder; give --json a file")
        if not os.access(json_path if json_path.exists() else folder, os.W_OK):
            raise ValueError(f"'{json_path}' cannot be written; give --json another file")
    if seed is not None:
        require_seed(seed)


def whole_parser() -> ArgumentParser:
    """The parser with every command filled in."""
    return _parser(COMMANDS)


def parser_for(chosen: str | None) -> ArgumentParser:
    """The parser; only the chosen command is filled in, so the others need not be imported."""
    return _parser(() if chosen is None else (chosen,))


def _parser(filled: Collection[str]) -> ArgumentParser:
    parser = ArgumentParser(
        prog="wavestill",
        description="Distil slow autoregressive densities into samplers of one parallel pass.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"wavestill {__version__}")
    subcommands = parser.add_subcommands(required=False, dest="command")
    for name, summary in COMMANDS.items():
        own = ArgumentParser()
        if name in filled:
            _fill(own, _function(name))
        subcommands.add_subcommand(name, own, help=summary)
    return parser


def _fill(parser: ArgumentParser, function: Callable[..., Outcome]) -> None:
    """Arguments from the function's signature, their help from its docstring."""
    help_of = {
        param.arg_name: param.description
        for param in docstring_parser.parse(function.__doc__ or "").params
    }
    parameters = inspect.signature(function).parameters.values()
    flags = [parameter for parameter in parameters if parameter.annotation is bool]
    inputs = [parameter for parameter in parameters if parameter.annotation == list[Path]]
    optional = [
        parameter
        for parameter in parameters
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is None
    ]
    # `INPUT... -o OUT`, as elsewhere: after a list of files no other positional argument can stand
    apart = [parameter.name for parameter in (*flags, *inputs, *optional)]
    apart += ["out"] if inputs else []
    parser.add_function_arguments(function, as_positional=True, skip=set(apart))
    for parameter in inputs:
        parser.add_argument(parameter.name, nargs="+", type=Path, help=help_of[parameter.name])
        parser.add_argument("-o", "--out", type=Path, required=True, help=help_of["out"])
    for parameter in optional:
        parser.add_argument(
            parameter.name, nargs="?", type=parameter.annotation, help=help_of[parameter.name]
        )
    for flag in flags:
        parser.add_argument(
            f"--{flag.name}", action=ActionYesNo, default=flag.default, help=help_of[flag.name]
        )
    parser.add_argument(
        "--json", type=Path | None, metavar="FILE", help="Write the command's figures there."
    )


class HelpFormatter(DefaultHelpFormatter):
    """Help without the types, which the texts imply."""

    def _get_help_string(self, action: Action) -> str:
        if action.default is None or action.required or action.default == SUPPRESS:
            return action.help or ""
        return f"{action.help} (default: {action.default})"


def _function(name: str) -> Callable[..., Outcome]:
    module = importlib.import_module(f"wavestill.commands.{name}")
    function: Callable[..., Outcome] = getattr(module, name)
    return function


def _with_settings(function: Callable[..., Outcome], values: dict[str, Any]) -> dict[str, Any]:
    """The values, groups of them (`--trainer.devices`) as the dataclasses that they are of."""
    kinds = inspect.get_annotations(function, eval_str=True)
    return {
        name: kinds[name](**value)
        if dataclasses.is_dataclass(kinds[name]) and isinstance(value, dict)
        else value
        for name, value in values.items()
    }


def _extra_of(module: str | None) -> str:
    """The extra that brings a package, by what this one says it requires."""
    package = (module or "").partition(".")[0].replace("_", "-")
    for requirement in requires("wavestill") or []:
        name, _, condition = requirement.partition(";")
        if re.fullmatch(rf"{re.escape(package)}\b[^\w-].*", name.strip(), re.IGNORECASE):
            extra = re.search(r"extra == [\"'](.+?)[\"']", condition)
            if extra:
                return extra.group(1)
    return "eval"


def _with_underscores(argument: str) -> str:
    """`--num-clips` for `--num_clips`; values are left alone."""
    if not argument.startswith("--"):
        return argument
    option, equals, value = argument.partition("=")
    return "--" + option[2:].replace("-", "_") + equals + value


if __name__ == "__main__":
    main()

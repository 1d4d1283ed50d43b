"""Other vocoders and ours on this machine: the same seconds of sound, in turns, equal threads.

    python benchmarks/peers.py --threads 1 --rounds 5 --json peers.json

Each peer runs in an environment of its own, made once from the package index and kept (1.2 GB with
torch's build for CPUs, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu; far more with
that for GPUs). All networks have random weights and one sequence to make: what is compared is
speed, not quality.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import torch

from wavestill.machine import describe_machine, wavestill_commit, wavestill_version

HERE = Path(__file__).resolve().parent
TORCH = f"torch=={torch.__version__.partition('+')[0]}"  # the same release for all

INSTALLS: Mapping[str, Sequence[Sequence[str]]] = {
    "transformers": [[TORCH, "transformers==5.23.0"]],
    # its torchaudio and encodec serve features we do not compute
    "vocos": [
        [TORCH, "numpy", "scipy", "einops", "pyyaml", "huggingface_hub"],
        ["--no-deps", "vocos==0.1.0"],
    ],
    # its setup.py wants an old setuptools, and most of what it requires serves training
    "parallel_wavegan": [
        [TORCH, "numpy", "scipy", "pyyaml", "h5py", "setuptools<80", "wheel"],
        ["--no-build-isolation", "--no-deps", "parallel_wavegan==0.6.1"],
    ],
}
"""Arguments of `pip install`, one call after the other, for each environment."""

PEERS: Mapping[str, tuple[str, str]] = {
    "hifigan_v1": ("HiFi-GAN V1, 24 kHz", "transformers"),
    "speecht5_hifigan": ("HiFi-GAN of SpeechT5, 16 kHz", "transformers"),
    "univnet": ("UnivNet-c32, 24 kHz", "transformers"),
    "vocos": ("Vocos, 24 kHz", "vocos"),
    "parallel_wavegan": ("Parallel WaveGAN v1, 24 kHz", "parallel_wavegan"),
    "multiband_melgan": ("multi-band MelGAN v2, 24 kHz", "parallel_wavegan"),
}
"""Title and environment of each peer that `peer_worker.py` knows."""

OURS = ("student_packed", "student_packed_bfloat16", "native", "native_bfloat16")
"""Rows of `wavestill bench`, on its reference networks at 24 kHz."""

NEEDED_BYTES = 2_000_000_000
PRECISIONS = ("float32", "bfloat16")


class Unavailable(Exception):
    """A worker that cannot run, and why, in one line."""


class Entrant(NamedTuple):
    """One line of the table."""

    title: str
    precision: str
    command: list[str]
    ours: bool = False


class Worker:
    """A process that makes sound when told to.

    Arguments:
        entrant: What to run.
        num_threads: Threads it may use.

    Raises:
        Unavailable: If it does not come to be ready.
    """

    def __init__(self, entrant: Entrant, num_threads: int) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the worker
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if entrant.ours:
            environment = dict(os.environ)
        threads = {"OMP_NUM_THREADS": str(num_threads), "MKL_NUM_THREADS": str(num_threads)}
        self._process = subprocess.Popen(
            entrant.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
            env=environment | threads | {"HF_HUB_OFFLINE": "1"},
        )
        self.about: dict[str, Any] = json.loads(self._answer())

    def seconds(self) -> float:
        """How long one run takes.

        Raises:
            Unavailable: If it has ended.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # then there is no answer either
            self._process.stdin.write("run\n")
        return float(self._answer())

    def end(self) -> str:
        """Let it go; the last line of its complaints."""
        with suppress(BrokenPipeError):
            self._process.communicate()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        self._errors.close()
        return lines[-1][:300] if lines else f"it ended with status {self._process.returncode}"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Unavailable(self.end())
        return line


def main() -> None:
    """Make the environments, run the rounds, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of every network")
    parser.add_argument("--rounds", type=int, default=5, help="measured runs of each")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of sound in each run")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="entrants whose names begin so")
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path("~/.cache/wavestill/peers").expanduser(),
        help="where the peers' environments are kept",
    )
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    if options.threads < 1 or options.rounds < 1 or not 0 < options.seconds <= 60:
        parser.error("--threads and --rounds must be positive, --seconds at most 60")
    if options.json is not None and not options.json.resolve().parent.is_dir():
        parser.error(f"the folder of '{options.json}' does not exist")
    entrants, skipped = enter(options)
    if not entrants:
        parser.exit(1, "nothing to run: " + "; ".join(skipped.values()) + "\n")
    figures = {
        "command": shlex.join(["python", "benchmarks/peers.py", *sys.argv[1:]]),
        "machine": describe_machine() | {"torch_threads": options.threads},
        "version": wavestill_version(),
        "commit": wavestill_commit(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "settings": {
            "threads": options.threads,
            "rounds": options.rounds,
            "seconds": options.seconds,
        },
        **compete(entrants, options.threads, options.rounds, skipped),
        "skipped": skipped,
    }
    print("\n".join(table(figures)))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def enter(options: argparse.Namespace) -> tuple[dict[str, Entrant], dict[str, str]]:
    """Who runs, by name, and why the others do not."""
    entrants: dict[str, Entrant] = {}
    skipped: dict[str, str] = {}
    wanted = tuple(options.only or [""])
    arguments = [str(options.threads), str(options.seconds)]
    pythons: dict[str, Path] = {}
    for name, (title, environment) in PEERS.items():
        names = [f"{name}_{precision}" for precision in PRECISIONS]
        if not any(each.startswith(wanted) for each in names):
            continue
        try:
            if environment not in pythons:
                pythons[environment] = prepare(options.environments / environment, environment)
        except Unavailable as error:
            skipped[name] = str(error)
            continue
        worker = [str(pythons[environment]), str(HERE / "peer_worker.py"), name]
        for each, precision in zip(names, PRECISIONS, strict=True):
            if each.startswith(wanted):
                entrants[each] = Entrant(title, precision, [*worker, precision, *arguments])
    for name in OURS:
        if name.startswith(wanted):
            worker = [sys.executable, str(HERE / "our_worker.py"), name]
            precision = "bfloat16" if name.endswith("bfloat16") else "float32"
            entrants[name] = Entrant(f"ours: {name}", precision, [*worker, *arguments], ours=True)
    return entrants, skipped


def prepare(folder: Path, name: str) -> Path:
    """The Python of an environment, made if it is not there or was made otherwise.

    Raises:
        Unavailable: If it cannot be made.
    """
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    made = folder / "made_with.json"
    wanted = json.dumps(INSTALLS[name])
    if made.is_file() and made.read_text(encoding="utf-8") == wanted:
        return python
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise Unavailable(
            f"{free / 1e9:.1f} GB are free at {folder} but about {NEEDED_BYTES / 1e9:.0f} are "
            "needed; free some, or choose --environments"
        )
    print(f"making the environment {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    for arguments in INSTALLS[name]:
        command = [str(python), "-m", "pip", "install", "--quiet", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = errors[-1] if errors else f"status {done.returncode}"
            raise Unavailable(f"pip install {' '.join(arguments)}: {reason}")
    made.write_text(wanted, encoding="utf-8")
    return python


def compete(
    entrants: Mapping[str, Entrant], num_threads: int, rounds: int, skipped: dict[str, str]
) -> dict[str, Any]:
    """Run all in turns; only one computes at a time. Those that fail are added to `skipped`."""
    workers: dict[str, Worker] = {}
    for name, entrant in entrants.items():
        print(f"warming up {name}", file=sys.stderr)
        try:
            workers[name] = Worker(entrant, num_threads)
        except Unavailable as error:
            skipped[name] = str(error)
    taken: dict[str, list[float]] = {name: [] for name in workers}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for name in list(workers):
            try:
                taken[name].append(workers[name].seconds())
            except Unavailable as error:
                skipped[name] = str(error)
                del workers[name]
    figures = {}
    for name, worker in workers.items():
        worker.end()
        sound_s = worker.about["num_samples"] / worker.about["sample_rate_hz"]
        rates = [sound_s / seconds for seconds in taken[name]]
        entrant = entrants[name]
        figures[name] = {
            "title": entrant.title,
            "precision": entrant.precision,
            "ours": entrant.ours,
            **worker.about,
            "times_real_time": statistics.median(rates),
            "times_real_time_min": min(rates),
            "times_real_time_max": max(rates),
        }
    return {"entrants": figures, "ratios": ratios(figures)}


def ratios(figures: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Our speed over each peer's, in seconds of sound per second: above 1 we are faster."""
    return {
        name: {
            peer: own["times_real_time"] / other["times_real_time"]
            for peer, other in figures.items()
            if not other["ours"]
        }
        for name, own in figures.items()
        if own["ours"]
    }


def table(figures: Mapping[str, Any]) -> list[str]:
    """The figures as lines for people."""
    ours = list(figures["ratios"])
    lines = [
        f"{figures['settings']['seconds']:g} s of sound, {figures['settings']['threads']} "
        f"thread(s), median of {figures['settings']['rounds']} rounds (min - max)",
        f"{'':40} {'parameters':>12} {'x real time':>24}"
        + "".join(f" {name + ' /':>26}" for name in ours),
    ]
    for name, own in figures["entrants"].items():
        rate = (
            f"{own['times_real_time']:.3g} "
            f"({own['times_real_time_min']:.3g} - {own['times_real_time_max']:.3g})"
        )
        cells = "".join(
            f" {figures['ratios'][each].get(name, float('nan')):>26.3g}"
            for each in ours
            if not own["ours"]
        )
        title = f"{own['title']}, {own['precision']}"
        lines.append(f"{title:40} {own['parameters']:>12,} {rate:>24}{cells}")
    return lines + [f"left out: {name}: {reason}" for name, reason in figures["skipped"].items()]


if __name__ == "__main__":
    main()

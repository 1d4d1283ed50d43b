"""Many clients at once on loopback: is every answer right, and how long does it take?

    python benchmarks/serving_load.py VOICE [--clients 64] [--seconds 60] [--leave 0.1]

Each client asks again and again, for sounds of mixed lengths and samplers, each under a seed of
its own, over HTTP or the WebSocket; some leave in the middle. Afterwards every sound that came
whole is drawn once more, alone, and compared byte by byte. Prints latencies, how often clients
were told to come back, and the server's memory.
"""

import argparse
import asyncio
import io
import json
import random
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx2
import numpy as np
from websockets.asyncio.client import connect

from wavestill import load, stream, synthesise
from wavestill.publish import Voice


@dataclass(frozen=True)
class Asked:
    """One request; `is_live` over the WebSocket."""

    clip: int
    seed: int
    sampler: Literal["student", "native"]
    is_live: bool


@dataclass
class Outcome:
    """What the clients saw."""

    first_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)
    sounds: list[tuple[Asked, bytes]] = field(default_factory=list)
    told_to_wait: int = 0
    left: int = 0
    failed: list[str] = field(default_factory=list)
    most_in_house: float = 0.0
    memory: list[float] = field(default_factory=list)


def main() -> int:
    """Serve, ask, check; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("voice", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--leave", type=float, default=0.1, help="share of early leavers")
    parser.add_argument("--max-frames", type=int, default=80)
    arguments = parser.parse_args()
    voice = load(arguments.voice)
    encoder = voice.require_student().encoder
    assert encoder is not None
    rng = np.random.default_rng(0)
    mean, std = encoder.feature_mean.numpy(), encoder.feature_std.numpy()
    clips = [
        (mean + 0.3 * std * rng.normal(size=(int(n), len(mean)))).astype(np.float32)
        for n in np.linspace(5, arguments.max_frames, 16)
    ]
    command = [sys.executable, "-m", "wavestill.cli", "serve", str(arguments.voice)]
    command += ["--port", "0", "--timeout-s", "600"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        found = re.match(r"http://([\d.:]+)/", server.stdout.readline())
        assert found, "the server did not start"
        outcome = asyncio.run(serve_all(found.group(1), clips, arguments))
    finally:
        server.terminate()
        ended = server.wait(timeout=60)
    wrong = check(outcome, clips, voice)
    report(outcome, wrong, ended)
    return int(bool(wrong or outcome.failed or ended))


async def serve_all(
    address: str, clips: list[np.ndarray], arguments: argparse.Namespace
) -> Outcome:
    """Clients for as long as was asked."""
    until = time.monotonic() + arguments.seconds
    return await Crowd(address, clips, until, arguments.leave).run(arguments.clients)


class Crowd:
    """All the clients.

    Arguments:
        address: Host and port.
        clips: What they ask for.
        until: When they stop, by the monotonic clock.
        leave: Share of visits that end early.
    """

    def __init__(self, address: str, clips: list[np.ndarray], until: float, leave: float) -> None:
        self.address, self.clips, self.until, self.leave = address, clips, until, leave
        self.outcome = Outcome()
        self.seeds = iter(range(2**32))
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=256)
        self.client = httpx2.AsyncClient(
            base_url=f"http://{address}", timeout=700, limits=limits, trust_env=False
        )

    async def run(self, num_clients: int) -> Outcome:
        """Let them come, and watch the metrics meanwhile."""
        async with self.client:
            await self.client.post("/v1/vocode", content=npy(self.clips[0]))
            watching = asyncio.create_task(watch(self.client, self.outcome))
            await asyncio.gather(*(self.visit(number) for number in range(num_clients)))
            watching.cancel()
            await asyncio.sleep(1.0)
            await note(self.client, self.outcome)
        return self.outcome

    async def visit(self, number: int) -> None:
        """One client, again and again."""
        rng = random.Random(number)
        while time.monotonic() < self.until:
            asked = Asked(
                clip=rng.randrange(len(self.clips)),
                seed=next(self.seeds),
                sampler="native" if rng.random() < 0.3 else "student",
                is_live=number % 8 == 0,
            )
            leaves = rng.random() < self.leave
            began = time.monotonic()
            try:
                came = await (self.live if asked.is_live else self.ask)(asked, leaves=leaves)
            except Exception as error:
                self.outcome.failed.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.2)
                continue
            if came is None:
                await asyncio.sleep(0.1 + 0.4 * rng.random())
                continue
            sound, first = came
            self.outcome.first_s.append(first - began)
            self.outcome.whole_s.append(time.monotonic() - began)
            self.outcome.sounds.append((asked, sound))

    async def ask(self, asked: "Asked", *, leaves: bool) -> tuple[bytes, float] | None:
        """Over HTTP: the sound, and when its first part came; None if there is none."""
        first, parts = 0.0, []
        parameters = {"seed": asked.seed, "sampler": asked.sampler, "format": "pcm"}
        body = npy(self.clips[asked.clip])
        async with self.client.stream(
            "POST", "/v1/vocode", params=parameters, content=body
        ) as answer:
            if answer.status_code == 429:
                self.outcome.told_to_wait += 1
                assert int(answer.headers["retry-after"]) >= 1
                return None
            assert answer.status_code == 200, f"{answer.status_code} {await answer.aread()!r}"
            async for part in answer.aiter_bytes():
                first = first or time.monotonic()
                parts.append(part)
                if leaves:
                    self.outcome.left += 1
                    return None
        return b"".join(parts), first

    async def live(self, asked: "Asked", *, leaves: bool) -> tuple[bytes, float] | None:
        """Over the WebSocket, a few frames at a time; as `ask`."""
        first, parts = 0.0, []
        async with connect(f"ws://{self.address}/v1/stream", proxy=None) as socket:
            await socket.send(json.dumps({"seed": asked.seed, "sampler": asked.sampler}))
            told = json.loads(await socket.recv())
            if "error" in told:
                assert "places are taken" in told["error"], told
                self.outcome.told_to_wait += 1
                return None
            clip = self.clips[asked.clip]
            for start in range(0, len(clip), 7):
                await socket.send(clip[start : start + 7].tobytes())
            if leaves:
                self.outcome.left += 1
                return None
            await socket.send('{"end": true}')
            while isinstance(message := await socket.recv(), bytes):
                first = first or time.monotonic()
                parts.append(message)
            assert "done" in message, message
        return b"".join(parts), first


async def watch(client: httpx2.AsyncClient, outcome: Outcome) -> None:
    """Note the server's state twice a second."""
    while True:
        await note(client, outcome)
        await asyncio.sleep(0.5)


async def note(client: httpx2.AsyncClient, outcome: Outcome) -> None:
    """Note it once."""
    text = (await client.get("/metrics")).text
    values = dict(re.findall(r"^(\w+) ([\d.e+-]+)$", text, re.M))
    outcome.memory.append(float(values["process_resident_memory_bytes"]) / 2**20)
    outcome.most_in_house = max(outcome.most_in_house, float(values["wavestill_in_house"]))


def check(outcome: Outcome, clips: list[np.ndarray], voice: Voice) -> int:
    """How many sounds are not what their own seed makes."""
    wrong = 0
    for asked, sound in outcome.sounds:
        frames = clips[asked.clip]
        if asked.is_live:  # where frames pass the conditioning network one by one
            singly = iter(np.split(frames, len(frames)))
            x = np.concatenate(list(stream(voice, singly, sampler=asked.sampler, seed=asked.seed)))
        else:
            x = synthesise(voice, frames, sampler=asked.sampler, seed=asked.seed)
        levels = np.clip(np.rint(x.astype(np.float64) * 32768), -32768, 32767)
        wrong += not np.array_equal(np.frombuffer(sound, "<i2"), levels)
    return wrong


def report(outcome: Outcome, wrong: int, ended: int) -> None:
    """Print it."""
    num_samples = sum(len(sound) // 2 for _, sound in outcome.sounds)
    print(f"{len(outcome.sounds)} sounds, {wrong} wrong; {num_samples:,} samples")
    print(f"{outcome.left} left early, {outcome.told_to_wait} told to come back (429)")
    for name, values in (("first sound", outcome.first_s), ("whole answer", outcome.whole_s)):
        shown = np.percentile(values or [float("nan")], [50, 90, 99, 100])
        parts = zip(("p50", "p90", "p99", "most"), shown, strict=True)
        print(f"{name}: " + "  ".join(f"{part} {value:.2f} s" for part, value in parts))
    quarter = outcome.memory[: max(1, len(outcome.memory) // 4)]
    print(
        f"memory: {outcome.memory[0]:.0f} MiB at first, {max(quarter):.0f} at most in the first "
        f"quarter, {max(outcome.memory):.0f} in all, {outcome.memory[-1]:.0f} at the end"
    )
    print(f"most in the house: {outcome.most_in_house:.0f}; the server ended with {ended}")
    for failure in sorted(set(outcome.failed))[:10]:
        print(f"failed ({outcome.failed.count(failure)}): {failure}")


def npy(frames: np.ndarray) -> bytes:
    """A `.npy` in memory."""
    file = io.BytesIO()
    np.save(file, frames, allow_pickle=False)
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())

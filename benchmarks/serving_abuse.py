"""Ten thousand requests that should not have been sent, against a running service.

    python benchmarks/serving_abuse.py VOICE [--requests 10000] [--schemathesis]

Malformed .npy, JSON, WAV and FLAC bodies, lying lengths, wrong parameters, tokens of HTTP that
are none, and slow bodies, over loopback from 16 threads; with --schemathesis (pip install
schemathesis) also what that derives from /openapi.json. Each must be answered by a 4xx with one
line that says why. The service runs in this process; an audit hook tells of every file it opens.
"""

import argparse
import asyncio
import collections
import contextlib
import http.client
import itertools
import json
import resource
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.serving.bad_bodies import bad_bodies
from wavestill import load
from wavestill.serving.app import Service
from wavestill.serving.limits import Limits
from wavestill.serving.server import Server

THREADS = 16
QUERIES = (
    "seed=-1",
    "seed=99999999999999999999",
    "seed=NaN",
    "seed=1&seed=x",
    "format=../../etc/passwd",
    "format=exe",
    "sampler=naive",
    "sampler=%00",
    "speaker=%2e%2e%2f",
    "speaker=" + "x" * 5000,
    "speaker=http://127.0.0.1/",
)
PATHS = (
    "/v1/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "//etc/passwd",
    "/v1/vocode/x",
    "/.git",
)
NO_HTTP = (
    b"ALL YOUR BASE\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"POST /v1/vocode HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/frames HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /v1/vocode HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
)


def main() -> int:
    """Send them; 1 if any was answered otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("voice", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--schemathesis", action="store_true")
    arguments = parser.parse_args()
    voice = load(arguments.voice)
    limits = Limits(max_seconds=2.0, max_waiting=100, body_timeout_s=2.0, timeout_s=600.0)
    server = Server(Service(voice, "abused", limits=limits), "127.0.0.1", 0)
    running = threading.Thread(target=lambda: asyncio.run(server.run_to_end()))
    running.start()
    while not server.started:
        time.sleep(0.05)
    opened = watch_files()
    counts: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    bodies = bad_bodies(0, voice.spec.num_features)
    jobs = list(itertools.islice(bodies, 200))
    abuse(server.bound_port, jobs, counts, wrong)  # what is loaded late is loaded now
    opened.clear()
    grown, began = [memory()], time.monotonic()
    for _ in range(0, arguments.requests, 1000):
        abuse(server.bound_port, list(itertools.islice(bodies, 1000)), counts, wrong)
        grown.append(memory())
    slow(server.bound_port, counts, wrong)
    seconds = time.monotonic() - began
    if arguments.schemathesis:
        wrong += schemathesis(server.bound_port)
    in_house = server._service.engine.num_in_house
    server.should_exit = True
    running.join(timeout=30)
    print(f"{sum(counts.values())} requests in {seconds:.0f} s: {dict(counts)}")
    print(f"memory, MiB, after each thousand: {[round(most) for most in grown]}")
    print(f"{in_house} places still held")
    print(f"files opened by the service: {sorted(set(opened)) or 'none'}")
    for what in sorted(set(wrong))[:20]:
        print("wrong:", what)
    return int(bool(wrong or opened or in_house or running.is_alive()))


def abuse(port: int, jobs: list, counts: collections.Counter, wrong: list[str]) -> None:
    """Send them all, 16 at a time."""
    lock = threading.Lock()

    def send(job: tuple[int, tuple[str, bytes, str]]) -> None:
        number, (kind, body, content_type) = job
        if number % 10 == 7:
            told = raw(port, NO_HTTP[number // 10 % len(NO_HTTP)])
            kind = "no_http"
        elif number % 10 == 8:
            path = PATHS[number // 10 % len(PATHS)]
            told, kind = request(port, "GET", path, b"", ""), "path"
        elif number % 10 == 9:
            query = QUERIES[number // 10 % len(QUERIES)]
            told, kind = request(port, "POST", f"/v1/vocode?{query}", body, content_type), "query"
        else:
            path = "/v1/vocode" if number % 2 else "/v1/frames"
            told = request(port, "POST", path, body, content_type)
        with lock:
            counts[kind] += 1
            if told:
                wrong.append(f"{kind}: {told}")

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(send, enumerate(jobs)))


def request(port: int, method: str, path: str, body: bytes, content_type: str) -> str:
    """What is wrong with the answer; '' if nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {"Content-Type": content_type})
        answer = connection.getresponse()
        text = answer.read()
        if not 400 <= answer.status < 500:
            return f"{answer.status} {text[:100]!r}"
        told = json.loads(text)
        return "" if set(told) == {"error"} and "\n" not in told["error"] else f"{text[:100]!r}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def raw(port: int, sent: bytes) -> str:
    """The same for what is no HTTP: a 4xx, or a closed connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
        try:
            plain.sendall(sent)
            plain.shutdown(socket.SHUT_WR)
            text = plain.recv(4096)
        except ConnectionError:
            return ""
    return (
        "" if not text or text.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")) else f"{text[:100]!r}"
    )


def slow(port: int, counts: collections.Counter, wrong: list[str]) -> None:
    """Bodies that come a byte at a time, or not at all: 408, in time."""
    held = []
    for _ in range(50):
        plain = socket.create_connection(("127.0.0.1", port), timeout=30)
        plain.sendall(b"POST /v1/vocode HTTP/1.1\r\nHost: localhost\r\n")
        plain.sendall(b"Content-Length: 1000\r\n\r\nx")
        held.append(plain)
    for _ in range(30):
        time.sleep(0.1)
        for plain in held:
            with contextlib.suppress(ConnectionError):
                plain.sendall(b"x")
    for plain in held:
        counts["slow"] += 1
        try:
            text = plain.recv(4096)
            if not text.startswith(b"HTTP/1.1 408"):
                wrong.append(f"slow: {text[:60]!r}")
        except ConnectionResetError:
            pass  # answered and closed while we still sent
        plain.close()


def schemathesis(port: int) -> list[str]:
    """What schemathesis finds."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,"
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "schemathesis"), "run"),
            f"http://127.0.0.1:{port}/openapi.json",
            *("--checks", checks + "response_schema_conformance,unsupported_method"),
            *("--max-examples", "150", "--phases", "examples,coverage,fuzzing"),
            *(
                "--request-timeout",
                "600",
                "--exclude-path",
                "/metrics",
                "--seed",
                "1",
                "--no-color",
            ),
        ],
        capture_output=True,
        text=True,
    )
    print("\n".join(done.stdout.splitlines()[-40:]))
    return [f"schemathesis ended with {done.returncode}"] if done.returncode else []


def watch_files() -> list[str]:
    """Files and programs that this process opens from now on, but for the clients' own needs."""
    opened: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        mine = threading.current_thread().name.startswith(("ThreadPool", "MainThread"))
        if not mine and event in {"open", "os.system", "subprocess.Popen", "socket.connect"}:
            opened.append(f"{event} {arguments[:2]}")

    sys.addaudithook(hook)
    return opened


def memory() -> float:
    """The most memory that this process ever had, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())

"""A service of the tiny voice, in this process."""

import asyncio
import http.client
import io
import signal
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from starlette.testclient import TestClient

from wavestill.publish import Voice
from wavestill.serving.app import Service
from wavestill.serving.limits import Limits
from wavestill.serving.server import Server

LIMITS = Limits(max_seconds=2.0, max_active=4, max_waiting=4, body_timeout_s=2.0, timeout_s=20.0)


@pytest.fixture(scope="package")
def service(tiny_voice: Voice) -> Service:
    return Service(tiny_voice, "tiny", limits=LIMITS)


@pytest.fixture(scope="package")
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(service.app, raise_server_exceptions=True) as client:
        yield client


@pytest.fixture(scope="package")
def frames(tiny_voice: Voice) -> np.ndarray:
    """Some plausible frames, (40, C)."""
    rng = np.random.default_rng(3)
    return rng.normal(-4, 1, (40, tiny_voice.spec.num_features)).astype(np.float32)


@pytest.fixture(scope="package")
def npy(frames: np.ndarray) -> bytes:
    return npy_of(frames)


def npy_of(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


class Running:
    """A server in a thread."""

    def __init__(
        self, service: Service, drain_s: float = 10.0, *, ping_interval_s: float = 20.0
    ) -> None:
        self.service = service
        self.server = Server(service, "127.0.0.1", 0, drain_s=drain_s)
        self.server.config.ws_ping_interval = ping_interval_s
        self.thread = threading.Thread(
            target=lambda: asyncio.run(self.server.run_to_end()), daemon=True
        )
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.port = self.server.bound_port

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def get(self, path: str) -> int:
        connection = self.connect()
        connection.request("GET", path)
        status = connection.getresponse().status
        connection.close()
        return status


LONG = Limits(max_seconds=30, max_active=2, max_waiting=1, body_timeout_s=1.0, timeout_s=60.0)


@pytest.fixture
def running(tiny_voice: Voice) -> Iterator[Running]:
    running = Running(Service(tiny_voice, "tiny", limits=LONG))
    yield running
    running.server.handle_exit(signal.SIGTERM, None)
    running.thread.join(timeout=30)
    assert not running.thread.is_alive()


def deadline_is_met(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "still not so"
        time.sleep(0.01)

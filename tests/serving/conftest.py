"""A service of the tiny voice, in this process."""

import io
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from starlette.testclient import TestClient

from wavestill.publish import Voice
from wavestill.serving.app import Service
from wavestill.serving.limits import Limits

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


def deadline_is_met(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "still not so"
        time.sleep(0.01)

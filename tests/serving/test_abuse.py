"""Whatever a client sends, it is told what is wrong with it, and nothing else happens."""

import io
import itertools
import json
import struct
import sys
import tracemalloc

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from tests.serving.bad_bodies import bad_bodies, npy_with_header
from tests.serving.conftest import LIMITS, npy_of
from wavestill.publish import Voice
from wavestill.serving.bodies import frames_of_body
from wavestill.serving.refusals import Refusal

pytestmark = pytest.mark.usefixtures("one_thread")


def complaint(answer) -> str:
    """The one line of a refusal."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    told = answer.json()
    assert set(told) == {"error"}
    assert told["error"]
    assert "\n" not in told["error"]
    assert "Traceback" not in told["error"]
    return told["error"]


@pytest.mark.parametrize("path", ["/v1/vocode", "/v1/frames"])
def test_bad_bodies_are_refused_in_one_line(client: TestClient, path: str):
    told = {}
    for kind, body, content_type in itertools.islice(bad_bodies(1, 64), 150):
        answer = client.post(path, content=body, headers={"content-type": content_type})
        told.setdefault(kind, set()).add(complaint(answer))
    assert len(told) == 12


def test_nothing_is_allocated_on_a_headers_word(tiny_voice: Voice):
    """Headers that claim terabytes cost no more than the body itself."""
    claims = f"{{'descr': '<f8', 'fortran_order': False, 'shape': (150, {64}), }}\n"
    huge = f"{{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000, {64}), }}\n"
    wav = bytearray(wav_of(np.zeros(100, np.int16)))
    struct.pack_into("<I", wav, 40, 2**31)
    struct.pack_into("<I", wav, 4, 2**31 + 36)
    tracemalloc.start()
    try:
        for body in (npy_with_header(claims), npy_with_header(huge), bytes(wav)):
            with pytest.raises(Refusal):
                frames_of_body(body, "", tiny_voice, LIMITS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_no_file_is_opened(client: TestClient, npy: bytes):
    """Python tells of every file and address that is opened: there is none."""
    opened: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple) -> None:
        if watching and event in {"open", "os.system", "subprocess.Popen", "socket.connect"}:
            opened.append(f"{event} {arguments}")

    client.post("/v1/vocode", content=npy)  # what is loaded late is loaded now
    client.post("/v1/vocode", content=wav_of(np.zeros(4000, np.int16)))
    sys.addaudithook(hook)
    try:
        for _, body, content_type in itertools.islice(bad_bodies(2, 64), 100):
            client.post("/v1/vocode", content=body, headers={"content-type": content_type})
        for path in ("/../../etc/passwd", "/%2e%2e/app.py", "/page/app.js", "//etc/passwd"):
            assert client.get(path).status_code == 404
        client.get("/app.js")
        assert client.post("/v1/vocode", content=npy).status_code == 200
    finally:
        watching = False
    assert opened == []


def wav_of(levels: np.ndarray, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, levels, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def flac_of(levels: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, levels, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


REFUSED = {
    "too many frames": (lambda: npy_of(np.zeros((161, 64), np.float32)), 413, "at most 160"),
    "too many frames in JSON": (
        lambda: json.dumps({"frames": [[0] * 64] * 161}).encode(),
        413,
        "at most 160",
    ),
    "too long a recording": (lambda: wav_of(np.ones(17000, np.int16)), 413, "at most 2 s"),
    "packed silence": (
        lambda: flac_of(np.zeros((300_000, 8), np.int16), 192_000),
        413,
        "2,400,000 samples; send at most 768,000",
    ),
    "a damaged recording": (lambda: wav_of(np.ones(100, np.int16))[:30], 422, "damaged (Error in"),
    "too large a body": (lambda: b"RIFF" + bytes(3_000_000), 413, "too large"),
    "pickled": (
        lambda: npy_with_header("{'descr': '|O', 'fortran_order': False, 'shape': (1, 64), }\n"),
        422,
        "holds object",
    ),
    "an empty body": (lambda: b"", 422, "empty"),
    "another spec's": (lambda: npy_of(np.zeros((5, 80), np.float32)), 422, "(frames, 64)"),
    "too many channels": (lambda: wav_of(np.ones((99, 9), np.int16)), 422, "at most 8"),
    "too low a rate": (lambda: wav_of(np.ones(99, np.int16), 3999), 422, "4,000 to 192,000 Hz"),
    "silence": (lambda: wav_of(np.zeros(4000, np.int16)), 422, "silent"),
    "a picture": (lambda: b"\x89PNG\r\n", 415, "neither"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_would_do(client: TestClient, name: str):
    make, status, words = REFUSED[name]
    headers = {"content-type": "application/json" if "JSON" in name else ""}
    answer = client.post("/v1/vocode", content=make(), headers=headers)
    assert answer.status_code == status
    assert words in complaint(answer)


def test_a_body_of_untold_length_is_bounded_as_well(client: TestClient):
    parts = (bytes(100_000) for _ in range(30))
    assert "too large" in complaint(client.post("/v1/vocode", content=parts))


def test_as_many_frames_as_are_told_are_taken(client: TestClient):
    [model] = client.get("/v1/models").json()["models"]
    frames = np.full((model["max_frames"], model["num_features"]), -5, np.float32)
    assert client.post("/v1/vocode", content=npy_of(frames)).status_code == 200


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("seed=-1", "'seed'"),
        ("seed=4294967296", "'seed'"),
        ("seed=1.5", "'seed'"),
        ("format=mp3", "'format'"),
        ("sampler=naive", "'sampler'"),
        ("speaker=../../x", "no speaker"),
        ("speaker=" + "x" * 300, "'speaker'"),
        ("speaker=a%0Ab", "no speaker 'a b'"),
    ],
)
def test_bad_parameters_are_refused(client: TestClient, npy: bytes, query: str, words: str):
    assert words in complaint(client.post(f"/v1/vocode?{query}", content=npy))


def test_unknown_paths_and_methods(client: TestClient):
    assert client.get("/v1/nothing").status_code == 404
    assert client.get("/v1/vocode").status_code == 405
    assert client.delete("/v1/models").status_code == 405

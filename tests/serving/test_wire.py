"""What clients do to the connection itself: leave at odd moments, never end, never listen."""

import contextlib
import re
import signal
import socket
import struct
import time
from collections.abc import Callable

import numpy as np
import pytest

from tests.serving.conftest import LONG, Running
from wavestill.publish import Voice
from wavestill.serving import server
from wavestill.serving.app import Service

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


def message(kind: int, payload: bytes = b"") -> bytes:
    """A WebSocket message of a client, under a mask of zeros."""
    size = len(payload)
    head = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
    return bytes([0x80 | kind]) + head + bytes(4) + payload


def connected(running: Running, *, receive_bytes: int | None = None) -> socket.socket:
    plain = socket.socket()
    if receive_bytes is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    plain.settimeout(20)
    plain.connect(("127.0.0.1", running.port))
    return plain


def live(running: Running, *, receive_bytes: int | None = None) -> socket.socket:
    """A WebSocket after its handshake."""
    plain = connected(running, receive_bytes=receive_bytes)
    plain.sendall(
        b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += plain.recv(1)
    assert head.startswith(b"HTTP/1.1 101")
    return plain


def until_closed(plain: socket.socket) -> bytes:
    """What the service still says."""
    told = b""
    while part := plain.recv(65536):
        told += part
        if re.search(rb"\x88.\x03[\xe8-\xf4]", told, re.S):  # it closes, and waits for us to
            break
    plain.close()
    return told


def comes_true(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_who_leaves_with_the_first_message_is_not_drawn_for(running: Running):
    for _ in range(3):
        plain = live(running)
        plain.sendall(message(TEXT, b"{}") + message(CLOSE))
        plain.close()
    engine = running.service.engine
    time.sleep(0.5)
    assert comes_true(lambda: engine.num_in_house == engine.num_active == engine.num_waiting == 0)


@pytest.mark.parametrize(
    "speaker",
    ["eve", "声" * 100, r"\ud800", "e" * 500],
    ids=["short", "three bytes a letter", "half a letter", "long"],
)
def test_whatever_is_refused_is_told_and_then_closed(running: Running, speaker: str):
    plain = live(running)
    plain.sendall(message(TEXT, f'{{"speaker": "{speaker}"}}'.encode()))
    told = until_closed(plain)
    assert told[:1] == b"\x81"  # a text
    assert b"no speaker" in told
    assert struct.pack(">H", 1008) in told  # and why the connection is closed


def test_what_comes_after_the_end_is_refused(running: Running):
    plain = live(running)
    frames, ends = message(BINARY, bytes(200 * 256)), message(TEXT, b'{"end": true}')
    plain.sendall(message(TEXT, b"{}") + frames + ends + frames)  # it draws for a while
    assert b"after the end" in until_closed(plain)


@pytest.mark.parametrize("num_bytes", [17_000, 200_000])
def test_a_request_has_a_head_of_bounded_size(running: Running, num_bytes: int):
    plain = connected(running)
    with contextlib.suppress(ConnectionError):  # it need not be read to its end
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * num_bytes + b"\r\n\r\n")
    with contextlib.suppress(ConnectionResetError):
        assert until_closed(plain).startswith(b"HTTP/1.1 400")
    plain.close()


def test_bodies_that_nobody_reads_end_in_time(running: Running, monkeypatch: pytest.MonkeyPatch):
    """Of a request that is answered before its end: each byte more must not be waited for anew."""
    monkeypatch.setattr(server, "_HEAD_TIMEOUT_S", 1.0)
    plain = connected(running)
    plain.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
    assert b"404" in plain.recv(1000)

    def is_cut_off() -> bool:
        try:
            plain.sendall(b"x")
        except ConnectionError:
            return True
        return False

    assert comes_true(is_cut_off)
    plain.close()


def test_who_takes_nothing_is_sent_no_more_and_cut_off(
    running: Running, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server, "_UNHEARD_TIMEOUT_S", 3.0)
    plain = live(running, receive_bytes=4096)
    [connection] = running.server.server_state.connections
    pings = message(PING, bytes(125)) * 1000
    most = 0
    with contextlib.suppress(OSError):  # it may be cut off before all are sent
        for _ in range(100):
            plain.sendall(pings)
            most = max(most, connection.transport.get_write_buffer_size())
    assert most < 1_000_000  # answers of 13 MB were asked for
    assert comes_true(lambda: not running.server.server_state.connections)
    plain.close()


def test_connections_are_bounded(running: Running, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "_CONNECTIONS_MAX", 3)
    held = [live(running), connected(running), connected(running)]
    assert comes_true(lambda: len(running.server.server_state.connections) == 3)
    with connected(running) as plain, contextlib.suppress(ConnectionError):
        assert plain.recv(1) == b""
    held.pop().close()
    assert comes_true(lambda: len(running.server.server_state.connections) == 2)
    assert running.get("/healthz") == 200
    for plain in held:
        plain.close()


@pytest.mark.slow
def test_who_sends_ahead_is_not_taken_for_dead(tiny_voice: Voice):
    """Its answer to a ping lies behind the frames that are not read yet."""
    running = Running(Service(tiny_voice, "tiny", limits=LONG), ping_interval_s=0.2)
    frame = np.full(tiny_voice.spec.num_features, -5, "<f4").tobytes()
    plain = live(running)
    plain.sendall(message(TEXT, b"{}"))
    for _ in range(23):  # pings have their answer within 20 s by uvicorn's default
        plain.sendall(message(BINARY, frame))
        time.sleep(1)
    plain.sendall(message(TEXT, b'{"end": true}'))
    assert b'"done": true' in until_closed(plain)
    running.server.handle_exit(signal.SIGTERM, None)
    running.thread.join(timeout=30)


def test_a_second_signal_ends_it_at_once(tiny_voice: Voice, capsys: pytest.CaptureFixture[str]):
    running = Running(Service(tiny_voice, "tiny", limits=LONG), drain_s=60.0)
    plain = live(running)
    plain.sendall(message(TEXT, b"{}"))
    assert comes_true(lambda: running.service.engine.num_in_house == 1)
    for _ in range(2):
        running.server.handle_exit(signal.SIGINT, None)
    assert struct.pack(">H", 1012) in until_closed(plain)
    running.thread.join(timeout=20)
    assert not running.thread.is_alive()
    assert capsys.readouterr().err == ""

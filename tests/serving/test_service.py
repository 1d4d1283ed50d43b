"""Places, tokens, metrics, the description, and an end in good order."""

import asyncio
import dataclasses
import http.client
import json
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from tests.serving.conftest import LONG, Running, deadline_is_met, npy_of
from wavestill import cli
from wavestill.commands.serve import TOKEN_VARIABLE, _token
from wavestill.nn.conditioning import Encoded
from wavestill.publish import Voice
from wavestill.serving.app import Service
from wavestill.serving.drawings import STRETCH_SAMPLES, Models, NativeDrawing
from wavestill.serving.engine import Engine
from wavestill.serving.refusals import Refusal
from wavestill.serving.server import Server, is_local
from wavestill.serving.tickets import PIECES_MAX, Order, Ticket

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_description_and_the_voice(client: TestClient, tiny_voice: Voice):
    [model] = client.get("/v1/models").json()["models"]
    assert model["samplers"] == ["student", "native", "speculative"]
    assert model["spec"] == tiny_voice.spec.to_dict()
    assert model["max_frames"] == 160
    description = client.get("/openapi.json").json()
    vocode = description["paths"]["/v1/vocode"]["post"]
    assert {"200", "401", "413", "415", "422", "429", "503"} <= set(vocode["responses"])
    example = vocode["requestBody"]["content"]["application/json"]["example"]
    answer = client.post("/v1/vocode", json=example)
    assert answer.status_code == 200  # the example is one


def told_of(service: Service, name: str) -> float:
    """A figure of the service's own text for Prometheus."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", service.metrics.text().decode(), re.M)
    return float(found.group(1)) if found else 0.0


COUNTED = {
    'wavestill_requests_total{path="/v1/vocode",status="200"}': 1,
    'wavestill_request_seconds_count{path="/v1/vocode"}': 1,
    'wavestill_first_sound_seconds_count{sampler="student"}': 1,
    'wavestill_sound_seconds_total{sampler="student"}': 40 * 100 / 8000,
}


def test_metrics_count(client: TestClient, service: Service, npy: bytes):
    before = {name: told_of(service, name) for name in COUNTED}
    client.post("/v1/vocode", content=npy)
    for name, more in COUNTED.items():
        assert told_of(service, name) == pytest.approx(before[name] + more), name
    client.get("/a/path/nobody/knows")
    assert "nobody" not in client.get("/metrics").text
    assert told_of(service, "wavestill_places") == 8


def test_the_gauges_show_what_is_so(service: Service, monkeypatch: pytest.MonkeyPatch):
    def shown() -> list[float]:
        names = ("in_house", "active", "waiting", "draining")
        return [told_of(service, f"wavestill_{name}") for name in names]

    assert shown() == [0, 0, 0, 0]
    with service.engine.place():
        assert shown() == [1, 0, 0, 0]
    monkeypatch.setattr(service.gate, "is_draining", True)
    assert shown() == [0, 0, 0, 1]


def test_a_token_is_asked_for(tiny_voice: Voice, npy: bytes):
    service = Service(tiny_voice, "tiny", token="sesame")
    with TestClient(service.app) as client:
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        assert client.get("/").status_code == 200
        others = ("other", "", "sesam", "sesame2", "SESAME")
        for headers in (
            {},
            {"authorization": "sesame"},
            *({"authorization": f"Bearer {other}"} for other in others),
        ):
            for path in ("/v1/models", "/metrics"):
                answer = client.get(path, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
            assert client.post("/v1/vocode", content=npy, headers=headers).status_code == 401
        right = {"authorization": "Bearer sesame"}
        assert client.post("/v1/vocode", content=npy, headers=right).status_code == 200
        with client.websocket_connect("/v1/stream") as websocket:
            websocket.send_text('{"token": "other"}')
            assert "Bearer" in websocket.receive_json()["error"]
        with client.websocket_connect("/v1/stream") as websocket:
            websocket.send_text('{"token": "sesame"}')
            assert websocket.receive_json()["sample_rate"] == 8000


def test_other_sites_are_refused(client: TestClient, npy: bytes):
    def ask(origin: str) -> int:
        answer = client.post("/v1/vocode", content=npy, headers={"origin": origin})
        return answer.status_code

    assert ask("http://testserver") == 200
    others = ("https://evil.example", "http://testserver.evil.example", "http://testserver:81")
    for origin in (*others, "null", "http://["):
        assert ask(origin) == 403


def test_names_that_others_point_here_are_refused(tiny_voice: Voice, running: Running):
    """A page of theirs would be of the same origin as the service, by a name of their own."""

    def ask(running: Running, host: str, **headers: str) -> int:
        connection = running.connect()
        connection.request("GET", "/v1/models", headers={"Host": host, **headers})
        status = connection.getresponse().status
        connection.close()
        return status

    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:80", "[::1]:8000", "a.localhost"):
        assert ask(running, host) == 200, host
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[", "a@b:c"):
        assert ask(running, host) == 403, host
    with_token = Running(Service(tiny_voice, "tiny", token="sesame"))
    assert ask(with_token, "proxied.example", Authorization="Bearer sesame") == 200
    with_token.server.handle_exit(signal.SIGTERM, None)
    with_token.thread.join(timeout=30)


def begun(running: Running, body: bytes, query: str = "") -> http.client.HTTPConnection:
    """A request whose body is on its way, and whose place is taken."""
    connection = running.connect()
    before = running.service.engine.num_in_house
    connection.putrequest("POST", f"/v1/vocode?{query}")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:100])
    until = time.monotonic() + 10
    while running.service.engine.num_in_house == before:
        assert time.monotonic() < until
        time.sleep(0.005)
    return connection


def test_when_all_places_are_taken_one_is_told_to_come_back(running: Running, npy: bytes):
    held = [begun(running, npy) for _ in range(LONG.places)]
    connection = running.connect()
    connection.request("POST", "/v1/vocode", npy)
    answer = connection.getresponse()
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert "places are taken" in json.loads(answer.read())["error"]
    connection.close()
    for connection in held:  # they send the rest, and are served
        connection.send(npy[100:])
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
        connection.close()


@pytest.mark.parametrize("drips", [False, True], ids=["stops", "drips"])
def test_slow_bodies_lose_their_place(running: Running, npy: bytes, drips: bool):
    connection = begun(running, npy)
    assert connection.sock is not None
    for number in range(100, 150 if drips else 100):  # byte by byte, or the rest never comes
        if select.select([connection.sock], [], [], 0.2)[0]:
            break
        connection.send(npy[number : number + 1])
        assert number < 125
    answer = connection.getresponse()
    assert answer.status == 408
    assert "send it faster" in json.loads(answer.read())["error"]
    connection.close()
    assert running.service.engine.num_in_house == 0


def test_clients_that_leave_are_not_drawn_for(running: Running, tiny_voice: Voice):
    columns = tiny_voice.spec.num_features
    frames = npy_of(np.full((2400, columns), -5, np.float32))
    for _ in range(6):
        plain = socket.create_connection(("127.0.0.1", running.port))
        head = "POST /v1/vocode?sampler=speculative HTTP/1.1\r\nHost: localhost\r\n"
        plain.sendall(f"{head}Content-Length: {len(frames)}\r\n\r\n".encode() + frames)
        time.sleep(0.05)
        plain.close()
    engine = running.service.engine
    deadline_is_met(lambda: engine.num_in_house == engine.num_active == engine.num_waiting == 0)


@pytest.mark.parametrize("format_", ["wav", "flac"])
def test_a_sound_that_is_not_done_in_time_does_not_look_whole(
    tiny_voice: Voice, npy: bytes, format_: str
):
    running = Running(Service(tiny_voice, "tiny", limits=dataclasses.replace(LONG, timeout_s=0.5)))
    connection = running.connect()
    query = f"sampler=speculative&format={format_}"  # a step or two per round, if untrained
    connection.request("POST", f"/v1/vocode?{query}", npy)
    answer = connection.getresponse()
    assert answer.status == 200
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()
    deadline_is_met(lambda: running.service.engine.num_in_house == 0)
    counted = 'wavestill_requests_total{path="/v1/vocode",status="%d"}'
    deadline_is_met(lambda: told_of(running.service, counted % 499) == 1)
    assert told_of(running.service, counted % 200) == 0
    running.server.handle_exit(signal.SIGTERM, None)
    running.thread.join(timeout=30)


def test_a_head_that_does_not_come_ends_the_connection(
    running: Running, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("wavestill.serving.server._HEAD_TIMEOUT_S", 0.3)
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost")
        assert plain.recv(100) == b""


@pytest.mark.parametrize("signals", [1, 2])
def test_an_end_does_not_wait_for_ever(tiny_voice: Voice, npy: bytes, signals: int):
    """What has begun and does not end is left at the second signal, or when time is over."""
    limits = dataclasses.replace(LONG, body_timeout_s=60.0)
    running = Running(Service(tiny_voice, "tiny", limits=limits), drain_s=60 if signals > 1 else 0)
    held = begun(running, npy)
    for _ in range(signals):
        running.server.handle_exit(signal.SIGTERM, None)
    deadline_is_met(lambda: running.server.should_exit)
    assert running.server.force_exit == (signals > 1)
    held.close()
    running.thread.join(timeout=30)
    assert not running.thread.is_alive()


def test_draining_finishes_what_has_begun(tiny_voice: Voice, npy: bytes):
    running = Running(Service(tiny_voice, "tiny", limits=LONG))
    held = begun(running, npy)
    assert running.get("/readyz") == 200
    running.server.handle_exit(signal.SIGTERM, None)
    assert running.get("/readyz") == 503
    assert running.get("/healthz") == 200
    refused = running.connect()
    refused.request("POST", "/v1/vocode", npy)
    assert refused.getresponse().status == 503
    refused.close()
    held.send(npy[100:])
    answer = held.getresponse()
    assert answer.status == 200
    assert len(answer.read()) == 44 + 2 * 40 * 100
    held.close()
    running.thread.join(timeout=30)
    assert not running.thread.is_alive()


def test_a_taken_port_is_told(running: Running, voice_path: Path, capsys):
    assert cli.run(["serve", str(voice_path), "--port", str(running.port)]) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(r"wavestill: port \d+ of '127.0.0.1' cannot be taken .*\n", error), error


def test_an_address_of_another_machine_is_told(tiny_voice: Voice):
    with pytest.raises(ValueError, match="give another --host"):
        Server(Service(tiny_voice, "tiny"), "192.0.2.1", 0)


def test_a_client_that_does_not_listen_is_not_drawn_for(tiny_voice: Voice):
    """Its sound is made a few pieces ahead, and its frames are taken no further than that."""
    engine = Engine(tiny_voice, LONG)
    frames = np.full((16, tiny_voice.spec.num_features), -5, np.float32)

    async def pour() -> tuple[int, int]:
        ticket = engine.submit(Order("student"), seconds=60)
        offered = 0
        try:
            while offered < 1000:
                await asyncio.wait_for(ticket.offer(frames), 1.0)
                offered += 1
        except asyncio.TimeoutError:
            pass
        heard = 0
        for _ in range(PIECES_MAX):
            piece = await asyncio.wait_for(ticket.take(), 10)
            assert piece is not None
            heard += len(piece.levels)
        await asyncio.wait_for(ticket.offer(frames), 10)  # there is room again
        ticket.cancel()
        return offered, heard

    offered, heard = asyncio.run(pour())
    engine.stop()
    assert offered <= PIECES_MAX + 256 // 16 + 1
    assert heard <= PIECES_MAX * 16 * tiny_voice.spec.hop_samples


def test_who_does_not_keep_up_holds_up_nobody(tiny_voice: Voice):
    """Sounds whose frames are still to come leave their turns to others, however many they are."""
    engine = Engine(tiny_voice, LONG)
    frames = np.full((3, tiny_voice.spec.num_features), -5, np.float32)

    async def drawn_beside_idle_ones() -> bool:
        idle = [engine.submit(Order("student"), seconds=60) for _ in range(LONG.max_active)]
        ticket = engine.submit(Order("student", frames=frames), seconds=60)
        try:
            return await asyncio.wait_for(ticket.take(), 5) is not None
        finally:
            for each in (*idle, ticket):
                each.cancel()

    drawn = asyncio.run(drawn_beside_idle_ones())
    engine.stop()
    assert drawn


def test_sounds_side_by_side_are_drawn_for_those_who_are_here(tiny_voice: Voice):
    def order(num_frames: int) -> Order:
        frames = np.full((num_frames, tiny_voice.spec.num_features), -5, np.float32)
        return Order("native", frames=frames)

    async def drawn_when_the_longest_leaves() -> tuple[int, int]:
        short, long = (Ticket(order(length), 60, lambda: None) for length in (50, 100))
        drawing = NativeDrawing(Models(tiny_voice), [short, long])
        drawing.turn()
        long.cancel()
        turns = 1
        while not drawing.turn():
            turns += 1
        heard = 0
        while (piece := await short.take()) is not None:
            heard += len(piece.levels)
        return heard, turns

    heard, turns = asyncio.run(drawn_when_the_longest_leaves())
    assert heard == 50 * tiny_voice.spec.hop_samples
    assert turns * STRETCH_SAMPLES // 2 < 75 * tiny_voice.spec.hop_samples


def test_a_sound_that_cannot_be_is_refused_and_those_beside_it_are_made(tiny_voice: Voice):
    async def drawn() -> tuple[int, Refusal]:
        frames = np.full((3, tiny_voice.spec.num_features), -5, np.float32)
        bad, good = (Ticket(Order("native", frames=frames), 60, lambda: None) for _ in range(2))
        drawing = NativeDrawing(Models(tiny_voice), [bad, good])
        extend = drawing._sampler.extend

        def spoilt(noise: torch.Tensor, context: Encoded) -> torch.Tensor:
            x = extend(noise, context)
            x[0, 5] = torch.nan
            return x

        drawing._sampler.extend = spoilt  # type: ignore[method-assign]
        while not drawing.turn():
            pass
        heard = 0
        while (piece := await good.take()) is not None:
            heard += len(piece.levels)
        with pytest.raises(Refusal, match="not finite") as refused:
            await bad.take()
        return heard, refused.value

    heard, refusal = asyncio.run(drawn())
    assert heard == 3 * tiny_voice.spec.hop_samples
    assert refusal.status == 422


def test_a_service_that_draws_no_more_is_not_healthy(tiny_voice: Voice):
    service = Service(tiny_voice, "tiny")
    client = TestClient(service.app, base_url="http://127.0.0.1")
    assert client.get("/healthz").status_code == 200
    service.engine.stop()
    assert client.get("/healthz").status_code == 503


def test_who_waits_too_long_or_no_more_is_forgotten(tiny_voice: Voice):
    engine = Engine(tiny_voice, LONG)

    def order(sampler, num_frames: int) -> Order:
        frames = np.full((num_frames, tiny_voice.spec.num_features), -5, np.float32)
        return Order(sampler, frames=frames)

    async def crowd() -> None:
        # of such different lengths that each is drawn by itself
        busy = [engine.submit(order("native", length), seconds=60) for length in (1200, 9000)]
        for ticket in busy:
            await ticket.take()
        gone, kept = (engine.submit(order("student", 3), seconds=60) for _ in range(2))
        late = engine.submit(order("student", 3), seconds=0.05)
        gone.cancel()
        with pytest.raises(Refusal, match="not done within its time"):
            await late.take()
        while engine.num_waiting > 1:
            await asyncio.sleep(0.01)
        for ticket in (*busy, kept):
            ticket.cancel()

    asyncio.run(asyncio.wait_for(crowd(), 20))
    deadline_is_met(lambda: engine.num_active == engine.num_waiting == 0)
    engine.stop()


def test_only_this_machine_is_local():
    assert all(is_local(host) for host in ("localhost", "127.0.0.1", "127.1.2.3", "::1"))
    assert not any(is_local(host) for host in ("0.0.0.0", "::", "192.168.0.2", "127.example.org"))


def test_where_the_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert _token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, " of the environment ")
    assert _token(None) == "of the environment"
    (tmp_path / "token").write_text("of the file\nand a remark\n")
    assert _token(tmp_path / "token") == "of the file"
    (tmp_path / "token").write_text("\n \n")
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    for source in (tmp_path / "token", None):
        with pytest.raises(ValueError, match="is empty; write one there"):
            _token(source)
    monkeypatch.setenv(TOKEN_VARIABLE, "sésame")
    with pytest.raises(ValueError, match="more than ASCII"):
        _token(None)


@pytest.mark.parametrize("has_token", [False, True])
def test_a_service_that_others_can_reach_is_warned_of(
    voice_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, has_token: bool
):
    async def closed_at_once(server: Server, _: str) -> None:
        server._socket.close()

    monkeypatch.setattr("wavestill.commands.serve._serve", closed_at_once)
    monkeypatch.setattr("wavestill.serving.server.is_local", lambda _: False)
    monkeypatch.setenv(TOKEN_VARIABLE, "sesame")
    if not has_token:
        monkeypatch.delenv(TOKEN_VARIABLE)
    assert cli.run(["serve", str(voice_path), "--port", "0"]) == 0
    assert ("there is no token" in capsys.readouterr().err) != has_token


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        (("--port", "65536"), "'port' is 65536"),
        (("--max-seconds", "0"), "'max_seconds' is 0"),
        (("--max-active", "0"), "'max_active' is 0"),
        (("--drain-s", "-1"), "'drain_s' is -1"),
    ],
)
def test_what_cannot_be_served_is_refused(
    voice_path: Path,
    capsys,
    monkeypatch: pytest.MonkeyPatch,
    option: tuple[str, str],
    complaint: str,
):
    monkeypatch.setattr("wavestill.commands.serve._serve", lambda *_: pytest.fail("served"))
    assert cli.run(["serve", str(voice_path), *option]) == 1
    assert complaint in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_serves_and_ends_with_0(voice_path: Path, npy: bytes):
    command = [sys.executable, "-m", "wavestill.cli", "serve", str(voice_path), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.match(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
    assert found
    connection = http.client.HTTPConnection("127.0.0.1", int(found.group(1)), timeout=60)
    connection.request("POST", "/v1/vocode", npy)
    assert connection.getresponse().read()[:4] == b"RIFF"
    connection.close()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert errors == ""

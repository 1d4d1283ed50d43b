"""Live sound: the same however its frames are cut into messages, and KL where it is asked for."""

import json

import numpy as np
import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from tests.serving.conftest import deadline_is_met
from wavestill import stream
from wavestill.publish import Voice
from wavestill.serving.app import Service
from wavestill.serving.judging import STEPS_PER_FRAME
from wavestill.serving.limits import Limits

pytestmark = pytest.mark.usefixtures("one_thread")


def spoken(client: TestClient, parts: list[np.ndarray], **asked) -> tuple[np.ndarray, list[dict]]:
    """Sound and texts of one stream."""
    sound, texts = [], []
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_text(json.dumps(asked))
        texts.append(socket.receive_json())
        for part in parts:
            socket.send_bytes(part.astype("<f4").tobytes())
        socket.send_text('{"end": true}')
        while not texts[-1].get("done"):
            message = socket.receive()
            if message["type"] == "websocket.close":
                raise AssertionError(f"closed after {texts[-1]}")
            if message.get("bytes") is not None:
                sound.append(np.frombuffer(message["bytes"], "<i2"))
            else:
                texts.append(json.loads(message["text"]))
    return np.concatenate(sound), texts


@pytest.mark.parametrize("sampler", ["student", "native"])
def test_live_sound_is_that_of_the_whole(
    client: TestClient, tiny_voice: Voice, frames: np.ndarray, npy: bytes, sampler: str
):
    whole = client.post(
        "/v1/vocode", params={"seed": 5, "sampler": sampler, "format": "pcm"}, content=npy
    )
    levels = np.frombuffer(whole.content, "<i2").astype(int)
    cuts = [
        spoken(client, np.array_split(frames, n), seed=5, sampler=sampler)[0] for n in (1, 3, 40)
    ]
    singly = iter(np.split(frames, len(frames)))
    x = np.concatenate(list(stream(tiny_voice, singly, sampler=sampler, seed=5)))
    for sound in cuts:  # to the bit, however it was cut
        np.testing.assert_array_equal(sound, np.clip(np.rint(x * 32768.0), -32768, 32767))
    # Frames one by one pass the conditioning network with other rounding than all at once.
    assert cuts[0].shape == levels.shape
    assert np.abs(cuts[0] - levels).max() <= 2


def test_kl_comes_with_the_sound(client: TestClient, frames: np.ndarray, tiny_voice: Voice):
    sound, texts = spoken(client, [frames], seed=5, kl=True)
    plain, _ = spoken(client, [frames], seed=5)
    np.testing.assert_array_equal(sound, plain)
    told = [text for text in texts if "kl_nats" in text]
    kl = np.concatenate([text["kl_nats"] for text in told])
    assert len(kl) == len(frames)
    assert [t["first_frame"] for t in told] == np.cumsum(
        [0, *(len(t["kl_nats"]) for t in told[:-1])]
    ).tolist()
    every = tiny_voice.spec.hop_samples // STEPS_PER_FRAME
    exact = kl_of_the_draw(tiny_voice, frames, seed=5)[:, ::every].mean(1)
    # both integrate with random points within strata, the service with a quarter as many
    np.testing.assert_allclose(kl, exact, rtol=0.15)
    assert kl.mean() == pytest.approx(exact.mean(), rel=0.02)


def kl_of_the_draw(voice: Voice, frames: np.ndarray, seed: int) -> np.ndarray:
    """KL of every step, (F, hop), by whole passes of both models."""
    import torch

    from wavestill.density import Conditioning
    from wavestill.distributions import counter_noise
    from wavestill.divergences import KL

    student, teacher = voice.require_student(), voice.require_teacher()
    context = Conditioning(torch.tensor(frames)[None])
    length = len(frames) * voice.spec.hop_samples
    noise = counter_noise(student.base, seed, 1, length, dtype=torch.float32)
    with torch.no_grad():
        draw = student.rsample(noise, context)
        kl = KL(64)(
            draw.conditionals,
            teacher.conditionals(draw.x, context),
            generator=torch.Generator().manual_seed(0),
        )
    return kl.view(len(frames), -1).numpy()


def test_the_recordings_gain_is_undone(client: TestClient, frames: np.ndarray):
    loud, _ = spoken(client, [frames], seed=5)
    quiet, _ = spoken(client, [frames], seed=5, gain_db=20.0)
    assert np.abs(loud).max() > 1000
    np.testing.assert_allclose(quiet, loud / 10, atol=0.5 + 0.05)  # each rounded once


BAD_BEGINNINGS = {
    "no JSON": ("{", "first message"),
    "a list": ("[1]", "first message"),
    "an unknown key": ('{"path": "/etc/passwd"}', "unknown key 'path'"),
    "a bad seed": ('{"seed": -1}', "'seed'"),
    "a seed that is true": ('{"seed": true}', "'seed'"),
    "speculative": ('{"sampler": "speculative"}', "'sampler'"),
    "a list as sampler": ('{"sampler": ["student"]}', "'sampler'"),
    "a gain of NaN": ('{"gain_db": NaN}', "'gain_db'"),
    "nobody's voice": ('{"speaker": "eve"}', "no speaker 'eve'"),
    "KL of the teacher": ('{"kl": true, "sampler": "native"}', "'kl' needs"),
    "deep JSON": ("[" * 100_000, "first message"),
}


@pytest.mark.parametrize("beginning", BAD_BEGINNINGS)
def test_bad_beginnings_are_refused(client: TestClient, beginning: str):
    sent, complaint = BAD_BEGINNINGS[beginning]
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_text(sent)
        assert complaint in socket.receive_json()["error"]
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 1008


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        (b"", "no number of whole frames"),
        (b"\0" * 17, "no number of whole frames"),
        (np.full(64, np.nan, "<f4").tobytes(), "not finite"),
        (np.full(64, 1e30, "<f4").tobytes(), "beyond"),
    ],
    ids=["empty", "part of a frame", "NaN", "huge"],
)
def test_bad_frames_end_the_stream(client: TestClient, sent: bytes, complaint: str):
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_text("{}")
        socket.receive_json()
        socket.send_bytes(sent)
        assert complaint in socket.receive_json()["error"]


@pytest.mark.parametrize(
    ("text", "complaint"), [('{"end": false}', "only"), ('{"end": true}', "no frames came")]
)
def test_after_the_first_text_only_the_end_of_frames_is_understood(
    client: TestClient, text: str, complaint: str
):
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_text("{}")
        socket.receive_json()
        socket.send_text(text)
        assert complaint in socket.receive_json()["error"]


LIMITED = {
    "frames beyond its length": (Limits(max_stream_seconds=1.0), 81, "the stream is over 1 s"),
    "nothing comes": (Limits(idle_timeout_s=0.2), 0, "nothing came for 0.2 s"),
    "its time is over": (Limits(max_stream_seconds=0.3), 0, "the stream's time is over"),
}


@pytest.mark.parametrize("name", LIMITED)
def test_streams_are_bounded(tiny_voice: Voice, name: str):
    limits, num_frames, complaint = LIMITED[name]
    with (
        TestClient(Service(tiny_voice, "tiny", limits=limits).app) as client,
        client.websocket_connect("/v1/stream") as socket,
    ):
        socket.send_text("{}")
        socket.receive_json()
        if num_frames:
            socket.send_bytes(bytes(4 * num_frames * tiny_voice.spec.num_features))
        while (message := socket.receive()).get("text") is None:
            pass
        assert complaint in json.loads(message["text"])["error"]
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 1009


def test_a_stream_takes_a_place(tiny_voice: Voice, frames: np.ndarray):
    service = Service(tiny_voice, "tiny", limits=Limits(max_active=1, max_waiting=0))
    with TestClient(service.app) as client:
        with client.websocket_connect("/v1/stream") as first:
            first.send_text("{}")
            first.receive_json()
            with client.websocket_connect("/v1/stream") as second:
                second.send_text("{}")
                assert "places are taken" in second.receive_json()["error"]
                with pytest.raises(WebSocketDisconnect) as closed:
                    second.receive_json()
                assert closed.value.code == 1013
        deadline_is_met(lambda: service.engine.num_in_house == 0)
        sound, _ = spoken(client, [frames])
        counted = service.metrics.total_sound_seconds
        assert counted == pytest.approx(len(sound) / tiny_voice.spec.sample_rate)


def test_no_stream_begins_while_the_service_drains(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(service.gate, "is_draining", True)
    with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect("/v1/stream"):
        pass
    assert closed.value.code == 1001


def test_clients_that_leave_give_their_place_back(client: TestClient, service, frames):
    for _ in range(3 * service.limits.places):
        with client.websocket_connect("/v1/stream") as socket:
            socket.send_text("{}")
            socket.receive_json()
            socket.send_bytes(frames.tobytes())
    deadline_is_met(lambda: service.engine.num_in_house == service.engine.num_active == 0)


def test_other_sites_pages_are_not_let_in(client: TestClient):
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/v1/stream", headers={"origin": "https://evil.example"}),
    ):
        pass

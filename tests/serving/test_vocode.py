"""Sound over HTTP is the sound of `synth`, whatever else the service is doing."""

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from starlette.testclient import TestClient

from tests.serving.conftest import npy_of
from tests.serving.test_stream import spoken
from wavestill import IAFWaveNet, synthesise
from wavestill.publish import Voice
from wavestill.serving.app import Service
from wavestill.serving.drawings import levels_of
from wavestill.synthesis import synth

pytestmark = pytest.mark.usefixtures("one_thread")

SAMPLERS = ["student", "native", "speculative"]
SPECULATIVE_FRAMES = 1  # untrained models agree on next to nothing, and every step is a round


KINDS = [
    *(("frames", sampler) for sampler in SAMPLERS),
    ("recording", "student"),
    ("recording", "native"),
]


@pytest.fixture(scope="module")
def written(
    voice_path: Path,
    recordings: Path,
    frames: np.ndarray,
    tmp_path_factory: pytest.TempPathFactory,
):
    """What `wavestill synth` writes, by (kind of input, sampler)."""
    folder = tmp_path_factory.mktemp("written")
    np.save(folder / "some.npy", frames)
    np.save(folder / "few.npy", frames[:SPECULATIVE_FRAMES])
    made = {}
    for kind, sampler in KINDS:
        source = {"frames": folder / "some.npy", "recording": wav(recordings)}[kind]
        if sampler == "speculative":
            source = folder / "few.npy"
        out = folder / f"{kind}-{sampler}.wav"
        assert not synth(voice_path, [source], out, sampler=sampler, seed=7).failed
        made[kind, sampler] = out.read_bytes()
    return made


def wav(recordings: Path) -> Path:
    return sorted(recordings.glob("*.wav"))[0]


@pytest.mark.parametrize(("kind", "sampler"), KINDS)
def test_the_bytes_are_those_of_synth(
    client: TestClient, written, frames: np.ndarray, recordings: Path, kind: str, sampler: str
):
    sent = frames[:SPECULATIVE_FRAMES] if sampler == "speculative" else frames
    body = npy_of(sent) if kind == "frames" else wav(recordings).read_bytes()
    answer = client.post("/v1/vocode", params={"seed": 7, "sampler": sampler}, content=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "audio/wav"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.content == written[kind, sampler]


def test_formats_hold_the_same_samples(client: TestClient, written, npy: bytes):
    whole, rate = soundfile.read(io.BytesIO(written["frames", "student"]), dtype="int16")
    assert rate == 8000
    for format_ in ("wav", "flac", "pcm"):
        answer = client.post("/v1/vocode", params={"seed": 7, "format": format_}, content=npy)
        assert answer.status_code == 200
        if format_ == "pcm":
            levels = np.frombuffer(answer.content, "<i2")
        else:
            assert soundfile.info(io.BytesIO(answer.content)).frames == len(whole)
            levels, _ = soundfile.read(io.BytesIO(answer.content), dtype="int16")
        np.testing.assert_array_equal(levels, whole)
        assert answer.headers["x-sample-rate"] == "8000"
        assert answer.headers["x-num-samples"] == str(len(whole))


def test_every_way_to_send_frames_is_the_same(client: TestClient, written, frames: np.ndarray):
    bodies = {
        "float64": npy_of(frames.astype(np.float64)),
        "big-endian": npy_of(frames.astype(">f4")),
        "by columns": npy_of(np.asfortranarray(frames)),
    }
    for name, body in bodies.items():
        answer = client.post("/v1/vocode", params={"seed": 7}, content=body)
        assert answer.content == written["frames", "student"], name
    told = json.dumps({"frames": frames.astype(float).tolist()})
    answer = client.post(
        "/v1/vocode",
        params={"seed": 7},
        content=told,
        headers={"content-type": "application/json; charset=utf-8"},
    )
    assert answer.content == written["frames", "student"]


def test_company_changes_nothing(client: TestClient, tiny_voice: Voice):
    """Sounds of many lengths and samplers at once, side by side: each as it is alone."""
    rng = np.random.default_rng(5)
    asked = []
    for number in range(8):
        frames = rng.normal(-4, 1, (int(rng.integers(3, 60)), tiny_voice.spec.num_features))
        sampler = ["native", "student", "native"][number % 3]
        asked.append(({"seed": number, "sampler": sampler}, npy_of(frames.astype(np.float32))))
    alone = [client.post("/v1/vocode", params=p, content=b).content for p, b in asked]
    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(lambda a: client.post("/v1/vocode", params=a[0], content=a[1]), asked)
        )
    for one, other in zip(alone, together, strict=True):
        assert other.status_code == 200, other.text
        assert one == other.content
    assert len(set(alone)) == len(alone)


def test_frames_of_a_recording_are_what_vocode_takes(
    client: TestClient, written, recordings: Path
):
    body = wav(recordings).read_bytes()
    answer = client.post("/v1/frames", content=body)
    assert answer.status_code == 200
    frames = np.load(io.BytesIO(answer.content), allow_pickle=False)
    gain = 10 ** (float(answer.headers["x-gain-db"]) / 20)
    sound = client.post("/v1/vocode", params={"seed": 7}, content=npy_of(frames)).content
    copy = np.frombuffer(written["recording", "student"][44:], "<i2")
    whole = np.frombuffer(sound[44:], "<i2")
    assert np.abs(whole / gain - copy).max() <= 0.5 + 0.5 / gain + 1e-6


@pytest.fixture(scope="module")
def voice_of_two(tiny_voice: Voice, student_of_two: IAFWaveNet) -> Voice:
    """A student of two speakers, without a teacher."""
    return Voice(tiny_voice.spec, student=student_of_two, speakers=("ada", "bea"))


@pytest.fixture(scope="module")
def two(voice_of_two: Voice) -> Iterator[TestClient]:
    with TestClient(Service(voice_of_two, "two").app) as client:
        yield client


def test_each_speaker_has_a_sound(
    two: TestClient, voice_of_two: Voice, frames: np.ndarray, npy: bytes
):
    sounds = []
    for name in ("ada", "bea"):
        asked = {"seed": 2, "format": "pcm", "speaker": name}
        sound = np.frombuffer(two.post("/v1/vocode", params=asked, content=npy).content, "<i2")
        x = synthesise(voice_of_two, frames, seed=2, speaker=name)
        np.testing.assert_array_equal(sound, levels_of(torch.tensor(x), 0.0))
        live, _ = spoken(two, [frames], seed=2, speaker=name)
        assert np.abs(live.astype(int) - sound).max() <= 3
        sounds.append(sound.astype(int))
    assert np.abs(sounds[0] - sounds[1]).max() > 100


def test_what_a_voice_lacks_is_not_offered(two: TestClient, npy: bytes):
    [model] = two.get("/v1/models").json()["models"]
    assert model["samplers"] == ["student"]
    assert not model["has_kl"]
    for sampler in ("native", "speculative"):
        asked = {"sampler": sampler, "speaker": "ada"}
        answer = two.post("/v1/vocode", params=asked, content=npy)
        assert answer.status_code == 422
        assert f"no sampler '{sampler}'; it has student" in answer.json()["error"]
    with two.websocket_connect("/v1/stream") as socket:
        socket.send_text('{"kl": true, "speaker": "ada"}')
        assert "a voice with a teacher" in socket.receive_json()["error"]


def test_levels_are_those_of_a_16_bit_file():
    x = torch.tensor([-3.0, -1.0, -0.6 / 32768, 0.4 / 32768, 0.6 / 32768, 1.0, 7.0])
    np.testing.assert_array_equal(levels_of(x, 0.0), [-32768, -32768, -1, 0, 1, 32767, 32767])
    np.testing.assert_array_equal(levels_of(x[5:], 20.0), [3277, 22938])
    for value in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="not finite"):
            levels_of(torch.tensor([0.0, value]), 0.0)

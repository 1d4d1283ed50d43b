"""The page: its numbers are ours, and it works in a real browser, with and without the service."""

import asyncio
import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from tests.serving.chromium import BINARY, Chromium
from wavestill.audio.features import extract
from wavestill.audio.mel import MEL_PRESETS, MelSpec
from wavestill.distributions import counter_noise
from wavestill.input_frames import frames_of_recording
from wavestill.publish import Voice
from wavestill.serving.app import Service
from wavestill.serving.export import RUNTIME_FILES, export
from wavestill.serving.limits import Limits
from wavestill.serving.pages import page_files
from wavestill.serving.server import Server

PAGE = Path(__file__).resolve().parents[2] / "src" / "wavestill" / "serving" / "page"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[float]]:
    """What a module of the page makes of some input, in node."""
    folder = tmp_path_factory.mktemp("modules")
    for path in PAGE.glob("*.js"):
        shutil.copy(path, folder / path.name)
    (folder / "package.json").write_text('{"type": "module"}')  # older ones must be told

    def run(script: str, **given: object) -> list[float]:
        program = f"""
            const given = JSON.parse(require("fs").readFileSync(0));
            const from = (name) => import("{folder.as_uri()}/" + name);
            (async () => {{ {script} }})().then((made) => console.log(JSON.stringify([...made])));
        """
        command = [str(NODE), "--input-type=commonjs", "-e", program]
        done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def vowel(rate: int, seconds: float = 0.6) -> np.ndarray:
    time_s = np.arange(int(rate * seconds)) / rate
    f0_hz = 120 + 60 * time_s
    phase = 2 * np.pi * np.cumsum(f0_hz) / rate
    sound = sum(np.sin(k * phase) / k for k in range(1, 15))
    noise = 0.002 * np.random.default_rng(0).normal(size=len(time_s))
    return (0.1 * sound + noise).astype(np.float32)


@needs_node
@pytest.mark.parametrize("preset", ["wavestill_8k", "wavestill_16k", "hifigan_22k", "log10"])
def test_mels_are_ours(computed, preset: str):
    spec = (
        MelSpec(8000, 256, 64, 200, 40, 60.0, 3500.0, log="log10")
        if preset == "log10"
        else MEL_PRESETS[preset]
    )
    wave = vowel(spec.sample_rate)
    made = computed(
        'const { melFrames } = await from("mel.js"); return melFrames(given.wave, given.spec);',
        wave=wave.tolist(),
        spec=spec.to_dict(),
    )
    ours = extract(wave, spec)
    np.testing.assert_allclose(np.reshape(made, ours.shape), ours, atol=2e-5)


@needs_node
@pytest.mark.parametrize("base", ["logistic", "normal"])
def test_noise_is_ours(computed, base: str):
    made = computed(
        'const { counterNoise } = await from("noise.js");'
        "return counterNoise(given.base, given.seed, given.length, given.start);",
        base=base,
        seed=4_000_000_007,
        length=5_000,
        start=1_234_567,
    )
    ours = counter_noise(base, 4_000_000_007, 1, 5_000, start=1_234_567, dtype=torch.float32)
    np.testing.assert_allclose(made, ours[0].numpy(), atol=1e-6, rtol=1e-6)


PITCH = """
    const { pitchFrames } = await from("pitch.js");
    return pitchFrames(given.wave, given.spec);
"""


@needs_node
def test_pitch_is_near_ours(computed):
    spec = MEL_PRESETS["wavestill_16k"]
    wave = vowel(spec.sample_rate)
    made = computed(
        PITCH,
        wave=wave.tolist(),
        spec=spec.to_dict(),
    )
    log_f0, voicing = np.reshape(made, (-1, 2)).T
    centres_s = (np.arange(len(log_f0)) + 0.5) * spec.hop_samples / spec.sample_rate
    cents = 1200 * np.abs(log_f0 - np.log(120 + 60 * centres_s)) / np.log(2)
    assert voicing[3:-3].all()
    assert cents[3:-3].max() < 25
    silent = computed(
        PITCH,
        wave=[0.0] * 1000,
        spec=spec.to_dict(),
    )
    np.testing.assert_allclose(np.reshape(silent, (-1, 2)), [[np.log(150), 0]] * 5, rtol=1e-6)


class Elements(HTMLParser):
    """Every element's name and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_page_is_served_and_names_nothing_outside(client: TestClient):
    answer = client.get("/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    for name, content in page_files().items():
        answer = client.get(f"/{name}")
        assert answer.content == content
        if not name.endswith((".svg", ".flac")):
            text = content.decode()
            assert "http://" not in text
            assert "https://" not in text
    elements = Elements(page_files()["index.html"].decode()).found
    known = {attributes["id"] for _, attributes in elements if "id" in attributes}
    for tag, attributes in elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        if tag == "canvas":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if (attributes.get("href") or "").startswith("#"):
            assert attributes["href"][1:] in known
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in known
    assert any(a.get("role") == "status" for _, a in elements)
    assert any(a.get("role") == "alert" for _, a in elements)
    assert dict(elements)["html"]["lang"] == "en"


def test_the_page_as_plain_files(tiny_voice: Voice, tmp_path: Path):
    runtime = tmp_path / "dist"
    runtime.mkdir()
    for name in RUNTIME_FILES:
        with pytest.raises(ValueError, match=f"lacks {re.escape(name)}; give the folder dist/"):
            export(tiny_voice, "tiny", tmp_path / "site", runtime)
        assert not (tmp_path / "site").exists()
        (runtime / name).write_bytes(name.encode())
    site = tmp_path / "site"
    written = export(tiny_voice, "tiny", site, runtime)
    assert {"index.html", "student.onnx", "demo.flac", "ort/LICENCE.txt"} < set(written)
    assert {f"ort/{name}" for name in RUNTIME_FILES} < set(written)
    assert 'data-mode="student"' in (site / "index.html").read_text()
    told = json.loads((site / "voice.json").read_text())
    assert (told["id"], told["part"]) == ("tiny", "stream")
    copied = frames_of_recording(site / "demo.flac", tiny_voice)
    frames = np.fromfile(site / "demo_frames.bin", "<f4").reshape(copied.frames.shape)
    np.testing.assert_array_equal(frames, copied.frames)
    assert json.loads((site / "demo.json").read_text())["gain_db"] == copied.gain_db != 0


# ---- in a browser


needs_chromium = pytest.mark.skipif(BINARY is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def served(tiny_voice: Voice) -> Iterator[Server]:
    limits = Limits(max_seconds=5.0)
    server = Server(Service(tiny_voice, "tiny", limits=limits), "127.0.0.1", 0)
    thread = threading.Thread(target=lambda: asyncio.run(server.run_to_end()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = True
    thread.join(timeout=30)


def open_page(browser: Chromium, served: Server) -> None:
    browser.open(f"http://127.0.0.1:{served.bound_port}/")
    browser.wait(lambda: "tiny" in browser.text("#voice"))


def settled(browser: Chromium) -> bool:
    return browser.text("#status").startswith(("Done", "Stopped")) or bool(browser.text("#error"))


@pytest.mark.slow
@needs_chromium
def test_the_page_speaks(browser: Chromium, served: Server, recordings: Path, tmp_path: Path):
    browser.look(width=1280, dark=False)
    open_page(browser, served)
    assert browser.run("document.querySelector('#speak').disabled")
    browser.upload("#file", sorted(recordings.glob("*.wav"))[0])
    browser.wait(lambda: "buzz0.wav, 0.50 s" in browser.text("#chosen"))
    for sampler, seconds in (("student", 60), ("native", 60)):
        browser.run(f"document.querySelector('[value={sampler}]').focus()")
        browser.press(" ", 32)  # by the keyboard alone
        browser.run("document.querySelector('#speak').focus()")
        browser.press("Enter", 13)
        browser.wait(lambda: browser.run("document.querySelector('#speak').disabled"), 5)
        browser.wait(lambda: settled(browser), seconds)
        assert browser.text("#error") == ""
        assert browser.text("#length") == "0.50 s"
        assert "× real time" in browser.text("#speed")
        assert ("nats" in browser.text("#kl-mean")) == (sampler == "student")
    sounds = browser.run("[...document.querySelectorAll('#sounds audio')].map(a => a.duration)")
    assert sounds == pytest.approx([0.5, 0.5, 0.5])
    played = "document.querySelector('#sounds audio').play().then(() => 'played')"
    assert browser.run(played) == "played"
    assert browser.complaints() == []
    for width in (390, 1280):
        for dark in (False, True):
            browser.look(width=width, dark=dark)
            browser.screenshot(tmp_path / f"{width}{dark}.png")
            assert browser.run("document.documentElement.scrollWidth") <= width  # no sideways
            browser.wait(lambda: browser.run(LIT))  # drawn anew in the new size
    browser.look(width=1280, dark=False)


@pytest.mark.slow
@needs_chromium
def test_a_newcomer_hears_the_voice_by_two_buttons(browser: Chromium, served: Server):
    open_page(browser, served)
    browser.click("#demo")
    browser.wait(lambda: "demo.flac, 3.04 s" in browser.text("#chosen"))
    browser.click("#speak")
    browser.wait(lambda: settled(browser), 60)
    assert browser.text("#status").startswith("Done")


CONTEXTS = """(() => {
    const Real = window.AudioContext;
    window.made = [];
    window.AudioContext = class extends Real {
        constructor(...given) { super(...given); window.made.push(this); }
    };
})()"""


@pytest.mark.slow
@needs_chromium
def test_what_sounds_can_be_stopped_and_gives_its_context_back(browser: Chromium, served: Server):
    open_page(browser, served)
    browser.run(CONTEXTS)
    open_ones = "window.made.filter(context => context.state !== 'closed').length"
    can_stop = "!document.querySelector('#stop').disabled"
    browser.click("#demo")
    browser.wait(lambda: "demo.flac" in browser.text("#chosen"))
    for _ in range(2):  # the second silences the first
        browser.click("#speak")
        browser.wait(lambda: browser.text("#status").startswith("Done"), 60)
        assert browser.run(can_stop)  # made sooner than it is heard
        assert browser.run(open_ones) == 1
    browser.click("#stop")
    browser.wait(lambda: browser.run(open_ones) == 0)
    assert not browser.run(can_stop)
    browser.click("#speak")
    browser.wait(lambda: browser.text("#status").startswith("Done"), 60)
    browser.wait(lambda: browser.run(open_ones) == 0)  # heard to its end
    assert not browser.run(can_stop)
    assert browser.complaints() == []


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize(("every_ms", "gapless_from"), [(20, 1), (150, 4)])
def test_sound_is_played_without_gaps(browser: Chromium, served: Server, every_ms, gapless_from):
    """Ten stretches of a tenth of a second, made faster and slower than they sound."""
    browser.open(f"http://127.0.0.1:{served.bound_port}/")
    told = browser.run(f"""import("/sound.js").then(async ({{ Player }}) => {{
        const starts = [];
        const start = AudioBufferSourceNode.prototype.start;
        AudioBufferSourceNode.prototype.start = function (when) {{
            starts.push(when);
            start.call(this, when);
        }};
        const ended = new Promise((resolve) => {{ window.player = new Player(8000, resolve); }});
        await player.context.resume();
        player.expect(8000);
        let firstAfter = 0;
        for (let made = 1; made <= 10; made++) {{
            await new Promise((resolve) => setTimeout(resolve, {every_ms}));
            player.push(new Float32Array(800).fill(0.1));
            if (!firstAfter && starts.length) firstAfter = made;
        }}
        await ended;
        AudioBufferSourceNode.prototype.start = start;
        return {{ starts, firstAfter }};
    }})""")
    assert np.diff(told["starts"]) == pytest.approx(0.1)
    assert told["firstAfter"] >= gapless_from


LIT = """(() => {
    const canvas = document.querySelector("#mel-out");
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return new Set(new Uint32Array(data.buffer)).size > 50;
})()"""


@pytest.mark.slow
@needs_chromium
def test_the_microphone_is_recorded(browser: Chromium, served: Server):
    open_page(browser, served)
    browser.click("#record")
    browser.wait(lambda: browser.run("document.querySelector('#level').value") > 0)
    time.sleep(1.5)
    assert browser.text("#record") == "Stop recording"
    browser.click("#record")
    browser.wait(lambda: "microphone.wav" in browser.text("#chosen"))
    browser.click("#speak")
    browser.wait(lambda: settled(browser), 60)
    assert browser.text("#error") == ""


@pytest.mark.slow
@needs_chromium
def test_the_microphone_is_asked_for_once(browser: Chromium, served: Server):
    open_page(browser, served)
    browser.run("""(() => {
        const asked = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        window.streams = [];
        navigator.mediaDevices.getUserMedia = async (...given) => {
            const stream = await asked(...given);
            window.streams.push(stream);
            return stream;
        };
        const button = document.querySelector("#record");
        button.click();
        button.click(); // while the browser asks
    })()""")
    browser.wait(lambda: browser.text("#record") == "Stop recording")
    time.sleep(0.5)
    browser.click("#record")
    browser.wait(lambda: "microphone.wav" in browser.text("#chosen"))
    states = "window.streams.flatMap(s => s.getTracks().map(t => t.readyState))"
    assert browser.run(states) == ["ended"]
    browser.run("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    browser.click("#record")
    browser.wait(lambda: "https" in browser.text("#error"))


@pytest.mark.slow
@needs_chromium
def test_a_recording_is_not_taken_while_another_is_spoken(browser: Chromium, served: Server):
    open_page(browser, served)
    browser.click("#demo")
    browser.wait(lambda: "demo.flac" in browser.text("#chosen"))
    browser.wait(lambda: not browser.run("document.querySelector('#speak').disabled"))
    # decoding another takes its time: Speak waits for it
    browser.run("""(() => {
        const decoded = OfflineAudioContext.prototype.decodeAudioData;
        OfflineAudioContext.prototype.decodeAudioData = async function (bytes) {
            await new Promise((resolve) => setTimeout(resolve, 300));
            return decoded.call(this, bytes);
        };
        document.querySelector("#demo").click();
        document.querySelector("#speak").click();
    })()""")
    time.sleep(0.6)
    browser.wait(lambda: not browser.run("document.querySelector('#speak').disabled"), 60)
    browser.click("#speak")
    browser.run("""(() => {
        const event = new DragEvent("drop", { dataTransfer: new DataTransfer(), bubbles: true });
        event.dataTransfer.items.add(new File(["no"], "dropped.wav"));
        document.body.dispatchEvent(event);
    })()""")
    assert "drop it again" in browser.text("#status")
    browser.wait(lambda: settled(browser), 60)
    assert browser.text("#status").startswith("Done")
    assert browser.run("document.querySelectorAll('#sounds li').length") == 3
    assert browser.complaints() == []


@pytest.mark.slow
@needs_chromium
def test_a_keyboard_keeps_its_place(browser: Chromium, served: Server):
    focused = "document.activeElement.id"
    open_page(browser, served)
    browser.press("Tab", 9)
    assert browser.run(focused) == "choose"
    for _ in range(2):
        browser.press("Tab", 9)
    browser.press("Enter", 13)
    browser.wait(lambda: "demo.flac" in browser.text("#chosen"))
    assert browser.run(focused) == "demo"
    for _ in range(3):  # past the sampler and the seed
        browser.press("Tab", 9)
    assert browser.run(focused) == "speak"
    browser.press("Enter", 13)
    browser.wait(lambda: browser.run(focused) == "stop")
    browser.press("Enter", 13)
    browser.wait(lambda: browser.run(focused) == "speak")


@pytest.mark.slow
@needs_chromium
def test_everything_has_a_name_and_little_is_announced(browser: Chromium, served: Server):
    open_page(browser, served)
    browser.run("""(() => {
        window.said = [];
        const status = document.querySelector("#status");
        new MutationObserver(() => window.said.push(status.textContent))
            .observe(status, { childList: true });
    })()""")
    browser.click("#demo")
    browser.wait(lambda: "demo.flac" in browser.text("#chosen"))
    browser.click("#speak")
    browser.wait(lambda: settled(browser), 60)
    said = browser.run("window.said.map(text => text.split(' ')[0])")
    assert said == ["demo.flac", "Preparing", "Speaking", "Done:"]
    browser.wait(lambda: "so far" not in str(names(browser)))
    for role, name in names(browser):
        assert name, role
    assert sum(role == "image" for role, _ in names(browser)) == 4


def names(browser: Chromium) -> list[tuple[str, str]]:
    """What a screen reader is told of controls and pictures: roles and names."""
    roles = {"button", "link", "radio", "spinbutton", "combobox", "textbox", "image", "Audio"}
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    told = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    ]
    return [(role, name) for role, name in told if role in roles]


LEAST = {"--ink": 4.5, "--quiet": 4.5, "--bad": 4.5, "--accent": 4.5, "--edge": 3.0}


def test_colours_are_told_apart():
    """WCAG 2.2 AA: text 4.5 : 1 against what it stands on, edges of controls 3 : 1."""
    style = page_files()["style.css"].decode()
    light, dark = re.findall(r":root \{([^}]*)\}", style)
    for scheme in (light, dark):
        colours = dict(re.findall(r"(--[\w-]+): #(\w{6})", scheme))
        for name, least in LEAST.items():
            for ground in ("--page", "--card"):
                assert contrast(colours[name], colours[ground]) >= least, (name, ground)
        assert contrast(colours["--on-accent"], colours["--accent"]) >= 4.5


def contrast(one: str, other: str) -> float:
    """The ratio of two colours' luminances, WCAG's definition."""

    def luminance(colour: str) -> float:
        levels = np.frombuffer(bytes.fromhex(colour), np.uint8) / 255
        linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.slow
@needs_chromium
def test_errors_are_told(browser: Chromium, served: Server, tmp_path: Path):
    open_page(browser, served)
    (tmp_path / "no.wav").write_bytes(b"no sound at all")
    browser.upload("#file", tmp_path / "no.wav")
    browser.wait(lambda: "no sound" in browser.text("#error"))
    import soundfile

    soundfile.write(tmp_path / "long.wav", np.zeros(8000 * 6, np.int16), 8000)
    browser.upload("#file", tmp_path / "long.wav")
    browser.wait(lambda: "at most 5 s" in browser.text("#error"))
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000, np.int16), 8000)
    browser.upload("#file", tmp_path / "silent.wav")
    browser.wait(lambda: "silent.wav" in browser.text("#chosen"))
    browser.click("#speak")
    browser.wait(lambda: "silent" in browser.text("#error"))
    assert not browser.run("document.querySelector('#speak').disabled")  # it may be tried again


BREAKS_OFF = {
    "native": """
        const Real = WebSocket;
        window.WebSocket = class extends Real {
            set onmessage(heard) {
                super.onmessage = (event) => {
                    heard(event);
                    if (event.data instanceof ArrayBuffer) this.onclose();
                };
            }
        };
    """,
    "speculative": """
        const real = window.fetch;
        window.fetch = async (...given) => {
            const answer = await real(...given);
            if (!given[0].startsWith("v1/vocode")) return answer;
            const bytes = new Uint8Array(await answer.arrayBuffer()).slice(0, 4000);
            let turn = 0;
            return new Response(new ReadableStream({
                pull: (to) => {
                    if (turn++) to.error(new TypeError("network error"));
                    else to.enqueue(bytes);
                },
            }));
        };
    """,
}


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("sampler", BREAKS_OFF)
def test_a_sound_that_breaks_off_is_told_and_kept(
    browser: Chromium, served: Server, recordings: Path, sampler: str
):
    open_page(browser, served)
    browser.upload("#file", sorted(recordings.glob("*.wav"))[0])
    browser.wait(lambda: not browser.run("document.querySelector('#speak').disabled"))
    browser.click(f"[value={sampler}]")
    browser.run(f"(() => {{ {BREAKS_OFF[sampler]} }})()")
    browser.run("document.querySelector('#seed').value = 7")
    browser.click("#speak")
    browser.run("document.querySelector('#seed').value = 8")  # of the next
    browser.wait(lambda: settled(browser), 60)
    assert "closed before the end" in browser.text("#error")
    assert "seed 7: buzz0.wav, its beginning" in browser.text("#sounds li")
    # what is not there at all is told as well, and one can go on
    browser.run("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    browser.click("#speak")
    browser.wait(lambda: "does not answer" in browser.text("#error"))
    assert browser.run("document.querySelectorAll('#sounds li').length") == 2
    assert not browser.run("document.querySelector('#speak').disabled")


@pytest.mark.slow
@needs_chromium
def test_sounds_are_compared_one_by_one_and_the_oldest_let_go(browser: Chromium, served: Server):
    open_page(browser, served)
    browser.run("""(() => {
        window.kept = 0;
        const [made, revoked] = [URL.createObjectURL, URL.revokeObjectURL];
        URL.createObjectURL = (blob) => (window.kept++, made(blob));
        URL.revokeObjectURL = (address) => (window.kept--, revoked(address));
    })()""")
    for count in range(1, 15):
        browser.click("#demo")
        taken = f"document.querySelectorAll('#sounds li').length === {min(count, 12)}"
        browser.wait(lambda taken=taken: browser.run(taken))
        browser.wait(lambda: not browser.run("document.querySelector('#speak').disabled"))
    assert browser.run("window.kept") == 12
    playing = browser.run("""(async () => {
        const sounds = [...document.querySelectorAll("#sounds audio")];
        await sounds[0].play();
        await sounds[1].play();
        await new Promise((resolve) => setTimeout(resolve, 100));
        return sounds.map((audio) => !audio.paused);
    })()""")
    assert playing == [False, True] + 10 * [False]
    # the axis is that of the pictures above it
    ends = browser.run("""(() => {
        const marks = document.querySelector("#axis").children;
        const picture = document.querySelector("#wave").getBoundingClientRect();
        const [first, last] = [marks[0], marks[marks.length - 1]];
        return [first.textContent, last.textContent,
            first.getBoundingClientRect().left - picture.left,
            last.getBoundingClientRect().right - picture.right];
    })()""")
    assert ends == ["0.00 s", "3.04 s", pytest.approx(0, abs=1), pytest.approx(0, abs=1)]


@pytest.mark.slow
@needs_chromium
def test_a_fine_recording_is_taken_though_it_is_large(
    browser: Chromium, served: Server, tmp_path: Path
):
    """Two channels of floats at 48 kHz: four seconds are more bytes than five of 16 bits."""
    import soundfile

    wave = np.stack([vowel(48_000, 4.0)] * 2, axis=1)
    soundfile.write(tmp_path / "fine.wav", wave, 48_000, subtype="FLOAT")
    open_page(browser, served)
    browser.upload("#file", tmp_path / "fine.wav")
    browser.wait(lambda: "fine.wav, 4.00 s" in browser.text("#chosen"))
    browser.click("#speak")
    browser.wait(lambda: settled(browser), 60)
    assert browser.text("#error") == ""


@pytest.mark.slow
@needs_chromium
def test_a_token_is_asked_for(browser: Chromium, tiny_voice: Voice):
    server = Server(Service(tiny_voice, "tiny", token="sesame"), "127.0.0.1", 0)
    thread = threading.Thread(target=lambda: asyncio.run(server.run_to_end()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    browser.open(f"http://127.0.0.1:{server.bound_port}/")
    browser.wait(lambda: "token" in browser.text("#error"))
    sizes = "[...document.querySelectorAll('canvas')].map(canvas => canvas.clientHeight)"
    browser.wait(lambda: browser.run(sizes) == [120, 120, 0, 80])  # as when there is a voice
    browser.run("document.querySelector('#token').focus()")
    browser.send("Input.insertText", text="sesame")
    browser.press("Enter", 13)
    browser.wait(lambda: "tiny" in browser.text("#voice"))
    assert browser.text("#error") == ""
    server.should_exit = True
    thread.join(timeout=30)


def runtime() -> Path | None:
    """onnxruntime-web, where it is at hand: see docs/serving.md."""
    import os

    folder = os.environ.get("ONNXRUNTIME_WEB")
    return None if folder is None else Path(folder)


@pytest.mark.slow
@needs_chromium
@pytest.mark.skipif(runtime() is None, reason="ONNXRUNTIME_WEB does not name its dist folder")
def test_the_student_speaks_without_a_server(browser: Chromium, tiny_voice: Voice, tmp_path: Path):
    from wavestill import synthesise

    export(tiny_voice, "tiny", tmp_path, runtime())
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    plain = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    browser.open(f"http://127.0.0.1:{plain.server_port}/")
    browser.wait(lambda: "tiny" in browser.text("#voice"))
    browser.click("#demo")
    browser.wait(lambda: "demo.flac" in browser.text("#chosen"))
    browser.run("document.querySelector('#seed').value = 9")
    browser.click("#speak")
    browser.wait(lambda: settled(browser), 120)
    assert browser.text("#error") == ""
    made = browser.run("""fetch(document.querySelector("#sounds a").href)
        .then((answer) => answer.arrayBuffer())
        .then((bytes) => [...new Int16Array(bytes.slice(44))])""")
    columns = tiny_voice.spec.num_features
    frames = np.fromfile(tmp_path / "demo_frames.bin", "<f4").reshape(-1, columns)
    gain_db = json.loads((tmp_path / "demo.json").read_text())["gain_db"]
    ours = synthesise(tiny_voice, frames, seed=9) * 10 ** (-gain_db / 20) * 32768
    # the same noise, and the same student by other code
    assert np.abs(np.array(made) - ours).max() < 3
    # recordings of one's own: their frames are made beside the page, which stays awake
    import soundfile

    rate = tiny_voice.spec.sample_rate
    soundfile.write(tmp_path / "own.wav", vowel(rate, 25.0), rate)
    soundfile.write(tmp_path / "long.wav", vowel(rate, 31.0), rate)
    browser.upload("#file", tmp_path / "own.wav")
    browser.wait(lambda: "own.wav" in browser.text("#chosen"))
    browser.click("#speak")
    browser.run("""(() => {
        window.naps = [];
        let before = performance.now();
        setInterval(() => {
            window.naps.push(performance.now() - before);
            before = performance.now();
        }, 10);
    })()""")
    browser.wait(lambda: browser.text("#length") != "–", 60)
    assert browser.run("Math.max(...window.naps)") < 500
    browser.click("#stop")
    browser.wait(lambda: "Stopped" in browser.text("#status"))
    browser.upload("#file", tmp_path / "long.wav")
    browser.wait(lambda: "at most 30 s" in browser.text("#error"))
    # which also hold of what is too large to be unpacked
    browser.run("""(() => {
        const event = new DragEvent("drop", { dataTransfer: new DataTransfer(), bubbles: true });
        const file = new File([new Uint8Array(65e6)], "huge.wav");
        event.dataTransfer.items.add(file);
        document.body.dispatchEvent(event);
    })()""")
    browser.wait(lambda: "at most 64 MB" in browser.text("#error"))
    plain.shutdown()
    plain.server_close()

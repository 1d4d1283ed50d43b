"""Voices go to a hub and come back, with and without a network; the hub here is a local server."""

import dataclasses
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
import torch
import yaml
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

from wavestill import cli, publish
from wavestill.publish import Voice, hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(BaseHTTPRequestHandler):
    """The few pages that a download asks for: of one repository, read from a folder."""

    folder: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if "/tree/" in path:
            files = [
                {"type": "file", "path": file.name, "size": len(file.read_bytes()), "oid": "0"}
                for file in sorted(self.folder.iterdir())
            ]
            self.answer(json.dumps(files).encode())
        elif re.fullmatch(r"/api/models/ada/voice(/revision/(main|v1))?", path):
            self.answer(json.dumps({"id": "ada/voice", "sha": COMMIT, "siblings": []}).encode())
        elif path.startswith(f"/ada/voice/resolve/{COMMIT}/"):
            self.answer((self.folder / path.rpartition("/")[2]).read_bytes())
        else:
            missing = "RevisionNotFound" if "ada/voice" in path else "RepoNotFound"
            self.answer(b"", 404, missing)

    def answer(self, body: bytes, status: int = 200, error: str | None = None) -> None:
        self.send_response(status)
        if error is not None:
            self.send_header("X-Error-Code", error)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(
    tiny_voice: Voice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SimpleNamespace]:
    """A hub with the tiny voice and, beside it, what nobody should want."""
    folder = tmp_path / "served"
    publish.save(tiny_voice, folder)
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    handler = type("Handler", (FakeHub,), {"folder": folder, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.chdir(tmp_path)
    yield SimpleNamespace(folder=folder, asked=handler.asked, close=server.shutdown)
    server.shutdown()
    server.server_close()


def test_a_voice_of_the_hub_is_fetched_then_found_without_a_net(
    served: SimpleNamespace, tiny_voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = torch.randn(1, 200)
    context = torch.randn(1, 2, tiny_voice.spec.num_features)
    expected = tiny_voice.require_student().rsample(noise, context).x
    for name in ("ada/voice", "ada/voice@v1"):
        voice = publish.load(name)
        assert torch.equal(voice.require_student().rsample(noise, context).x, expected)
    assert not [path for path in served.asked if "pytorch_model.bin" in path]
    num_asked = len(served.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert publish.load(Path("ada/voice")).spec == tiny_voice.spec
    assert len(served.asked) == num_asked
    with pytest.raises(ValueError, match="not in the cache while HF_HUB_OFFLINE is set"):
        publish.load("ada/other")


def test_what_the_hub_lacks_is_said_in_one_line(
    served: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, complaint in (
        ("ada/other", "'ada/other' does not exist on the hub, or is private"),
        ("ada/a..b", "'ada/a..b' cannot be a name on the hub; give owner/name"),
        ("ada/voice@v9", "'ada/voice' has no revision 'v9'"),
    ):
        assert cli.run(["synth", name, "a.wav", "-o", "b.wav"]) == 1
        assert re.fullmatch(rf"wavestill: {re.escape(complaint)}[^\n]*\n", capsys.readouterr().err)
    served.folder.joinpath("model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"is incomplete: model\.safetensors is missing"):
        publish.load("ada/voice")


def test_a_folder_of_ones_own_goes_before_the_hub(
    served: SimpleNamespace, tiny_voice: Voice
) -> None:
    publish.save(tiny_voice, Path("ada/voice"))
    assert publish.load("ada/voice").spec == tiny_voice.spec
    with pytest.raises(ValueError, match="there is no voice at 'ada/misspelt'"):
        publish.load("ada/misspelt")
    assert not served.asked


class FakeApi:
    """Takes what is pushed."""

    made: list[object]
    files: dict[str, bytes]

    def __init__(self, **_: object) -> None:
        pass

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        if repo_id.startswith("others/"):
            request = httpx2.Request("POST", "https://hub.example/api/repos/create")
            response = httpx2.Response(401, request=request)
            raise HfHubHTTPError("401 Client Error", response=response)
        if repo_id.startswith("locked/"):
            raise OSError("403 Forbidden")
        self.made.append((repo_id, private, exist_ok))
        return f"https://hub.example/{repo_id}"

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, allow_patterns: list[str], **_: object
    ) -> None:
        assert [repo_id] == [made[0] for made in self.made]
        self.files.update({path.name: path.read_bytes() for path in folder_path.iterdir()})
        assert set(self.files) == set(allow_patterns)


def test_what_is_pushed_is_a_voice_with_a_card(
    tiny_voice: Voice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    api = type("Api", (FakeApi,), {"made": [], "files": {}})
    monkeypatch.setattr(hub, "HfApi", api)
    measured = {"student": {"kl_nats_per_sample": 0.25}, "teacher": {"nll_nats_per_sample": 6.5}}
    publish.save(dataclasses.replace(tiny_voice, measured=measured), tmp_path / "voice")
    assert cli.run(["push", str(tmp_path / "voice"), "ada/buzz"]) == 1
    assert "has no licence" in capsys.readouterr().err
    options = ["--license", "cc0-1.0", "--private"]
    assert cli.run(["push", str(tmp_path / "voice"), "ada/buzz", *options]) == 0
    assert api.made == [("ada/buzz", True, True)]
    for name, content in api.files.items():
        (tmp_path / "received").mkdir(exist_ok=True)
        (tmp_path / "received" / name).write_bytes(content)
    assert publish.load(tmp_path / "received").license == "cc0-1.0"
    front, card = (tmp_path / "received" / "README.md").read_text().split("---\n")[1:]
    front_matter = yaml.safe_load(front)
    assert front_matter["license"] == "cc0-1.0"
    assert front_matter["library_name"] == "wavestill"
    assert "vocoder" in front_matter["tags"]
    assert "wavestill synth ada/buzz" in card
    assert "0.250 nats per sample from its teacher" in card
    assert "Use it only with their\nconsent" in card
    licensed = dataclasses.replace(tiny_voice, license="cc0-1.0")
    with pytest.raises(ValueError, match="'others/a' is refused by the hub: log in"):
        hub.push(licensed, "others/a")
    for name in ("buzz", "ada/buzz@v1", "hf://ada/buzz", "ada/buzz/more"):
        with pytest.raises(ValueError, match=f"'{name}' cannot be a name on the hub; give owner/"):
            hub.push(licensed, name)
    with pytest.raises(ValueError, match="'locked/a' cannot be reached on the hub: 403 Forbidden"):
        hub.push(licensed, "locked/a")

"""`wavestill serve`."""

import asyncio
import os
from pathlib import Path
from typing import Any

from wavestill.commands.terminal import Outcome, complain, say
from wavestill.publish import load

TOKEN_VARIABLE = "WAVESTILL_TOKEN"


def serve(
    model: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: Path | None = None,
    max_seconds: float = 30.0,
    max_active: int = 8,
    max_waiting: int = 32,
    timeout_s: float = 120.0,
    drain_s: float = 30.0,
    export_page: Path | None = None,
    onnxruntime_web: Path | None = None,
) -> Outcome:
    """Serve a voice over HTTP and WebSocket, with a page to hear it.

    POST /v1/vocode makes sound of frames or recordings, /v1/stream does so live; GET /v1/models,
    /healthz, /readyz, /metrics and /openapi.json tell about the service; / is the page. On SIGTERM
    or Ctrl-C requests that have begun are finished first.

    Arguments:
        model: Folder of a voice (voice/ in the folder of a run).
        host: Address to bind to; 0.0.0.0 for all of this machine's.
        port: Port; 0 takes a free one.
        token_file: File whose first line clients must send as 'Authorization: Bearer ...'; without
            it the environment's WAVESTILL_TOKEN, if that is set.
        max_seconds: Sound of one request, in seconds.
        max_active: Sounds drawn at the same time.
        max_waiting: Requests that wait beside them; one more is told to come back (429).
        timeout_s: Time for a whole answer, in seconds.
        drain_s: Time that what has begun may take to end, in seconds.
        export_page: Write the page with the student for browsers into this folder, to be put on
            any web server, and end.
        onnxruntime_web: Folder dist/ of the npm package onnxruntime-web, which the exported page
            runs the student with; without it the page has no student.
    """
    from wavestill.serving.app import Service
    from wavestill.serving.export import RUNTIME_VERSION, export
    from wavestill.serving.limits import Limits
    from wavestill.serving.server import Server, is_local

    if not 0 <= port < 2**16:
        raise ValueError(f"'port' is {port}; it must lie between 0 and 65535")
    if not drain_s >= 0:
        raise ValueError(f"'drain_s' is {drain_s:g}; it must be 0 or more")
    limits = Limits(
        max_seconds=max_seconds,
        max_active=max_active,
        max_waiting=max_waiting,
        timeout_s=timeout_s,
    )
    token = _token(token_file)
    voice = load(model)
    folder = model.resolve()
    name = folder.parent.name if folder.name == "voice" else folder.name
    if export_page is not None:
        written = export(voice, name, export_page, onnxruntime_web)
        say(f"{export_page}: {len(written)} files; put them on any web server")
        if onnxruntime_web is None:
            say(
                f"They lack {export_page / 'ort'}: npm pack onnxruntime-web@{RUNTIME_VERSION}, "
                "unpack it, and give --onnxruntime-web package/dist"
            )
        return Outcome({"written": written})
    service = Service(voice, name, limits=limits, token=token)
    server = Server(service, host, port, drain_s=drain_s)
    if token is None and not is_local(host):
        complain(
            f"wavestill: '{host}' can be reached from other machines and there is no token: "
            f"whoever reaches it may use it; give --token-file, or set {TOKEN_VARIABLE}"
        )
    asyncio.run(_serve(server, host))
    say("drained")
    return Outcome({"sound_seconds": service.metrics.total_sound_seconds})


async def _serve(server: Any, host: str) -> None:  # noqa: ANN401  (an extra's class)
    running = asyncio.create_task(server.run_to_end())
    while not server.started and not running.done():
        await asyncio.sleep(0.02)
    if server.started:
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{server.bound_port}/ (Ctrl-C ends it)")
    await running


def _token(path: Path | None) -> str | None:
    """The token of a file, or else of the environment.

    Raises:
        ValueError: If there is one and it is empty, or no header can carry it.
    """
    source = f"'{path}'" if path is not None else TOKEN_VARIABLE
    if path is None:
        given = os.environ.get(TOKEN_VARIABLE)
        if given is None:
            return None
    else:
        given = path.read_text(encoding="utf-8")
    token = given.strip().split("\n")[0].strip()
    if not token:
        raise ValueError(f"the token of {source} is empty; write one there")
    if not token.isascii():
        raise ValueError(f"the token of {source} holds more than ASCII; headers carry no other")
    return token

"""The page: files of this package, read once. No path that a client names is ever opened."""

from importlib.resources import files
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".flac": "audio/flac",
}

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; "
    "style-src 'self'; img-src 'self' data:; connect-src 'self'; media-src 'self' blob:; "
    "worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

_DEMO = "demo-004.flac"


def page_files() -> dict[str, bytes]:
    """The files of the page by name, and the demo recording as `demo.flac`."""
    folder = files("wavestill.serving") / "page"
    found = {
        entry.name: entry.read_bytes()
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if Path(entry.name).suffix in MEDIA_TYPES
    }
    demo = files("wavestill") / "data" / "demo_speech" / "wavs" / _DEMO
    return {**found, "demo.flac": demo.read_bytes()}


def page_routes() -> list[Route]:
    """`/` and each file of the page."""
    found = page_files()
    routes = [_route(f"/{name}", name, content) for name, content in found.items()]
    return [_route("/", "index.html", found["index.html"]), *routes]


def _route(path: str, name: str, content: bytes) -> Route:
    media_type = MEDIA_TYPES[Path(name).suffix]

    async def answer(request: Request) -> Response:
        del request
        return Response(content, media_type=media_type, headers=HEADERS)

    return Route(path, answer, methods=["GET"])

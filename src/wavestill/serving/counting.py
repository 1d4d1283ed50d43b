"""Counts every answer, by path and status."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wavestill.serving.answers import CLIENT_LEFT
from wavestill.serving.metrics import Metrics

_KNOWN = ("/v1/vocode", "/v1/frames", "/v1/models", "/healthz", "/readyz", "/metrics")


class Counting:
    """ASGI middleware.

    Arguments:
        app: What answers.
        metrics: Where it is counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and count."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, is_whole, began = CLIENT_LEFT, False, time.monotonic()

        async def noting(message: Message) -> None:
            nonlocal status, is_whole
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                is_whole = not message.get("more_body", False)
            await send(message)

        # Paths that clients think up would make counters without end.
        path = scope["path"] if scope["path"] in _KNOWN else "other"
        try:
            await self._app(scope, receive, noting)
        finally:
            told = status if is_whole else CLIENT_LEFT
            self._metrics.requests.labels(path, str(told)).inc()
            self._metrics.request_seconds.labels(path).observe(time.monotonic() - began)

"""A sound on its way out: the first stretch decides the status, the rest follow as they come."""

import asyncio
import time
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from wavestill.serving.formats import Encoder
from wavestill.serving.limits import Limits
from wavestill.serving.refusals import Refusal
from wavestill.serving.tickets import Piece, Ticket

CLIENT_LEFT = 499
"""No status of HTTP, but what proxies note when nobody is there to be answered."""


async def read_body(request: Request, most: int, limits: Limits) -> bytes:
    """A body, bounded in bytes and in time.

    Raises:
        Refusal: 408 if it takes too long, 413 if it is too large.
        ConnectionError: If the client leaves.
    """
    too_large = Refusal(413, f"the body is too large; send at most {most:,} bytes")
    told = request.headers.get("content-length", "")
    if told.isdecimal() and (len(told) > 15 or int(told) > most):
        raise too_large
    body = bytearray()
    until = time.monotonic() + limits.body_timeout_s
    while True:
        try:
            message = await asyncio.wait_for(request.receive(), max(0.0, until - time.monotonic()))
        except asyncio.TimeoutError:  # not the built-in one before Python 3.11
            raise Refusal(
                408, f"the body was not here after {limits.body_timeout_s:g} s; send it faster"
            ) from None
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client left while its body was read")
        body += message.get("body", b"")
        if len(body) > most:
            raise too_large
        if not message.get("more_body", False):
            return bytes(body)


class Visit:
    """One client's stay: a place, and a ticket that is cancelled when the client leaves.

    Arguments:
        request: Its body is read already: what comes next is that the client leaves.
        ticket: Its sound.
        leave: Gives the place back.
    """

    def __init__(self, request: Request, ticket: Ticket, leave: Callable[[], object]) -> None:
        self.ticket = ticket
        self._request = request
        self._leave = leave
        self._watching = asyncio.create_task(self._watch())

    def end(self) -> None:
        """End the stay; more than once does nothing."""
        self._watching.cancel()
        self.ticket.cancel()
        self._leave()

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.ticket.cancel()
        self.ticket.end(Refusal(CLIENT_LEFT, "the client left"))


class SoundResponse(Response):
    """A sound whose first stretch is there, streamed as it is made; ends the visit.

    If it cannot be finished, the connection is closed before its end: a WAV is then shorter than
    its Content-Length, and nobody takes it for whole.
    """

    def __init__(
        self,
        visit: Visit,
        first: Piece | None,
        encoder: Encoder,
        media_type: str,
        headers: dict[str, str],
        heard: Callable[[int], object],
    ) -> None:
        self._visit, self._first, self._encoder, self._heard = visit, first, encoder, heard
        if encoder.num_bytes is not None:
            headers = {**headers, "Content-Length": str(encoder.num_bytes)}
        self.status_code, self.background = 200, None
        self.media_type, self.body = media_type, b""
        self.init_headers({**headers, "Content-Type": media_type})

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Only those given: the body's length is not that of `body`."""
        self.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in (headers or {}).items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        ticket = self._visit.ticket
        start: Message = {"type": "http.response.start", "status": 200}
        try:
            await self._send(send, {**start, "headers": self.raw_headers})
            piece = self._first
            while piece is not None:
                self._heard(len(piece.levels))
                await self._send(send, _body(self._encoder.feed(piece.levels), more=True))
                piece = await ticket.take()
            await self._send(send, _body(self._encoder.end(), more=False))
        except (Refusal, asyncio.TimeoutError, OSError):
            return  # the client left, or did not listen, or time is over: see above
        finally:
            self._visit.end()

    async def _send(self, send: Send, message: Message) -> None:
        """Send, but not to a client that has ceased to read."""
        remaining = self._visit.ticket.deadline - time.monotonic()
        await asyncio.wait_for(send(message), max(0.001, remaining))


def _body(part: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": part, "more_body": more}

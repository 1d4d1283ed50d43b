"""uvicorn around the service: bounded connections, and an end in good order."""

import asyncio
import errno
import ipaddress
import socket
import threading
import time
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from wavestill.serving.app import Service

_CONNECTIONS_MAX = 512
_WS_MESSAGE_BYTES = 1 << 20
_HEADER_BYTES = 16_384
_HEAD_TIMEOUT_S = 10.0
_UNHEARD_TIMEOUT_S = 60.0
_POLL_S = 0.1


class Heard(asyncio.Protocol):
    """A connection that is cut off if its client takes nothing of what lies here for it.

    To be closed is not enough: what lies here would wait for the client, and stay in memory.
    """

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _unheard: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """Begin to wait: there is more than the client takes."""
        super().pause_writing()
        self._unheard = self.loop.call_later(_UNHEARD_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Wait no longer."""
        super().resume_writing()
        self._listened()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        self._listened()

    def _listened(self) -> None:
        if self._unheard is not None:
            self._unheard.cancel()


class PunctualProtocol(Heard, H11Protocol):
    """uvicorn's HTTP/1.1, but a request's head must be here in time: it takes no byte by byte."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait, unless there are too many already."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait_or_not()
        if len(self.connections) > _CONNECTIONS_MAX:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Wait no longer if the head is here; for the next one if the body is."""
        head = data.partition(b"\r\n\r\n")[0] if self.conn.their_state is h11.IDLE else b""
        if len(head) > _HEADER_BYTES:  # h11 bounds only heads that are not whole yet
            self.send_400_response(f"a request's head is over {_HEADER_BYTES:,} bytes; send less")
            return
        super().data_received(data)
        self._wait_or_not()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        if self._waiting is not None:
            self._waiting.cancel()

    def _wait_or_not(self) -> None:
        # the rest of a body may still come when its request is refused already
        is_unread = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        waits = is_unread or self.conn.their_state is h11.IDLE
        if waits and self._waiting is None:
            self._waiting = self.loop.call_later(_HEAD_TIMEOUT_S, self.transport.close)
        elif not waits and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class PatientSocket(Heard, WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, but pings of a client that takes no answers get none."""

    def handle_ping(self) -> None:
        """Answer if the answers before have been taken."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # takes the answer away


class Server(uvicorn.Server):
    """A server that, told to end, first finishes what it has begun.

    On SIGTERM or SIGINT `/readyz` and new work get 503 while requests in the house are finished,
    for at most `drain_s`; then it ends with status 0. A second signal ends it at once.

    Arguments:
        service: What is served.
        host: Address to bind to.
        port: Port; 0 takes a free one.
        drain_s: Seconds that what has begun may take to end.

    Raises:
        ValueError: If the port cannot be taken.
    """

    def __init__(self, service: Service, host: str, port: int, *, drain_s: float = 30.0) -> None:
        super().__init__(
            uvicorn.Config(
                service.app,
                host=host,
                port=port,
                http=PunctualProtocol,
                ws=PatientSocket,
                ws_ping_timeout=None,  # answers lie behind the frames that we let wait
                ws_max_size=_WS_MESSAGE_BYTES,
                ws_per_message_deflate=False,  # a small message could unpack to a large one
                h11_max_incomplete_event_size=_HEADER_BYTES,
                log_level="error",  # a warning for every scanner that speaks no HTTP fills disks
                server_header=False,
                timeout_keep_alive=10,
                timeout_graceful_shutdown=5,
            )
        )
        self._service = service
        self._service.gate.is_local = is_local(host)
        self._drain_s = drain_s

        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=2048)
        except OSError as error:
            is_the_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
            remedy = "another --port, or 0 for a free one" if is_the_port else "another --host"
            reason = str(error.strerror or error).partition(" (while")[0]
            raise ValueError(
                f"port {port} of '{host}' cannot be taken ({reason}); give {remedy}"
            ) from error

    @property
    def bound_port(self) -> int:
        """The port it listens on."""
        port: int = self._socket.getsockname()[1]
        return port

    async def run_to_end(self) -> None:
        """Serve until it is told to end, and what has begun is finished."""
        await self.serve(sockets=[self._socket])
        if self.force_exit:  # uvicorn leaves this out then, and a traceback of it in the log
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; by the second signal, end."""
        del sig, frame
        if self._service.gate.is_draining:
            self.force_exit = self.should_exit = True
            return
        self._service.gate.is_draining = True
        threading.Thread(target=self._drain, name="wavestill-drain", daemon=True).start()

    def _drain(self) -> None:
        until = time.monotonic() + self._drain_s
        while self._service.engine.num_in_house and time.monotonic() < until:
            time.sleep(_POLL_S)
        self.should_exit = True


def is_local(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""The WebSocket: frames in as they come, sound out as it is made."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from wavestill.serving.bodies import frames_of_message
from wavestill.serving.refusals import Refusal
from wavestill.serving.tickets import Order, Ticket

if TYPE_CHECKING:
    from wavestill.serving.app import Service

_KEYS = {"sampler", "seed", "speaker", "kl", "gain_db", "token"}
_GAIN_DB_MAX = 120.0
_CLOSE_CODES = {401: 1008, 403: 1008, 413: 1009, 422: 1008, 429: 1013, 503: 1001}


class Live:
    """One connection, from its first message to its last.

    The client says in one text message what it wants, then sends frames (binary, float32), then
    `{"end": true}`. The service answers with one text message, then sound (binary, 16 bits) and,
    if asked, texts of KL per frame, then `{"done": true}`. While the client does not take its
    sound, or sends frames faster than they are drawn, its next message is not read: TCP passes
    the pressure on.

    Arguments:
        service: Whose voice it is.
        socket: The connection.
    """

    def __init__(self, service: "Service", socket: WebSocket) -> None:
        self._service, self._socket = service, socket
        self._limits = service.limits
        self._num_frames = 0

    async def run(self) -> None:
        """Serve it to its end; problems are told in a text before it is closed."""
        try:
            self._service.gate.check_open()
            self._service.gate.check_origin(self._socket)
        except Refusal as refusal:
            await self._socket.close(_CLOSE_CODES[refusal.status], refusal.reason)
            return
        await self._socket.accept()
        try:
            await asyncio.wait_for(self._serve(), self._limits.max_stream_seconds)
            await self._socket.close(1000)
        except Refusal as refusal:
            await self._refuse(refusal)
        except asyncio.TimeoutError:  # not the built-in one before Python 3.11
            await self._refuse(Refusal(413, "the stream's time is over; begin another"))
        except (WebSocketDisconnect, RuntimeError):
            return  # the client has left

    async def _serve(self) -> None:
        order = self._order(await self._text())
        with self._service.engine.place():
            ticket = self._service.engine.submit(order, seconds=self._limits.max_stream_seconds)
            hearing = asyncio.create_task(self._hear(ticket))
            speaking = asyncio.create_task(self._speak(ticket))
            try:
                # hearing only ends by what it raises
                await asyncio.wait({hearing, speaking}, return_when=asyncio.FIRST_COMPLETED)
                await (speaking if speaking.done() else hearing)
            finally:
                hearing.cancel()
                speaking.cancel()
                ticket.cancel()
                await asyncio.gather(hearing, speaking, return_exceptions=True)

    async def _hear(self, ticket: Ticket) -> None:
        most = self._limits.max_stream_seconds * self._service.voice.spec.sample_rate
        while True:
            message = await self._receive()
            if (text := message.get("text")) is not None:
                if _read(text) != {"end": True}:
                    raise Refusal(422, 'after the first text only {"end": true} is understood')
                ticket.end_frames()
                break
            frames = frames_of_message(message.get("bytes") or b"", self._service.voice)
            self._num_frames += len(frames)
            if self._num_frames * self._service.voice.spec.hop_samples > most:
                raise Refusal(
                    413, f"the stream is over {self._limits.max_stream_seconds:g} s; begin another"
                )
            await ticket.offer(frames)
        # Nothing more is expected; but if the client leaves, drawing should end.
        if (await self._socket.receive())["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        raise Refusal(422, "nothing is understood after the end; begin another stream")

    async def _speak(self, ticket: Ticket) -> None:
        num_samples = 0
        spec = self._service.voice.spec
        counter = self._service.metrics.sound_seconds.labels(ticket.order.sampler)
        told = {"sample_rate": spec.sample_rate, "hop_samples": spec.hop_samples}
        await self._socket.send_text(json.dumps(told))
        while (piece := await ticket.take()) is not None:
            if piece.kl_nats:
                frame = num_samples // spec.hop_samples
                kl = [round(nats, 4) for nats in piece.kl_nats]
                await self._socket.send_text(json.dumps({"kl_nats": kl, "first_frame": frame}))
            sound = self._socket.send_bytes(piece.levels.astype("<i2").tobytes())
            await asyncio.wait_for(sound, self._limits.idle_timeout_s)
            num_samples += len(piece.levels)
            counter.inc(len(piece.levels) / spec.sample_rate)
        await self._socket.send_text(json.dumps({"done": True, "num_samples": num_samples}))

    async def _text(self) -> dict[str, Any]:
        text = (await self._receive()).get("text")
        told = None if text is None else _read(text)
        if not isinstance(told, dict):
            raise Refusal(422, 'the first message must be a text such as {"seed": 1}')
        return told

    async def _receive(self) -> dict[str, Any]:
        try:
            received = await asyncio.wait_for(
                self._socket.receive(), timeout=self._limits.idle_timeout_s
            )
        except asyncio.TimeoutError:
            raise Refusal(
                413, f"nothing came for {self._limits.idle_timeout_s:g} s; begin another stream"
            ) from None
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        return dict(received)

    def _order(self, told: dict[str, Any]) -> Order:
        """The order that the first message describes."""
        self._service.gate.check_token(told.get("token"))
        if unknown := sorted(map(str, told.keys() - _KEYS)):
            raise Refusal(422, f"unknown key {unknown[0][:40]!r}; there are {sorted(_KEYS)}")
        sampler, seed = told.get("sampler", "student"), told.get("seed", 0)
        if sampler not in ("student", "native"):
            raise Refusal(422, "'sampler' must be 'student' or 'native' for a live stream")
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise Refusal(422, f"'seed' must be a whole number from 0 to {2**32 - 1}")
        with_kl, speaker = told.get("kl", False), told.get("speaker")
        if not isinstance(with_kl, bool) or not (speaker is None or isinstance(speaker, str)):
            raise Refusal(422, "'kl' must be true or false, and 'speaker' a name or null")
        given = told.get("gain_db", 0.0)
        if type(given) not in (int, float) or not abs(given) <= _GAIN_DB_MAX:
            raise Refusal(422, f"'gain_db' must be a number within ±{_GAIN_DB_MAX:g}")
        if with_kl and (sampler != "student" or not self._service.described()["has_kl"]):
            raise Refusal(422, "'kl' needs sampler 'student' and a voice with a teacher")
        number = self._service.speaker_number(speaker)
        return Order(sampler, seed, number, gain_db=float(given), with_kl=with_kl)

    async def _refuse(self, refusal: Refusal) -> None:
        try:
            await self._socket.send_text(json.dumps({"error": refusal.reason}))
            code = _CLOSE_CODES.get(refusal.status, 1011)
            await self._socket.close(code, _close_reason(refusal.reason))
        except (WebSocketDisconnect, RuntimeError):
            return  # nobody is there to be told


def _close_reason(reason: str) -> str:
    """As much of it as a close frame holds: 123 bytes of UTF-8."""
    return reason.encode("utf-8", "replace")[:123].decode("utf-8", "ignore")


def _read(text: str) -> object:
    try:
        told: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return told

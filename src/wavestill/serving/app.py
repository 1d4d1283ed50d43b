"""The service's paths."""

import asyncio
import io
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from wavestill import __version__
from wavestill.input_frames import Copied
from wavestill.publish import Voice
from wavestill.serving.answers import CLIENT_LEFT, SoundResponse, Visit, read_body
from wavestill.serving.bodies import frames_of_body
from wavestill.serving.counting import Counting
from wavestill.serving.descriptions import (
    DESCRIPTION,
    errors,
    recording_body,
    sound_answer,
    vocode_body,
)
from wavestill.serving.engine import Engine
from wavestill.serving.formats import MEDIA_TYPES, Format, encoder_of
from wavestill.serving.gate import Gate
from wavestill.serving.limits import Limits
from wavestill.serving.live import Live
from wavestill.serving.metrics import Metrics
from wavestill.serving.pages import page_routes
from wavestill.serving.refusals import Refusal
from wavestill.serving.tickets import Order, Served

_log = logging.getLogger("wavestill.serving")


class Service:
    """One voice, its engine, and the app that serves it.

    Arguments:
        voice: Whose sound it is.
        name: What clients see as its id.
        limits: On requests.
        token: What clients must bear; None for an open service.
    """

    def __init__(
        self, voice: Voice, name: str, *, limits: Limits | None = None, token: str | None = None
    ) -> None:
        self.voice, self.name, self.limits = voice, name, limits or Limits()
        self.engine = Engine(voice, self.limits)
        self.gate = Gate(token)
        self.metrics = Metrics(self.engine, lambda: self.gate.is_draining)
        # Bodies are decoded one at a time: what they unpack to is held in memory once.
        self._decoding = ThreadPoolExecutor(1, thread_name_prefix="wavestill-bodies")
        self.app = self._app()

    async def frames_of(self, request: Request) -> Copied:
        """The frames of a request's body.

        Raises:
            Refusal: If there are none to be had.
        """
        body = await read_body(request, self.limits.max_body_bytes(self.voice.spec), self.limits)
        kind = request.headers.get("content-type", "")
        return await asyncio.get_running_loop().run_in_executor(
            self._decoding, frames_of_body, body, kind, self.voice, self.limits
        )

    def speaker_number(self, speaker: str | None) -> int | None:
        """The number of a speaker.

        Raises:
            Refusal: 422 if the voice does not know the name, or must be told one.
        """
        try:
            return self.voice.speaker_number(speaker)
        except ValueError as error:
            raise Refusal(422, str(error)) from None

    def described(self) -> dict[str, Any]:
        """The voice as `/v1/models` tells it."""
        return {
            "id": self.name,
            "samplers": list(self.engine.models.samplers),
            "has_kl": self.voice.teacher is not None and self.voice.student is not None,
            "sample_rate": self.voice.spec.sample_rate,
            "num_features": self.voice.spec.num_features,
            "spec": self.voice.spec.to_dict(),
            "level_dbfs": self.voice.level_dbfs,
            "speakers": list(self.voice.speakers),
            "max_seconds": self.limits.max_seconds,
            "max_bytes": self.limits.max_body_bytes(self.voice.spec),
            "max_frames": self.limits.max_frames(self.voice.spec),
            "measured": self.voice.measured,
        }

    async def vocode(
        self,
        request: Request,
        format: Annotated[Format, Query(description="Of the answer.")] = "wav",
        seed: Annotated[int, Query(ge=0, lt=2**32, description="Of the noise.", examples=[1])] = 0,
        sampler: Annotated[
            Served,
            Query(
                description="student: one parallel pass. The teacher, exactly: native, step by "
                "step; speculative, drafted by the student and verified."
            ),
        ] = "student",
        speaker: Annotated[
            str | None, Query(max_length=200, description="For voices of several.")
        ] = None,
    ) -> Response:
        """Sound of frames, or the copy of a recording."""
        number = self.speaker_number(speaker)
        with ExitStack() as stay:
            stay.enter_context(self.engine.place())
            copied = await self.frames_of(request)
            asked = time.monotonic()
            order = Order(sampler, seed, number, copied.frames, copied.gain_db)
            ticket = self.engine.submit(order, seconds=self.limits.timeout_s)
            visit = Visit(request, ticket, stay.pop_all().close)
        try:
            first = await ticket.take()
        except BaseException:
            visit.end()
            raise
        self.metrics.first_sound_seconds.labels(sampler).observe(time.monotonic() - asked)
        spec = self.voice.spec
        num_samples = len(copied.frames) * spec.hop_samples
        sound_seconds = self.metrics.sound_seconds.labels(sampler)
        return SoundResponse(
            visit,
            first,
            encoder_of(format, num_samples, spec.sample_rate),
            MEDIA_TYPES[format],
            {"X-Sample-Rate": str(spec.sample_rate), "X-Num-Samples": str(num_samples)},
            heard=lambda samples: sound_seconds.inc(samples / spec.sample_rate),
        )

    async def frames(self, request: Request) -> Response:
        """The frames of a recording, as this voice takes them: float32 `.npy`."""
        with self.engine.place():
            copied = await self.frames_of(request)
        written = io.BytesIO()
        np.save(written, copied.frames, allow_pickle=False)
        return Response(
            written.getvalue(),
            media_type="application/x-npy",
            headers={"X-Gain-Db": f"{copied.gain_db:.6f}"},
        )

    async def models(self) -> JSONResponse:
        """The voice: samplers, speakers, mel spec, limits, and what was measured of it."""
        return JSONResponse({"models": [self.described()]})

    async def healthz(self) -> JSONResponse:
        """Whether the process answers, and draws."""
        if not self.engine.is_alive:
            raise Refusal(503, "nothing is drawn here any more; start the service again")
        return JSONResponse({"status": "ok", "version": __version__})

    async def readyz(self) -> JSONResponse:
        """Whether new work is taken."""
        self.gate.check_open()
        return JSONResponse({"status": "ready"})

    async def prometheus(self) -> Response:
        """Counters for Prometheus."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def stream(self, socket: WebSocket) -> None:
        """Frames in, sound out."""
        await Live(self, socket).run()

    def _app(self) -> FastAPI:
        app = FastAPI(
            title="wavestill",
            version=__version__,
            description=DESCRIPTION,
            docs_url=None,  # their scripts would come from another site
            redoc_url=None,
            lifespan=self._lifespan,
        )
        app.add_middleware(Counting, metrics=self.metrics)
        for kind, handler in (
            (Refusal, _refused),
            (RequestValidationError, _misasked),
            (HTTPException, _http_error),
            (ConnectionError, _left),
        ):
            app.add_exception_handler(kind, handler)  # type: ignore[arg-type]
        guarded = APIRouter(prefix="/v1", dependencies=[Depends(self._checked)])
        both = (401, 403, 408, 413, 415, 422, 429, 503)
        guarded.post(
            "/vocode",
            response_class=Response,
            responses={**sound_answer(sorted(MEDIA_TYPES.values())), **errors(*both)},
            openapi_extra={"requestBody": vocode_body(self.voice, self.limits)},
        )(self.vocode)
        guarded.post(
            "/frames",
            response_class=Response,
            responses={
                200: {
                    "description": "Float32 .npy of shape (frames, columns).",
                    "content": {
                        "application/x-npy": {"schema": {"type": "string", "format": "binary"}}
                    },
                },
                **errors(*both),
            },
            openapi_extra={"requestBody": recording_body()},
        )(self.frames)
        guarded.get("/models", responses=errors(401, 403, 503))(self.models)
        app.include_router(guarded)
        app.add_api_websocket_route("/v1/stream", self.stream)
        app.get("/healthz", responses=errors(503))(self.healthz)
        app.get("/readyz", responses=errors(503))(self.readyz)
        metrics = app.get(
            "/metrics",
            response_class=Response,
            dependencies=[Depends(self._checked_token)],
            responses={
                200: {"description": "In Prometheus' own format.", "content": {"text/plain": {}}},
                **errors(401),
            },
        )
        metrics(self.prometheus)
        app.router.routes.extend(page_routes())
        return app

    def _checked(self, request: Request) -> None:
        self.gate.check(request)

    def _checked_token(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        self.gate.check_token(token.strip() if scheme.lower() == "bearer" else None)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        del app
        yield
        self.engine.stop()
        self._decoding.shutdown(cancel_futures=True)


Handler = Callable[[Request, Exception], Awaitable[Response]]


def _answer(refusal: Refusal) -> Response:
    return JSONResponse(
        {"error": refusal.reason}, status_code=refusal.status, headers=refusal.headers
    )


async def _refused(request: Request, error: Refusal) -> Response:
    del request
    return _answer(error)


async def _left(request: Request, error: ConnectionError) -> Response:
    del request, error
    return Response(status_code=CLIENT_LEFT)


async def _misasked(request: Request, error: RequestValidationError) -> Response:
    """The first thing wrong with the parameters, in one line."""
    del request
    found = error.errors()[0]
    where = ".".join(str(part) for part in found["loc"][1:]) or str(found["loc"][0])
    return _answer(Refusal(422, f"'{where}': {found['msg']}"))


async def _http_error(request: Request, error: HTTPException) -> Response:
    del request
    return JSONResponse(
        {"error": str(error.detail)}, status_code=error.status_code, headers=error.headers
    )

"""The application: routes, and a thread for each accepted request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from ... import __version__
from ...pipeline import FastSAM
from ..admission import Admission, Deadline
from ..answers import Answer
from ..refusals import BusyError, LateError
from ..service import Service
from ..settings import ServeSettings
from .bodies import discard, values_of
from .metrics import CONTENT_TYPE, Metrics
from .page import page_of
from .problems import problem, problem_of
from .schema import answers, problems, segment_body, select_body

_DESCRIPTION = (
    "Segments everything in an image; prompts (points, boxes, texts) pick from the segments. An image that was "
    "segmented is kept for a while under its id, so that further prompts need no further run of the network."
)
Work = Callable[[Any, Deadline], Answer]


@dataclass
class State:
    """Whether the server accepts requests.

    Example:
        >>> State().is_ready
        True
    """

    is_ready: bool = True


class Application:
    """The routes of a server.

    Attributes:
        asgi: the application for uvicorn.
        state: whether it is ready.

    Example:
        >>> application = Application(FastSAM(), service, ServeSettings(), Metrics())  # doctest: +SKIP
    """

    def __init__(self, model: FastSAM, service: Service, settings: ServeSettings, metrics: Metrics) -> None:
        self.state = State()
        self._model, self._service, self._settings, self._metrics = model, service, settings, metrics
        self._threads = ThreadPoolExecutor(2 * settings.queue, "fastsam-request")
        self._app = FastAPI(
            title="fastsam serve",
            version=__version__,
            description=_DESCRIPTION,
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
        )
        self._add_routes()
        self._page = page_of(self._app.openapi())
        routes = frozenset(route.path for route in self._app.routes if hasattr(route, "path"))
        self.asgi = metrics.around(self._app, routes)

    def close(self) -> None:
        """End the threads, after what they do now."""
        self._threads.shutdown()

    def _add_routes(self) -> None:
        limits, failures = self._settings.limits, problems()
        add = self._app.add_api_route
        add(
            "/v1/segment", self._segment, methods=["POST"], summary="Segment an image.", response_class=Response,
            description="Everything in it, or what the prompts pick.", responses=answers(),
            openapi_extra={"requestBody": segment_body(limits)},
        )  # fmt: skip
        add(
            "/v1/select", self._select, methods=["POST"], response_class=Response, responses=answers(),
            summary="Answer prompts on an image that was segmented before.",
            description="The network does not run again.", openapi_extra={"requestBody": select_body()},
        )  # fmt: skip
        add("/v1/model", self._describe, methods=["GET"], summary="What the server runs, and its limits.",
            responses={500: failures[500]}, response_class=JSONResponse)  # fmt: skip
        add("/health/live", self._live, methods=["GET"], summary="Whether the process answers.")
        add("/health/ready", self._ready, methods=["GET"], summary="Whether requests are accepted.",
            responses={503: failures[503]})  # fmt: skip
        for path, endpoint in (("/metrics", self._numbers), ("/openapi.json", self._document), ("/docs", self._shown)):
            add(path, endpoint, methods=["GET"], include_in_schema=False)
        self._app.add_exception_handler(HTTPException, _not_here)

    async def _segment(self, request: Request) -> Response:
        return await self._answered(request, self._service.segmenting, self._service.segment)

    async def _select(self, request: Request) -> Response:
        return await self._answered(request, self._service.selecting, self._service.select)

    async def _answered(self, request: Request, admission: Admission, work: Work) -> Response:
        deadline = Deadline(self._settings.timeout_s)
        try:
            with admission.entered():
                values = await asyncio.wait_for(values_of(request, self._settings.body_bytes), self._settings.timeout_s)
                answer = await self._in_thread(request, work, values, deadline)
        except asyncio.TimeoutError:
            text = f"the body did not arrive within {self._settings.timeout_s:g} s; send it faster, or a smaller image"
            return problem(408, "LateError", text, {"Connection": "close"})
        except Exception as error:  # noqa: BLE001 a bug is an answer too, with its traceback in the log
            if isinstance(error, BusyError):
                await discard(request, self._settings.body_bytes)
            return problem_of(error)
        finally:
            self._metrics.look_at(self._service, ready=self.state.is_ready)
        headers = {} if answer.id is None else {"X-Image-Id": answer.id}
        return Response(answer.body, answer.status, headers, answer.media_type)

    async def _in_thread(self, request: Request, work: Work, values: Any, deadline: Deadline) -> Answer:
        """The answer. A client that closes its connection meanwhile gives its request up."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.run_in_executor(self._threads, work, values, deadline)
        gone: asyncio.Future[Any] = asyncio.ensure_future(_until_gone(request))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                deadline.abandon()
            result: Answer = await answer
            return result
        finally:
            if not answer.done():  # the server stops without waiting
                deadline.abandon()
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone

    async def _describe(self, request: Request) -> Response:
        spec, limits = self._model.spec, self._settings.limits
        return JSONResponse(
            {
                "version": __version__,
                "class_names": list(spec.class_names),
                "spec": spec.to_json(),
                "imgsz": self._model.imgsz,
                "device": self._model.device,
                "engine": {name: str(value) for name, value in self._model.description.items()},
                "limits": {**vars(limits), "body_bytes": self._settings.body_bytes},
            }
        )

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def _ready(self, request: Request) -> Response:
        if self.state.is_ready:
            return JSONResponse({"status": "ready"})
        return problem_of(LateError("the server is shutting down; send requests to another one"))

    async def _numbers(self, request: Request) -> Response:
        self._metrics.look_at(self._service, ready=self.state.is_ready)
        return Response(await asyncio.to_thread(self._metrics.text), media_type=CONTENT_TYPE)

    async def _document(self, request: Request) -> Response:
        return JSONResponse(self._app.openapi())

    async def _shown(self, request: Request) -> Response:
        return HTMLResponse(self._page)


async def _until_gone(request: Request) -> None:
    """Until the client closes its connection; its body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _not_here(request: Request, error: Exception) -> Response:
    """A path or a method that there is not."""
    assert isinstance(error, HTTPException)
    await discard(request, 1 << 20)
    detail = f"{request.method} {request.url.path}: {error.detail}; expected POST /v1/segment or another path of /docs"
    return problem(error.status_code, "NotFound", detail, dict(error.headers or {}))

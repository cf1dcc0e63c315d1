"""One process that serves: an open model, uvicorn, and a shutdown that answers what was accepted."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType

import uvicorn

from ...pipeline import FastSAM
from ..peers import Peers
from ..service import Service
from ..settings import ServeSettings
from .app import Application, State
from .metrics import Metrics

_KEEP_ALIVE_S = 65
"""Longer than the minute for which proxies keep idle connections: they must not send into one that is closing."""


def serve(
    model: FastSAM,
    settings: ServeSettings,
    listener: socket.socket,
    *,
    started: Callable[[], None] = lambda: None,
    peers: Peers | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. What was accepted is answered before this returns.

    Args:
        model: open; it is not closed.
        settings: of the server.
        listener: bound to an address.
        started: called when requests are accepted.
        peers: other processes of the same server.

    Example:
        >>> with FastSAM() as model, bound("127.0.0.1", 8080) as listener:  # doctest: +SKIP
        ...     serve(model, ServeSettings(), listener)
    """
    metrics = Metrics()
    with ExitStack() as stack:
        service = stack.enter_context(Service(model, settings, metrics, peers))
        application = Application(model, service, settings, metrics)
        stack.callback(application.close)
        stack.callback(service.close)  # first: its threads wait for the service
        service.warm_up()
        server = uvicorn.Server(_config(application, settings))
        server.handle_exit = _Shutdown(server, application.state, settings.drain_s)
        listeners = [listener] if peers is None else [listener, stack.enter_context(peers.listener())]
        for each in listeners:
            each.listen(server.config.backlog)
        started()
        server.run(listeners)


def _config(application: Application, settings: ServeSettings) -> uvicorn.Config:
    return uvicorn.Config(
        application.asgi,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.grace_s)),
    )


class _Shutdown:
    """What a signal does. `/health/ready` says no at once; the server stops accepting after a while."""

    def __init__(self, server: uvicorn.Server, state: State, delay_s: float) -> None:
        self._server, self._state, self._delay_s = server, state, delay_s

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Called in the main thread. A second Ctrl-C cuts off what is under way."""
        if not self._state.is_ready:
            if number == signal.SIGINT:
                self._server.force_exit = self._server.should_exit = True
            return
        self._state.is_ready = False
        timer = threading.Timer(self._delay_s, self._stop)
        timer.daemon = True
        timer.start()

    def _stop(self) -> None:
        self._server.should_exit = True

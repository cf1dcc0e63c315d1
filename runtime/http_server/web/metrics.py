"""Metrics for Prometheus."""

from __future__ import annotations

import os
from time import perf_counter
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector

from ...segments import Segments
from ..service import Service

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where the processes of one server put their numbers. It is read when `prometheus_client` is imported."""

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_STAGE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """What a server counts. It is an `Observer` of the service, and ASGI middleware around the application.

    Example:
        >>> metrics = Metrics()
        >>> metrics.batch(3)
        >>> [line for line in metrics.text().decode().splitlines() if line.startswith("fastsam_batch_size_sum")]
        ['fastsam_batch_size_sum 3.0']
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._folder = os.environ.get(FOLDER_VARIABLE)
        if self._folder is None:
            ProcessCollector(registry=registry)
        settings: dict[str, Any] = {"registry": registry}
        self._requests = Counter("fastsam_requests", "Answers, by route and status.", ["route", "status"], **settings)
        self._seconds = Histogram(
            "fastsam_request_seconds",
            "From a request's headers to its answer.",
            ["route"],
            buckets=_SECONDS,
            **settings,
        )
        self._stages = Histogram(
            "fastsam_stage_seconds", "Stages of an image.", ["stage"], buckets=_STAGE_SECONDS, **settings
        )
        self._batches = Histogram("fastsam_batch_size", "Images of a batch.", buckets=_IMAGES, **settings)
        self._segments = Counter("fastsam_segments", "Segments of all images, before prompts.", **settings)
        self._lookups = Counter("fastsam_cache_lookups", "Prompts on kept images.", ["result"], **settings)
        live: dict[str, Any] = {**settings, "multiprocess_mode": "livesum"}
        self._inside = Gauge("fastsam_requests_in_progress", "Accepted requests.", ["route"], **live)
        self._waiting = Gauge("fastsam_images_waiting", "Decoded images that wait for the network.", **live)
        self._kept = Gauge("fastsam_cache_images", "Images that are kept for prompts.", **live)
        self._kept_bytes = Gauge("fastsam_cache_bytes", "Memory of these.", **live)
        self._ready = Gauge("fastsam_ready", "Processes that accept requests.", **live)

    def batch(self, images: int) -> None:
        """See `Observer`."""
        self._batches.observe(images)

    def segmented(self, segments: Segments) -> None:
        """See `Observer`."""
        self._segments.inc(len(segments))
        for stage, ms in segments.timing_ms.items():
            self._stages.labels(stage).observe(ms / 1000)

    def looked_up(self, found: bool) -> None:
        """See `Observer`."""
        self._lookups.labels("hit" if found else "miss").inc()

    def look_at(self, service: Service, *, ready: bool) -> None:
        """Take the numbers that only the service knows."""
        self._inside.labels("/v1/segment").set(service.segmenting.inside)
        self._inside.labels("/v1/select").set(service.selecting.inside)
        self._waiting.set(service.waiting)
        self._kept.set(len(service.cache))
        self._kept_bytes.set(service.cache.bytes)
        self._ready.set(ready)

    def text(self) -> bytes:
        """All metrics as Prometheus reads them; with several processes, the sums of all."""
        registry = self._registry
        if self._folder is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, self._folder)
        return bytes(generate_latest(registry))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """An answer was given."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def around(self, app: Any, routes: frozenset[str]) -> Any:
        """An ASGI application that counts the answers of another one.

        Args:
            app: the other one.
            routes: paths that are counted by their names; all others are "other".
        """

        async def measured(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or _is_of_a_peer(scope):
                await app(scope, receive, send)
                return
            start, status = perf_counter(), 500

            async def send_and_note(message: Any) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, send_and_note)
            finally:
                route = scope["path"] if scope["path"] in routes else "other"
                self.answered(route, status, perf_counter() - start)

        return measured


def _is_of_a_peer(scope: Any) -> bool:
    """Whether another process of this server has passed a request on, and counts it."""
    server = scope.get("server")
    return server is not None and server[1] is None

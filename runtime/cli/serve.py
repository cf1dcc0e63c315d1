"""`fastsam serve`: images over HTTP. Heavy libraries are imported by the command."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ..errors import MissingDependencyError, ParameterError, pip_install
from .config import with_config
from .groups import with_groups
from .options import ModelOption, NetworkOptions, network_option, option

if TYPE_CHECKING:
    from ..http_server.settings import ServeSettings

_listen, _batch, _limit = (partial(option, panel=name) for name in ("Listening", "Batches and memory", "Limits"))
_MB = 1_000_000
_MODULES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


@dataclass(frozen=True)
class ListenOptions:
    """Where the server listens, and how it stops.

    Example:
        >>> ListenOptions(port=0).host
        '127.0.0.1'
    """

    host: Annotated[
        str,
        _listen("Address to listen on; 0.0.0.0: all of this machine. There is no authentication: put it in front."),
    ] = "127.0.0.1"
    port: Annotated[int, _listen("Port to listen on; 0: a free one.")] = 8080
    workers: Annotated[int, _listen("Processes, each with the model open and with a cache of its own.")] = 1
    drain: Annotated[
        float,
        _listen(
            "On SIGTERM, go on accepting for so many seconds while /health/ready says 503, so that a load balancer "
            "can notice."
        ),
    ] = 0.0
    grace: Annotated[float, _listen("Seconds after which requests that are still under way are cut off.")] = 60.0


@dataclass(frozen=True)
class BatchOptions:
    """How requests share the network, and what is kept.

    Example:
        >>> BatchOptions(max_batch=4).parallel
        1
    """

    max_batch: Annotated[int, _batch("Images of a batch.")] = 8
    max_delay: Annotated[float, _batch("Milliseconds that an image waits for others while the network is free.")] = 2.0
    parallel: Annotated[int, _batch("Batches at once; for several, give --threads too.")] = 1
    cache_images: Annotated[int, _batch("Segmented images that are kept for /v1/select; 0: none.")] = 256
    cache_mb: Annotated[float, _batch("Memory of these, megabytes.")] = 512.0


@dataclass(frozen=True)
class LimitOptions:
    """What one request may take.

    Example:
        >>> LimitOptions(queue=16).max_image_mb
        64.0
    """

    queue: Annotated[int, _limit("Requests that are accepted at once, in a process; others get 503.")] = 128
    timeout: Annotated[float, _limit("Seconds from the first byte of a request to its answer.")] = 60.0
    max_image_mb: Annotated[float, _limit("Megabytes of an image file.")] = 64.0
    max_megapixels: Annotated[float, _limit("Megapixels of an image.")] = 50.0
    max_answer_mb: Annotated[float, _limit("Megabytes of an answer.")] = 128.0
    decode_seconds: Annotated[
        float, _limit("That decoding an image may take, in a process of its own; 0: decode here, without limits.")
    ] = 20.0
    allow_url: Annotated[
        list[str] | None,
        _limit(
            "Fetch images by URL from this host. May be repeated. Addresses that are not public are refused.",
            "--allow-url",
            metavar="https://HOST",
        ),
    ] = None


@with_config
@with_groups
def serve(
    *,
    model: ModelOption = None,
    clip: Annotated[
        Path | None,
        network_option("CLIP model for text prompts, made by: fastsam-export clip.", "--clip", metavar="FOLDER"),
    ] = None,
    network: NetworkOptions,
    listening: ListenOptions,
    batching: BatchOptions,
    limits: LimitOptions,
) -> None:
    """Serve a model over HTTP: images in, segments out; prompts on segmented images; metrics.

    Stop it with Ctrl-C or SIGTERM: what it has accepted is answered first. --conf, --iou and --max-det are those of
    requests without their own.

    Example: fastsam serve --port 8080
    """
    settings = _settings(listening, batching, limits)
    missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(f"serve: {missing[0]} is not installed; run: {pip_install('serve')}")
    from ..batch.console import open_console, say
    from ..http_server.listening import address_of, bound
    from ..http_server.web.run import ServedModel, run

    console = open_console(stderr=True)
    served = ServedModel(model, network.settings(), clip)
    with bound(settings.host, settings.port) as listener:
        run(
            served,
            settings,
            listener,
            say=lambda text: say(console, f"fastsam: {text}"),
            started=f"serving on {address_of(listener)}, API on {address_of(listener)}/docs; Ctrl-C stops it",
        )


def _settings(listening: ListenOptions, batching: BatchOptions, limits: LimitOptions) -> ServeSettings:
    """
    Raises:
        ParameterError: a value is out of its range.
    """
    from ..http_server.settings import ServeSettings
    from ..http_server.urls import Origin
    from ..wire.question import Limits

    for name, value in (("--max-image-mb", limits.max_image_mb), ("--max-megapixels", limits.max_megapixels),
                        ("--max-answer-mb", limits.max_answer_mb), ("--cache-mb", batching.cache_mb)):  # fmt: skip
        if not 0 <= value <= _MB:
            raise ParameterError(f"{name} is {value:g}, expected a number from 0 to {_MB:,}")
    return ServeSettings(
        host=listening.host,
        port=listening.port,
        workers=listening.workers,
        drain_s=listening.drain,
        grace_s=listening.grace,
        max_batch=batching.max_batch,
        max_delay_s=batching.max_delay / 1000,
        parallel=batching.parallel,
        cache_images=batching.cache_images,
        cache_bytes=round(batching.cache_mb * _MB),
        queue=limits.queue,
        timeout_s=limits.timeout,
        decode_s=limits.decode_seconds or None,
        origins=tuple(map(Origin.from_text, limits.allow_url or ())),
        limits=Limits(
            image_bytes=round(limits.max_image_mb * _MB),
            pixels=round(limits.max_megapixels * _MB),
            answer_bytes=round(limits.max_answer_mb * _MB),
        ),
    )

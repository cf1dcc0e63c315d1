"""Settings of `fastsam serve`, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..documents import quoted
from ..errors import ParameterError
from ..system.cpu import usable_cpus
from ..wire.question import Limits
from .urls import Origin

DEFAULT_PORT = 8080
MOST_DECODERS = 4
_HIGHEST_PORT = 65_535
_DAY_S = 86_400.0
_MOST = 1_000_000

_WHOLE = {"port": (0, _HIGHEST_PORT), "workers": (1, 256), "max_batch": (1, 256), "parallel": (1, 64),
          "queue": (1, _MOST), "cache_images": (0, _MOST), "cache_bytes": (0, 2**50)}  # fmt: skip
_SECONDS = {"max_delay_s": 0.0, "timeout_s": 0.001, "drain_s": 0.0, "grace_s": 0.0, "url_s": 0.001}


@dataclass(frozen=True)
class ServeSettings:
    """How a server listens, batches, and what it takes at most.

    Attributes:
        host: address to listen on.
        port: to listen on; 0: a free one.
        workers: processes, each with the model open. Their caches are their own.
        max_batch: images of a batch.
        max_delay_s: longest wait of an image for others, while the network is free.
        parallel: batches at once in a process.
        queue: requests to segment that are accepted at once, in a process; further ones are refused with 503. As many
            prompts on kept images are accepted besides.
        timeout_s: that a request may take, from its first byte to its answer.
        drain_s: on SIGTERM the server goes on accepting for so long, while `/health/ready` says 503.
        grace_s: after which requests that are still under way are cut off.
        cache_images: segmented images that are kept for further prompts, in a process; 0: none.
        cache_bytes: memory of these.
        decode_s: that decoding of an image may take, in a process of its own; None: decode without limits.
        url_s: that fetching an image may take.
        origins: from which images are fetched by URL; none: URLs are refused.
        limits: of one request.

    Raises:
        ParameterError: a value is out of its range.

    Example:
        >>> ServeSettings(port=0, max_batch=4).body_bytes
        86381909
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    workers: int = 1
    max_batch: int = 8
    max_delay_s: float = 0.002
    parallel: int = 1
    queue: int = 128
    timeout_s: float = 60.0
    drain_s: float = 0.0
    grace_s: float = 60.0
    cache_images: int = 256
    cache_bytes: int = 1 << 29
    decode_s: float | None = 20.0
    url_s: float = 10.0
    origins: tuple[Origin, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name, (least, most) in _WHOLE.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ParameterError(f"{name} is {quoted(value)}, expected a whole number from {least} to {most}")
        for name, shortest in _SECONDS.items():
            _check_seconds(name, getattr(self, name), shortest)
        if self.decode_s is not None:
            _check_seconds("decode_s", self.decode_s, 0.001)
        for name in ("image_bytes", "pixels", "answer_bytes"):
            if getattr(self.limits, name) < 1:
                raise ParameterError(f"{name} is {getattr(self.limits, name)}, expected a number of 1 or more")

    @property
    def body_bytes(self) -> int:
        """Limit of the body of a request: an image in base64, and a megabyte for the rest."""
        return self.limits.image_bytes * 4 // 3 + (1 << 20)

    @property
    def decoders(self) -> int:
        """Images that are decoded at once."""
        return min(usable_cpus(), MOST_DECODERS)


def _check_seconds(name: str, value: object, shortest: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not shortest <= value <= _DAY_S:
        raise ParameterError(f"{name} is {quoted(value)}, expected seconds from {shortest:g} to {_DAY_S:g} (a day)")

"""The one door to Ray: it is imported, started and joined here, without its reports of usage."""

from __future__ import annotations

import logging
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .....errors import FastSamError, MissingDependencyError, pip_install
from .....system.cpu import usable_cpus
from .....system.variables import unless_set, variables
from .settings import LOCAL

_USAGE = "RAY_USAGE_STATS_ENABLED"
_LOOPBACK = "127.0.0.1"
_ANSWER_S = 10.0
_OBJECT_STORE_BYTES = 100 << 20
"""Of Ray on this machine: only numbers go through it."""


def connect(address: str) -> Any:
    """Join a cluster, or start Ray on this machine.

    Args:
        address: see `ClusterSettings`.

    Returns:
        The module `ray`, connected. `ray.shutdown()` leaves the cluster, or ends what was started.

    Raises:
        MissingDependencyError: Ray is not installed.
        FastSamError: this process is connected already, or nobody answers at the address.

    Example:
        >>> ray = connect("local")  # doctest: +SKIP
    """
    # Ray reads its variable when it starts.
    with variables(unless_set({_USAGE: "0"})), _signals_kept():
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(f"--ray: Ray is not installed; run: {pip_install('batch', 'ray')}") from error
        if ray.is_initialized():
            raise FastSamError("this process is connected to Ray already; call ray.shutdown() before the run")
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            _check_somebody_listens(address)
            if address == LOCAL:
                ray.init(
                    LOCAL,  # without it, Ray would join a cluster that it finds on this machine
                    num_cpus=usable_cpus(),
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    _node_ip_address=_LOOPBACK,
                    **quiet,
                )
            else:
                ray.init(address=address, **quiet)
        except Exception as error:  # Ray raises many classes, and Exception itself if its processes do not start
            raise FastSamError(
                f"--ray {address}: no connection ({_first_line(error)}); expected HOST:PORT of a head node that runs "
                f"(ray start --head), with Ray {ray.__version__}, or local"
            ) from error
    return ray


def _check_somebody_listens(address: str) -> None:
    """Ray itself would wait for ten minutes. Raises OSError."""
    match = re.fullmatch(r"\[?([^\s/\]]+)\]?:(\d{1,5})", address)
    if match is not None:
        socket.create_connection((match[1], int(match[2])), timeout=_ANSWER_S).close()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray puts a handler of its own in place of that for SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)

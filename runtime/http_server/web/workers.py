"""Several processes that serve one address: each opens the model, and one that ends is replaced."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType

from ...errors import FastSamError
from ...pipeline import FastSAM
from ...system.scratch import scratch_folder
from ..peers import Peers
from ..settings import ServeSettings

_PAUSE_S = 1.0
"""Before a worker is replaced that never became ready."""

_PATIENCE_S = 10.0
"""On top of the time that requests may take, before a worker that does not end is killed."""

OpenModel = Callable[[], FastSAM]


@dataclass
class _Worker:
    """A process of the server, and the pipe by which it says that it is ready, or why it never will be."""

    number: int
    process: SpawnProcess
    pipe: Connection
    is_ready: bool = False
    refusal: str | None = None


class Workers:
    """The processes of a server.

    They are spawned and not forked, as CUDA demands. All accept from one socket. A worker that ends, however it ends,
    is replaced; what it had accepted is lost, and its clients see a closed connection. When this process ends, however
    it ends, its workers answer what they have accepted and end too.

    Example:
        >>> Workers(open_model, ServeSettings(workers=2), listener, print).run("serving")  # doctest: +SKIP
    """

    def __init__(
        self, open_model: OpenModel, settings: ServeSettings, listener: socket.socket, say: Callable[[str], None]
    ) -> None:
        """
        Args:
            open_model: opens the model in a worker; it can be pickled.
            settings: of the server.
            listener: bound to an address.
            say: prints a line for the operator.
        """
        self._open_model, self._settings, self._listener, self._say = open_model, settings, listener, say
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._is_stopping = self._was_ready = False

    def run(self, started: str) -> None:
        """Serve until SIGTERM or SIGINT.

        Args:
            started: said when all workers are ready for the first time.

        Raises:
            FastSamError: a worker could not open the model.
        """
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            with scratch_folder() as folder:
                self._folder = folder
                self._workers = [self._begin(number) for number in range(self._settings.workers)]
                try:
                    self._watch(started)
                finally:
                    self._end()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _begin(self, number: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        peers = Peers(self._folder, number, self._settings.workers)
        arguments = (self._open_model, self._settings, self._listener, peers, theirs)
        process = self._context.Process(target=_work, args=arguments, name=f"fastsam-serve-{number}")
        process.start()
        theirs.close()
        return _Worker(number, process, ours)

    def _watch(self, started: str) -> None:
        """Replace workers that end, until this process is told to stop."""
        while not self._is_stopping:
            pipes = [worker.pipe for worker in self._workers if not worker.is_ready]
            wait([*(worker.process.sentinel for worker in self._workers), *pipes], 1.0)
            for worker in self._workers:
                self._hear(worker)
            if not self._was_ready and all(worker.is_ready for worker in self._workers):
                self._was_ready = True
                self._say(f"{started} ({len(self._workers)} processes)")
            for place, worker in enumerate(self._workers):
                if not worker.process.is_alive() and not self._is_stopping:
                    self._workers[place] = self._replaced(worker)

    def _hear(self, worker: _Worker) -> None:
        with suppress(EOFError, OSError):
            if not worker.is_ready and worker.pipe.poll():
                said = worker.pipe.recv()
                worker.is_ready, worker.refusal = (True, None) if said is True else (False, said)

    def _replaced(self, worker: _Worker) -> _Worker:
        from prometheus_client.multiprocess import mark_process_dead

        worker.process.join()
        self._hear(worker)
        worker.pipe.close()
        mark_process_dead(worker.process.pid or 0, str(self._folder))
        if worker.refusal is not None and not self._was_ready:
            raise FastSamError(worker.refusal)
        reason = "" if worker.refusal is None else f" ({worker.refusal})"
        self._say(f"worker {worker.process.pid} ended with {worker.process.exitcode}{reason}; another one starts")
        if not worker.is_ready:
            time.sleep(_PAUSE_S)
        return self._begin(worker.number)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """A signal: the workers answer what they have accepted. Ctrl-C in a terminal reaches them by itself too."""
        self._is_stopping = True
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.terminate()

    def _end(self) -> None:
        self._stop(signal.SIGTERM, None)
        until = time.monotonic() + self._settings.drain_s + self._settings.grace_s + _PATIENCE_S
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()


def _work(
    open_model: OpenModel, settings: ServeSettings, listener: socket.socket, peers: Peers, pipe: Connection
) -> None:
    """What a worker does."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))  # nothing is accepted yet
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(peers.folder)  # before `prometheus_client` is imported
    from .server import serve

    try:
        with open_model() as model:
            serve(model, settings, listener, started=lambda: pipe.send(True), peers=peers)
    except FastSamError as error:
        pipe.send(str(error))
        sys.exit(1)


def _end_with_parent(pipe: Connection) -> None:
    """The parent writes nothing: the pipe ends when the parent does, also if it was killed."""
    with suppress(EOFError, OSError):
        pipe.recv()
    os.kill(os.getpid(), signal.SIGTERM)

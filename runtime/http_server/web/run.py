"""Starting a server: in this process, or in several."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...opening import ModelSettings, open_model
from ...pipeline import FastSAM
from ..settings import ServeSettings
from .workers import Workers


@dataclass(frozen=True)
class ServedModel:
    """What to open. It travels to the processes of a server, each of which opens it.

    Attributes:
        model: see `open_model`.
        settings: see `open_model`.
        clip: folder of a CLIP model, for text prompts.

    Example:
        >>> model = ServedModel("FastSAM-s.onnx", ModelSettings()).open()  # doctest: +SKIP
    """

    model: str | Path | None
    settings: ModelSettings
    clip: Path | None = None

    def open(self) -> FastSAM:
        """Open it.

        Raises:
            FastSamError: see `open_model`.
        """
        return open_model(self.model, self.settings, clip=self.clip)


def run(
    served: ServedModel,
    settings: ServeSettings,
    listener: socket.socket,
    *,
    say: Callable[[str], None],
    started: str,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        served: the model.
        settings: of the server.
        listener: bound to an address.
        say: prints a line for the operator.
        started: the line when requests are accepted.

    Raises:
        FastSamError: the model cannot be opened.

    Example:
        >>> served = ServedModel(None, ModelSettings())
        >>> run(served, ServeSettings(), listener, say=print, started="serving")  # doctest: +SKIP
    """
    if settings.workers == 1:
        from .server import serve  # not for workers, which first say where their metrics are

        with served.open() as model:
            serve(model, settings, listener, started=lambda: say(started))
    else:
        Workers(served.open, settings, listener, say).run(started)

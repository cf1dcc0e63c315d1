"""A model from its opening to its end: what it consists of, what it says of itself, and what is closed with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from .clip.encoders import Clip
from .errors import ModelError
from .segmenters.interface import Segmenter
from .settings import EngineSettings, Thresholds
from .spec import ModelSpec

Opened = TypeVar("Opened", bound="OpenModel")


class OpenModel:
    """A segmenter, on request with a CLIP for text prompts. `FastSAM` and `TRTFastSAM` open it and ask it.

    Attributes:
        thresholds: those of calls without thresholds of their own.
        clip: for text prompts, or None.

    Example:
        >>> with FastSAM() as model:  # doctest: +SKIP
        ...     print(model, model.imgsz)
    """

    def _start(
        self,
        segmenter_with: Callable[[Clip | None], Segmenter],
        thresholds: Thresholds,
        clip: str | Path | Clip | None,
        settings: EngineSettings,
    ) -> None:
        """Open the CLIP and the segmenter. If one cannot be opened, the other is closed.

        Args:
            segmenter_with: opens the segmenter, with the CLIP for its text prompts.
            thresholds: defaults for all calls.
            clip: see `FastSAM`.
            settings: device and threads of a CLIP that is opened here.
        """
        self.thresholds = thresholds
        with ExitStack() as stack:
            if isinstance(clip, (str, Path)):
                clip = stack.enter_context(Clip.open(clip, settings.device, settings.threads))
            self.clip = clip
            self._hold(segmenter_with(clip), stack)

    def _hold(self, segmenter: Segmenter, stack: ExitStack) -> None:
        """Use this segmenter. `close` closes it, then the content of the stack, even if one of them fails."""
        stack.callback(segmenter.close)
        self._segmenter = segmenter
        self._owned = stack.pop_all()

    @property
    def spec(self) -> ModelSpec:
        """Inputs and outputs of the model."""
        return self._segmenter.spec

    @property
    def device(self) -> str:
        """Where the network runs: "cpu", "cuda:0", or the host of the server."""
        return self._segmenter.device

    @property
    def description(self) -> dict[str, Any]:
        """Library, version and settings of the network, for reports."""
        return self._segmenter.description

    @property
    def imgsz(self) -> int:
        """Longest side of the network's input, pixels."""
        return self._segmenter.imgsz

    def __repr__(self) -> str:
        """Model, engine, precision, device, and what computes masks on the host."""
        try:
            known = {"precision": self.spec.precision, **self.description, "device": self.device}
        except ModelError:  # of a closed network on a GPU nothing is known
            return f"{type(self).__name__}(closed)"
        known["model"] = known.get("file") or known.get("address")
        names = ("model", "engine", "precision", "device", "masks")
        shown = [f"{name}={known[name]!r}" for name in names if known.get(name)]
        return f"{type(self).__name__}({', '.join(shown)})"

    def close(self) -> None:
        """Close the engine and the CLIP if they were opened by this object, or the connection to the server."""
        self._owned.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"an open {type(self).__name__} cannot be pickled or copied; give the path of the model to the other "
            "process and open it there"
        )

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

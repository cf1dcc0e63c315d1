"""One model at the input sizes that users choose."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from ..clip.encoders import Clip
from ..connection import is_address
from ..engines import open_engine
from ..input_size import MAX_IMGSZ
from ..opening import ModelSettings, is_plan, open_model
from ..pipeline import FastSAM
from ..weights.cache import find_model, is_published
from ..weights.demo import demo_model_path

LARGEST_CHOICE = 1536
"""Longest input side that can be chosen, unless the model is opened with a larger one."""


@dataclass(frozen=True)
class Sizes:
    """Input sizes to choose from, pixels of the longest side.

    Example:
        >>> 640 in range(Sizes(640).lowest, Sizes(640).highest + 1, Sizes(640).step)
        True
    """

    usual: int
    step: int = 32

    @property
    def lowest(self) -> int:
        return min(self.usual, 8 * self.step)

    @property
    def highest(self) -> int:
        return min(MAX_IMGSZ, max(self.usual, LARGEST_CHOICE // self.step * self.step))


class SizedModel:
    """A model and what `FastSAM` needs for each of its input sizes. The network is open once.

    A plan, a model on a server and a model of fixed size have one size: that with which they are opened.

    Example:
        >>> with SizedModel(None, ModelSettings()) as model:  # doctest: +SKIP
        ...     segments = model.at(640).segment("photo.jpg")
    """

    def __init__(self, model: str | Path | None, settings: ModelSettings, clip: Path | None = None) -> None:
        """
        Args:
            model: see `open_model`.
            settings: as for all models; `imgsz` is the usual size.
            clip: folder of a CLIP model, for text prompts.

        Raises:
            FastSamError: the model cannot be opened, or does not support a setting.
        """
        with ExitStack() as stack:
            if model is not None and (is_address(model) or is_plan(model)):
                self.usual = stack.enter_context(open_model(model, settings, clip=clip))
                self._of_size: Callable[[int], FastSAM] | None = None
            else:
                self._of_size = _opener(model, settings, clip, stack)
                self.usual = self._of_size(settings.imgsz or 0)
            self._owned = stack.pop_all()
        is_dynamic = self._of_size is not None and self.usual.spec.fixed_hw is None
        self.sizes = Sizes(self.usual.imgsz, self.usual.spec.stride) if is_dynamic else None
        self.answers_texts = self.usual.clip is not None

    def at(self, imgsz: int | None) -> FastSAM:
        """The model with this input size.

        Args:
            imgsz: pixels of the longest side; None: the usual size.

        Raises:
            ParameterError: it is no multiple of the stride, or the model has one size only.
        """
        if imgsz is None or imgsz == self.usual.imgsz or self.sizes is None or self._of_size is None:
            return self.usual
        return self._of_size(imgsz)

    def close(self) -> None:
        """Close the network and the CLIP."""
        self._owned.close()

    def __enter__(self) -> SizedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _opener(
    model: str | Path | None, settings: ModelSettings, clip: Path | None, stack: ExitStack
) -> Callable[[int], FastSAM]:
    """Makes a `FastSAM` of an input size, which takes no time: all of them have the same network."""
    path = demo_model_path() if model is None else find_model(str(model)) if is_published(model) else Path(model)
    encoders = None
    if clip is not None:
        encoders = stack.enter_context(Clip.open(clip, settings.engine.device, settings.engine.threads))
    engine = open_engine(path, settings.engine)
    stack.callback(engine.close)

    def of_size(imgsz: int) -> FastSAM:
        return FastSAM(engine, clip=encoders, imgsz=imgsz or None, rect=settings.rect, **asdict(settings.thresholds))

    return of_size

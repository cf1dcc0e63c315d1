"""Models by path or address, opened as every command opens them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .connection import is_address
from .engines.registry import engines_for
from .pipeline import FastSAM, demo_model_path
from .settings import EngineSettings, Thresholds, refuse_settings

_NOT_OF_A_SERVER = ("device", "threads")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a model is opened, and what of its answers is kept.

    Attributes:
        thresholds: which detections are kept.
        engine: how the network is opened.
        imgsz: longest side of the network's input, pixels; None: the model's own.
        rect: see `FastSAM`.

    >>> ModelSettings.from_keywords(conf=0.2, device="cuda").engine.device
    'cuda'
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    engine: EngineSettings = field(default_factory=EngineSettings)
    imgsz: int | None = None
    rect: bool | None = None

    @classmethod
    def from_keywords(cls, **keywords: Any) -> ModelSettings:
        """Of keywords as `FastSAM` takes them.

        Raises:
            DeviceError, ParameterError: a value is out of its range.
        """
        parts: dict[type[Any], dict[str, Any]] = {
            kind: {part.name: keywords.pop(part.name) for part in fields(kind) if part.name in keywords}
            for kind in (Thresholds, EngineSettings)
        }
        return cls(Thresholds(**parts[Thresholds]), EngineSettings(**parts[EngineSettings]), **keywords)

    def keywords(self) -> dict[str, Any]:
        """Keywords of `FastSAM`, all of them.

        >>> ModelSettings(imgsz=640).keywords()["imgsz"]
        640
        """
        return {**asdict(self.thresholds), "imgsz": self.imgsz, "rect": self.rect, **asdict(self.engine)}

    def changed(self, **keywords: Any) -> ModelSettings:
        """With other values, by `FastSAM`'s names.

        >>> ModelSettings().changed(device="cuda:1", imgsz=640).imgsz
        640
        """
        return self.from_keywords(**self.keywords() | keywords)

    def for_model(self, model: str | Path) -> ModelSettings:
        """For one of several models that share these: without what it cannot have.

        A model on a server has no device and no threads of this process, and a plan has no CPU threads. What would
        change its answers stays, so that it is refused.
        """
        if is_address(model):
            default = EngineSettings()
            return self.changed(**{name: getattr(default, name) for name in _NOT_OF_A_SERVER})
        return self.changed(threads=None) if is_plan(model) else self

    def to_json(self) -> dict[str, Any]:
        """For reports, plain JSON values: settings of the engine that are seldom given only where they are."""
        seldom = {name: str(value) for name, value in self.engine.given().items() if name not in _NOT_OF_A_SERVER}
        common = {"device": self.engine.device, "threads": self.engine.threads}
        return {**asdict(self.thresholds), "imgsz": self.imgsz, **common, "rect": self.rect, **seldom}


def open_model(
    model: str | Path | None, settings: ModelSettings | None = None, *, clip: str | Path | None = None
) -> FastSAM:
    """Open a model: a plan with every stage on its GPU (`TRTFastSAM`), anything else as `FastSAM` does.

    >>> with open_model("FastSAM-s.plan", ModelSettings.from_keywords(device="cuda")) as model:    # doctest: +SKIP
    ...     segments = model.segment("photo.jpg")

    Args:
        model: path of an `.onnx` file or of a plan, an address on a server, or None for the demo model.
        settings: None for the default ones.
        clip: folder of a CLIP model, for text prompts.

    Raises:
        FastSamError: it cannot be opened, or a setting is one that it does not have.
    """
    settings = settings or ModelSettings()
    if model is None or not is_plan(model):
        return FastSAM(model, clip=clip, **settings.keywords())
    (entry,) = engines_for(Path(model).suffix)
    refuse_settings(settings.engine, str(model), entry.refusal, entry.device_settings)
    from .trt import TRTFastSAM

    known = {name: value for name, value in settings.keywords().items() if name not in ("threads", "hint", "cache")}
    return TRTFastSAM(model, clip=clip, **known)


def is_plan(model: str | Path) -> bool:
    """Whether the name is that of a TensorRT plan.

    >>> is_plan("FastSAM-s.plan"), is_plan("FastSAM-s.onnx"), is_plan("grpc://host:8001/s.plan")
    (True, False, False)
    """
    return not is_address(model) and [entry.name for entry in engines_for(Path(model).suffix)] == ["tensorrt"]


def model_files(model: str | Path | None, clip: Path | None = None) -> list[Path]:
    """Files that opening a model reads: itself, what may lie beside it, and those of the CLIP. They may be missing.

    Args:
        model: as of `open_model`; a model on a server has no files.
        clip: folder of a CLIP model.

    >>> [path.name for path in model_files("models/s.plan")]
    ['s.plan', 's.json']
    """
    files = [] if clip is None or not clip.is_dir() else sorted(clip.iterdir())
    if is_address(model):
        return files
    path = demo_model_path() if model is None else Path(model)
    beside = [path.with_suffix(suffix) for entry in engines_for(path.suffix) for suffix in entry.beside]
    return [path, *beside, *files]

"""Opening models by path or address, for all commands."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .connection import is_address
from .engines.registry import engines_for
from .pipeline import FastSAM
from .settings import EngineSettings, Thresholds, refuse_settings
from .weights.cache import cached_model, is_published
from .weights.demo import demo_model_path

_LOCAL_ONLY = ("device", "threads")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How to open a model, and which detections to keep.

    Attributes:
        thresholds: which detections to keep.
        engine: how to open the network.
        imgsz: longest side of the network's input, pixels; None: that of the model.
        rect: see `FastSAM`.

    Example:
        >>> ModelSettings.from_keywords(conf=0.2, device="cuda").engine.device
        'cuda'
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    engine: EngineSettings = field(default_factory=EngineSettings)
    imgsz: int | None = None
    rect: bool | None = None

    @classmethod
    def from_keywords(cls, **keywords: Any) -> ModelSettings:
        """Make settings from keyword arguments of `FastSAM`.

        Raises:
            DeviceError, ParameterError: a value is out of range.
        """
        parts: dict[type[Any], dict[str, Any]] = {
            kind: {part.name: keywords.pop(part.name) for part in fields(kind) if part.name in keywords}
            for kind in (Thresholds, EngineSettings)
        }
        return cls(Thresholds(**parts[Thresholds]), EngineSettings(**parts[EngineSettings]), **keywords)

    def keywords(self) -> dict[str, Any]:
        """All settings as keyword arguments of `FastSAM`.

        Example:
            >>> ModelSettings(imgsz=640).keywords()["imgsz"]
            640
        """
        return {**asdict(self.thresholds), "imgsz": self.imgsz, "rect": self.rect, **asdict(self.engine)}

    def changed(self, **keywords: Any) -> ModelSettings:
        """A copy with other values, given as keyword arguments of `FastSAM`.

        Example:
            >>> ModelSettings().changed(device="cuda:1", imgsz=640).imgsz
            640
        """
        return self.from_keywords(**self.keywords() | keywords)

    def for_model(self, model: str | Path) -> ModelSettings:
        """These settings for one of several models that share them, without those that do not apply to it.

        A model on a server uses no device and no threads of this process, and a plan has no CPU threads. Settings that
        would change the results stay, so that opening the model refuses them.

        Example:
            >>> ModelSettings.from_keywords(threads=2).for_model("FastSAM-s.plan").engine.threads is None
            True
        """
        if is_address(model):
            default = EngineSettings()
            return self.changed(**{name: getattr(default, name) for name in _LOCAL_ONLY})
        return self.changed(threads=None) if is_plan(model) else self

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values for reports. Rare settings of the engine are included only if they are not the defaults."""
        rare = {name: str(value) for name, value in self.engine.given().items() if name not in _LOCAL_ONLY}
        common = {"device": self.engine.device, "threads": self.engine.threads}
        return {**asdict(self.thresholds), "imgsz": self.imgsz, **common, "rect": self.rect, **rare}


def open_model(
    model: str | Path | None, settings: ModelSettings | None = None, *, clip: str | Path | None = None
) -> FastSAM:
    """Open a model: a plan with every stage on its GPU (`TRTFastSAM`), any other model as `FastSAM`.

    Args:
        model: path of an `.onnx` file or of a plan, address on a server, or None for the demo model.
        settings: None for the defaults.
        clip: folder of a CLIP model, for text prompts.

    Raises:
        FastSamError: the model cannot be opened, or does not support a setting.

    Example:
        >>> with open_model("FastSAM-s.plan", ModelSettings.from_keywords(device="cuda")) as model:  # doctest: +SKIP
        ...     segments = model.segment("photo.jpg")
    """
    settings = settings or ModelSettings()
    if model is None or not is_plan(model):
        return FastSAM(model, clip=clip, **settings.keywords())
    (entry,) = engines_for(Path(model).suffix)
    refuse_settings(settings.engine, str(model), entry.refusal, entry.device_settings)
    from .trt import TRTFastSAM

    plain = ("threads", "hint", "search", "try_first")
    keywords = {name: value for name, value in settings.keywords().items() if name not in plain}
    return TRTFastSAM(model, clip=clip, **keywords)


def is_plan(model: str | Path) -> bool:
    """Whether the name is that of a plan, of TensorRT or of TensorRT for RTX.

    Example:
        >>> is_plan("FastSAM-s.plan"), is_plan("FastSAM-s.rtx"), is_plan("FastSAM-s.onnx"), is_plan("grpc://host/s.plan")
        (True, True, False, False)
    """
    entries = () if is_address(model) else engines_for(Path(model).suffix)
    return bool(entries) and all(entry.extras.keys() == {"cuda"} for entry in entries)


def model_files(model: str | Path | None, clip: Path | None = None) -> list[Path]:
    """Files that are read when a model is opened: the model, files that may be beside it, and those of the CLIP.

    Some of them may not exist.

    Args:
        model: see `open_model`. A model on a server has no files.
        clip: folder of a CLIP model.

    Example:
        >>> [path.name for path in model_files("models/s.plan")]
        ['s.plan', 's.json']
    """
    files = [] if clip is None or not clip.is_dir() else sorted(clip.iterdir())
    if is_address(model):
        return files
    path = demo_model_path() if model is None else cached_model(str(model)) if is_published(model) else Path(model)
    beside = [path.with_suffix(suffix) for entry in engines_for(path.suffix) for suffix in entry.beside]
    return [path, *beside, *files]

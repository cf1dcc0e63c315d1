"""The file that `fastsam tune` leaves beside a model, and what `FastSAM(…, engine="tuned")` makes of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .documents import Fields, dump, parse
from .errors import FastSamError, ModelError, ParameterError
from .settings import EngineSettings
from .system.atomic import write_atomically
from .system.cpu import name_and_flags, usable_cpus
from .system.digest import sha256_of_file

TUNED = "tuned"
"""The value of `engine` that asks for it."""

_LARGEST_BYTES = 1 << 20
_CHOSEN = ("engine", "precision", "threads", "hint")


@dataclass(frozen=True)
class Machine:
    """What the speed of a network on a processor depends on.

    Attributes:
        processor: its name.
        cpus: number that the process may use.

    Example:
        >>> Machine.this().cpus >= 1
        True
    """

    processor: str
    cpus: int

    @classmethod
    def this(cls) -> Machine:
        """The machine that this process runs on."""
        return cls(name_and_flags()[0], usable_cpus())

    def __str__(self) -> str:
        return f"{self.processor}, {self.cpus} processor{'s' if self.cpus != 1 else ''}"


@dataclass(frozen=True)
class Tuned:
    """The fastest way to run a model that was found on a machine.

    Attributes:
        file: of the network, relative to the folder of the model: the model itself, or one that was made of it.
        sha256: of the model and of that file, by their names.
        settings: keyword arguments of `FastSAM`: engine, precision, threads, hint, imgsz; those that were chosen.
        machine: on which it was measured.
        versions: package → version there.
        latency_ms: median for an image.
        mean_iou: of its masks with those of the model in FP32.

    Example:
        >>> Tuned("m.onnx", {"m.onnx": "0"}, {"engine": "openvino"}, Machine("a processor", 2)).settings["engine"]
        'openvino'
    """

    file: str
    sha256: Mapping[str, str]
    settings: Mapping[str, Any]
    machine: Machine
    versions: Mapping[str, str] = field(default_factory=dict)
    latency_ms: float = 0.0
    mean_iou: float = 1.0

    def write(self, model: Path) -> Path:
        """Write it beside the model; returns the path. Raises FastSamError if it cannot be written."""
        path = tuned_path(model)
        write_atomically(path, (dump(asdict(self), indent=2) + "\n").encode())
        return path

    @classmethod
    def read(cls, model: Path) -> Tuned:
        """Read it from beside the model.

        Raises:
            ModelError: there is none, it cannot be read, or it is of other files than those that are there.
        """
        path = tuned_path(model)
        advice = f"run: fastsam tune {model} --images FOLDER"
        try:
            with path.open("rb") as stream:
                fields = Fields(parse(stream.read(_LARGEST_BYTES + 1), _LARGEST_BYTES), path.name)
            machine, hashes = fields.fields("machine"), fields.value("sha256")
            tuned = cls(
                fields.text("file"),
                hashes if isinstance(hashes, dict) else {},
                _settings_of(fields.fields("settings")),
                Machine(machine.text("processor"), machine.whole("cpus", 1, 1 << 20)),
            )
        except FileNotFoundError as error:
            raise ModelError(f"{model}: has not been tuned: there is no {path.name} beside it; {advice}") from error
        except (OSError, ValueError, FastSamError) as error:
            raise ModelError(f"{path}: cannot be read ({error}); {advice}") from error
        for name in {model.name, tuned.file}:
            if tuned.sha256.get(name) != sha256_of(model.parent / name):
                raise ModelError(f"{path}: was written for another {name} than the one that is there; {advice}")
        return tuned


def tuned_path(model: Path) -> Path:
    """Where the result of tuning a model is.

    Example:
        >>> tuned_path(Path("models/s.onnx")).name
        's.tuned.json'
    """
    return model.with_suffix(".tuned.json")


def _settings_of(fields: Fields) -> dict[str, Any]:
    """The chosen settings. EngineSettings checks their values."""
    return {name: fields.value(name) for name in (*_CHOSEN, "imgsz") if name in fields}


def sha256_of(path: Path) -> str | None:
    """Hash of a file, hexadecimal; None if there is no such file that can be read.

    Example:
        >>> sha256_of(Path("no-such-file")) is None
        True
    """
    try:
        with path.open("rb") as file:
            return sha256_of_file(file)
    except OSError:
        return None


def as_tuned(source: object, settings: EngineSettings, imgsz: int | None) -> tuple[Path, EngineSettings, int | None]:
    """How to open a model with `engine="tuned"`: file, settings, and longest side of the input.

    Args:
        source: path of an `.onnx` file.
        settings: of the user.
        imgsz: of the user.

    Where the processor is another one than it was tuned on, a warning says so.

    Raises:
        ParameterError: what tuning has chosen is given too, or this model or device cannot be tuned.
        ModelError: see `Tuned.read`.

    Example:
        >>> as_tuned("m.onnx", EngineSettings(engine="tuned"), None)  # doctest: +SKIP
        (PosixPath('m.tune/m-int8.onnx'), EngineSettings(threads=2, engine='onnxruntime'), None)
    """
    if not isinstance(source, (str, Path)) or Path(source).suffix != ".onnx":
        raise ParameterError(
            f"engine is 'tuned' for {source!s:.200}; expected an ONNX file that fastsam tune has measured"
        )
    model = Path(source)
    tuned = Tuned.read(model)
    given = {name: value for name, value in settings.given().items() if name in _CHOSEN and name != "engine"}
    if imgsz is not None and tuned.settings.get("imgsz") is not None:
        given["imgsz"] = imgsz
    if given:
        raise ParameterError(f"engine is 'tuned', which chooses {', '.join(given)}; leave {', '.join(given)} out")
    if settings.device != "cpu":
        raise ParameterError(f"engine is 'tuned' and device {settings.device!r}; models are tuned for processors only")
    here = Machine.this()
    if here != tuned.machine:
        warnings.warn(
            f"{tuned_path(model).name} was measured on {tuned.machine}; this is {here}, where another way may be "
            "faster: run fastsam tune again",
            stacklevel=4,
        )
    chosen = {name: tuned.settings[name] for name in _CHOSEN if tuned.settings.get(name) is not None}
    side = tuned.settings.get("imgsz")
    return model.parent / tuned.file, replace(settings, **{"engine": None, **chosen}), imgsz if side is None else side

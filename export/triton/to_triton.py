"""A Triton model repository for one network: configurations, Python models, warm-up data."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...runtime.clip.spec import SPEC_FILE, TOKENIZER_FILE, read_clip_spec
from ...runtime.errors import ModelError, ParameterError
from ...runtime.serving.clip import CLIP_IMAGE, CLIP_TEXT
from ...runtime.spec import ModelSpec, imgsz_for
from ...runtime.system.atomic import draft_folder, rename_synced, scratch_beside
from ..errors import ExportError
from .clip_configs import clip_config
from .configs import MODELS, WARMUP_IMAGE, Serving, config_of
from .networks import ServedNetwork, read_network

WARMED_BY_A_PHOTOGRAPH = ("fastsam_preprocess", "fastsam_device")
_WARMUP_PHOTOGRAPH = "coffee.jpg"

LOAD_ORDER = (
    CLIP_IMAGE,
    CLIP_TEXT,
    "fastsam_engine",
    "fastsam_postprocess",
    "fastsam_preprocess",
    "fastsam",
    "fastsam_device",
)
"""Order in which a running server is to load the models of a new version: first what is likeliest to fail.

Each is loaded by its own name, although the ensemble loads its parts: it says 200 where one of them does not load, and
runs the old version of that part with the new ones of the others.
"""


@dataclass(frozen=True)
class Repository:
    """A repository that was written.

    Attributes:
        path: its folder.
        models: names of the models in it.
        version: number of the version that was written.
        spec: of the network.
        serving: how the network is served.

    Example:
        >>> repository = build_repository(Path("fastsam.onnx"), Path("model_repository"))  # doctest: +SKIP
        >>> repository.version, repository.serving.engine  # doctest: +SKIP
        (1, 'onnxruntime')
    """

    path: Path
    models: tuple[str, ...]
    version: int
    spec: ModelSpec
    serving: Serving

    @property
    def load_order(self) -> tuple[str, ...]:
        """The models in the order in which a running server is to load them, see `LOAD_ORDER`.

        Example:
            >>> repository.load_order[0]  # doctest: +SKIP
            'fastsam_engine'
        """
        return tuple(name for name in LOAD_ORDER if name in self.models)


def build_repository(
    model: Path,
    output: Path,
    *,
    device: str | None = None,
    imgsz: int | None = None,
    rect: bool | None = None,
    clip: Path | None = None,
    add_version: bool = False,
    **settings: Any,
) -> Repository:
    """Write a repository for tritonserver, completely or not at all.

    Args:
        model: `.onnx` file; `.plan` or `.rtx` file with its JSON beside it; `.engine` file of ultralytics
            (dynamic=True). Triton has no backend for `.rtx`: the repository has `fastsam_device` alone.
        output: folder of the repository; must not exist, unless a version is added.
        device: "cpu" or "gpu"; None: "gpu" for a plan, "cpu" for ONNX.
        imgsz: longest side of the network's input, pixels; None: the model's default.
        rect: see `Serving`; None: True where the model allows it and is served on a CPU.
        clip: folder made by `fastsam-export clip`; adds text prompts, with the models clip_image and clip_text.
        add_version: add the next version to the models of an existing repository. A running server (in explicit mode)
            switches to it without losing a request: load each model in the order of `Repository.load_order`, and stop
            where one is refused. If the version has another imgsz or rect, the ensemble refuses requests that reach
            parts of both versions.
        settings: `max_batch`, `instances`, `threads`, `queue`, `queue_ms`, `cache` of `Serving`.

    Raises:
        ExportError: the folder exists (or, with `add_version`, is no such repository).
        ModelError: the model cannot be served. ParameterError: a setting does not fit it.

    Example:
        >>> build_repository(Path("fastsam.onnx"), Path("model_repository"), imgsz=640)  # doctest: +SKIP
    """
    network = read_network(model)
    serving = _serving_for(network, device, imgsz, rect, settings)
    if clip is not None:
        read_clip_spec(clip)
        serving = replace(serving, clip=(clip / SPEC_FILE).read_text(encoding="utf-8"))
    if add_version:
        version = _next_version(output, _models(network))
    elif output.exists():
        raise ExportError(
            f"{output}: exists already; give another folder, or --add-version to add a version of the model to it"
        )
    else:
        version = 1
    place = scratch_beside if add_version else draft_folder
    with place(output, parents=True, error=ExportError) as draft:
        draft.chmod(0o755)  # whatever the umask: the server runs as another user
        names = _models(network)
        for name in names:
            _write_model(draft / name, version, network, serving)
        if clip is not None:
            names += _write_clip(draft, version, clip, serving)
        if add_version:
            _merge(draft, output)
    return Repository(output, names, version, network.spec, serving)


def _serving_for(
    network: ServedNetwork, device: str | None, imgsz: int | None, rect: bool | None, settings: dict[str, Any]
) -> Serving:
    engine, spec, name = network.backend, network.spec, network.path.name
    on_gpu = engine != "onnxruntime"
    device = device or ("gpu" if on_gpu else "cpu")
    if device not in ("cpu", "gpu") or (on_gpu and device == "cpu"):
        raise ParameterError(f"device is {device!r} for {name}; expected 'gpu'{'' if on_gpu else ' or cpu'}")
    for setting, value in settings.items():
        if not isinstance(value, bool) and value < (0 if setting == "threads" else 1):
            raise ParameterError(f"{setting} is {value}, expected 1 or more")
    if spec.layout == "split":
        raise ModelError(
            f"{network.path}: has NMS in its graph and the layout 'split', expected 'raw' or 'nms'; export it without "
            "--nms, as the repository does the NMS"
        )
    if settings.get("max_batch", 1) > network.max_batch:
        raise ParameterError(f"max_batch is {settings['max_batch']}, {name} takes at most {network.max_batch}")
    side = imgsz_for(spec, imgsz)
    rectangles = spec.fixed_hw is None and (device == "cpu" if rect is None else rect)
    usual = Serving(engine, device, side, rectangles, output_dtype=network.output_dtype)
    return replace(usual, **{"max_batch": min(usual.max_batch, network.max_batch), **settings})


def _models(network: ServedNetwork) -> tuple[str, ...]:
    return MODELS if network.has_backend else ("fastsam_device",)


def _write_model(folder: Path, version: int, network: ServedNetwork, serving: Serving) -> None:
    name = folder.name
    numbered = folder / str(version)
    numbered.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config_of(name, network.spec, serving), encoding="utf-8")
    if name == "fastsam":
        return  # an ensemble has a folder for its version, and nothing in it
    if name != "fastsam_engine":
        source = files("fastsam_deploy.triton_models") / name / "1" / "model.py"
        (numbered / "model.py").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    if name == "fastsam_engine":
        network.write_for_triton(numbered)
    if name == "fastsam_device":
        network.write_for_runtime(numbered)
    if name in WARMED_BY_A_PHOTOGRAPH:
        (folder / "warmup").mkdir()
        (folder / "warmup" / WARMUP_IMAGE).write_bytes(warmup_image())


def _write_clip(draft: Path, version: int, clip: Path, serving: Serving) -> tuple[str, ...]:
    """Write the encoders as models, and the tokenizer beside the Python models that call them."""
    spec = read_clip_spec(clip)
    for name, file in ((CLIP_IMAGE, spec.image.file), (CLIP_TEXT, spec.text.file)):
        numbered = draft / name / str(version)
        numbered.mkdir(parents=True)
        shutil.copyfile(clip / file, numbered / "model.onnx")
        (draft / name / "config.pbtxt").write_text(clip_config(name, spec, serving), encoding="utf-8")
    for name in ("fastsam_postprocess", "fastsam_device"):
        if (draft / name).is_dir():
            shutil.copyfile(clip / TOKENIZER_FILE, draft / name / str(version) / TOKENIZER_FILE)
    return CLIP_IMAGE, CLIP_TEXT


def warmup_image() -> bytes:
    """Make the data of the warm-up: a photograph as an element of BYTES, its length in four bytes before it.

    Example:
        >>> int.from_bytes(warmup_image()[:4], "little") == len(warmup_image()) - 4
        True
    """
    content = (files("fastsam_deploy.export.photographs") / _WARMUP_PHOTOGRAPH).read_bytes()
    return len(content).to_bytes(4, "little") + content


def _next_version(repository: Path, models: tuple[str, ...]) -> int:
    needed = [name for name in models if name != "fastsam_device"] or models
    missing = [name for name in needed if not (repository / name / "config.pbtxt").is_file()]
    if missing:
        raise ExportError(f"{repository}: has no {missing[0]}; expected a repository made by fastsam-export triton")
    numbers = [int(path.name) for path in repository.glob("*/*") if path.name.isdecimal()]
    return max(numbers, default=0) + 1


def _merge(draft: Path, repository: Path) -> None:
    """Move each part with one rename, the folder of the version before the configuration that refers to it."""
    for folder in sorted(draft.iterdir(), key=lambda folder: LOAD_ORDER.index(folder.name)):
        target = repository / folder.name
        if not target.exists():
            rename_synced(folder, target, error=ExportError)
            continue
        parts = sorted(folder.iterdir(), key=lambda path: (path.name == "config.pbtxt", path.name))
        for part in parts:
            if part.name == "warmup" and (target / "warmup").exists():
                for file in part.iterdir():
                    rename_synced(file, target / "warmup" / file.name, error=ExportError)
            else:
                rename_synced(part, target / part.name, error=ExportError)

"""A checkpoint's network: what it says of itself, and its ONNX graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from ..checkpoint.trained_size import trained_px
from ..errors import ExportError
from .archive import CheckpointArchive
from .builder import Array, Graph, Value
from .head import Head, build_head
from .layer import Layer
from .layers import build, concatenated
from .records import Record, Refused
from .unpickle import unpickled

OPSETS = (13, 23)
"""The oldest and the newest operator set that graphs are built for; their operators mean the same in all of them."""

_NETWORK = "ultralytics.nn.tasks.SegmentationModel"
_LONGEST_TEXT = 1000


@dataclass(frozen=True, eq=False)
class SavedNetwork:
    """A segmentation network in a checkpoint, read without PyTorch.

    Attributes:
        path: the file.
        sha256: of the file, hexadecimal.
        layers: of the network, in their order; the last is the head.
        head: what the head says of itself.
        class_names: one for each class.
        trained_px: longest side of its input in training, pixels; None if the file does not say it.
        license: stated in the file, None if it states none.
        version: of ultralytics, with which the file was written; None if it does not say.

    Example:
        >>> with open_network(Path("FastSAM-s.pt")) as network:  # doctest: +SKIP
        ...     model = network.graph(18).model
    """

    path: Path
    sha256: str
    layers: tuple[Layer, ...]
    head: Head
    class_names: tuple[str, ...]
    trained_px: int | None
    license: str | None
    version: str | None

    @property
    def stride(self) -> int:
        """Input sides are multiples of it, pixels."""
        return max(self.head.strides)

    @property
    def mask_dim(self) -> int:
        """Prototypes, and mask coefficients of a detection."""
        return self.head.mask_dim

    def graph(
        self,
        opset: int,
        batch: int | None = None,
        size_hw: tuple[int, int] | None = None,
        *,
        factors: bool = False,
        decoded: bool = True,
    ) -> tuple[onnx.ModelProto, dict[str, tuple[Array, Array]]]:
        """Build the ONNX graph: `images` → `output0`, `output1`, all FP32, batch normalisation folded in.

        Args:
            opset: of the graph, one of `OPSETS` or between.
            batch, size_hw: of the input; None where it may vary.
            factors: also return what the weights were before folding.
            decoded: the layout "raw"; else "distributions", see `ModelSpec`.

        Returns:
            The model, and the factors of its weights (see `stored_compactly`).

        Raises:
            ExportError: a layer is not known, or the layers do not fit each other.
        """
        graph = Graph(opset, keeps_factors=factors)
        with _refusals_of(self.path):
            value = Value("images", 3)
            outputs: list[Value] = []
            for layer in self.layers[:-1]:
                value = _build(layer, _inputs(layer, outputs, value), graph)
                outputs.append(value)
            features = _inputs(self.layers[-1], outputs, value)
            names = build_head(self.head, features, graph, size_hw, decoded=decoded)
        return graph.model(batch, size_hw, names), graph.factors


@contextmanager
def open_network(path: Path) -> Iterator[SavedNetwork]:
    """Read the network of a checkpoint that ultralytics (or CASIA's FastSAM) saved. Nothing in the file is run.

    Raises:
        ExportError: no such file, not a checkpoint of torch 1.6 or newer, not a segmentation network, or the file names
            what such a checkpoint does not need.

    Example:
        >>> with open_network(Path("models/fastsam-demo.pt")) as network:  # doctest: +SKIP
        ...     network.stride, network.mask_dim, network.class_names
        (32, 32, ('object',))
    """
    with _refusals_of(path):
        archive = CheckpointArchive(path)
    with archive:
        with _refusals_of(path):
            network = _network(archive)
        yield network


@contextmanager
def _refusals_of(path: Path) -> Iterator[None]:
    try:
        yield
    except Refused as refusal:
        raise ExportError(
            f"{path.name}: {refusal}. It was not opened further, and nothing in it was run; expected a .pt file of a "
            "YOLOv8 segmentation network. If you trust it, export it with PyTorch: leave --direct out"
        ) from refusal
    except RecursionError as error:
        raise ExportError(f"{path.name}: has layers within each other without end; expected a YOLO network") from error


def _network(archive: CheckpointArchive) -> SavedNetwork:
    content = unpickled(archive.pickle())
    record = _network_record(content)
    layers = tuple(Layer("", record, archive).child("model").children())
    if len(layers) < 2:
        raise Refused(f"has a network of {len(layers)} layers")
    head = Head.of(layers[-1])
    about: Mapping[str, Any] = content if isinstance(content, dict) else {}
    return SavedNetwork(
        archive.path,
        archive.sha256(),
        layers,
        head,
        _class_names(record.state.get("names"), head.class_count),
        trained_px(_settings(about.get("train_args")), max(head.strides)),
        _short_text(about.get("license")),
        _short_text(about.get("version")),
    )


def _network_record(content: Any) -> Record:
    """The averaged network where there is one, else the trained one."""
    places = [content.get("ema"), content.get("model")] if isinstance(content, dict) else [content]
    record = next((value for value in places if value is not None), None)
    if not isinstance(record, Record):
        raise Refused("has no network under 'model' or 'ema'; save it with ultralytics' model.save()")
    if record.kind.name != _NETWORK:
        raise Refused(f"has a {record.kind.short}, expected a SegmentationModel; only those have masks")
    return record


def _class_names(names: Any, count: int) -> tuple[str, ...]:
    if isinstance(names, dict) and all(type(key) is int for key in names):
        names = [names[key] for key in sorted(names)]
    if not isinstance(names, (list, tuple)) or len(names) != count:
        raise Refused(f"has names for other classes than the {count} of its head")
    if not all(isinstance(name, str) and len(name) <= _LONGEST_TEXT for name in names):
        raise Refused("has names of classes that are no short texts")
    return tuple(names)


def _settings(train_args: Any) -> Mapping[Any, Any]:
    """Old versions of ultralytics saved an object with attributes."""
    settings = train_args.state if isinstance(train_args, Record) else train_args
    return settings if isinstance(settings, Mapping) else {}


def _short_text(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= _LONGEST_TEXT else None


def _inputs(layer: Layer, outputs: list[Value], previous: Value) -> list[Value]:
    """The inputs of a layer, from its attribute `f`: numbers of layers, or -1 for the previous one."""
    given = layer.record.state.get("f")
    places = [place for place in (given if isinstance(given, (list, tuple)) else [given]) if isinstance(place, int)]
    known = all(place == -1 or -len(outputs) <= place < len(outputs) for place in places)
    if not places or not known or (isinstance(given, (list, tuple)) and len(places) != len(given)):
        raise Refused(f"has {layer} with inputs that are no earlier layers")
    return [previous if place == -1 else outputs[place] for place in places]


def _build(layer: Layer, inputs: list[Value], graph: Graph) -> Value:
    if layer.kind == "Concat":
        layer.require(d=1)
        return concatenated(inputs, layer.name, graph)
    if len(inputs) != 1:
        raise Refused(f"has {layer} with {len(inputs)} inputs, expected one")
    return build(layer, inputs[0], graph)

"""All stages of a batch on the device, on one stream, replayed as a CUDA graph where possible."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..settings import Thresholds
from ..spec import SPLIT_OUTPUTS, ModelSpec
from . import launchers
from .driver.graphs import Graph, GraphCache
from .launchers import Kernels
from .network import DeviceNetwork, Shape
from .records import DETECTION_DTYPE, PLACE_DTYPE, SUMMARY_DTYPE, Tables, pack
from .shapes import LEAST_ROOM, Buffers, Shapes
from .workspace import Workspace

_WORDS = 1 << 20
"""Words that an answer has room for at first: 32 million pixels of crops."""

_KEPT_INPUTS = 64
"""Shapes of the network's input that something is kept for, at least: a folder of photographs has a few dozen."""

_TOTAL = 16
"""Bytes before the records of an answer: the total of its words, and nothing."""


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer of one run.

    Attributes:
        summaries: (batch,) SUMMARY_DTYPE.
        detections: (batch, max_det) DETECTION_DTYPE; rows past an image's `kept` hold anything.
        detections_at: address of the detections on the device, good until the next run.
        words_at: address of the words, likewise.
        total_words: words of all masks.

    Example:
        >>> answer.summaries["kept"]  # doctest: +SKIP
        array([37], dtype=int32)
    """

    summaries: NDArray[Any]
    detections: NDArray[Any]
    detections_at: int
    words_at: int
    total_words: int


@dataclass(frozen=True)
class _Input:
    """What is kept for one shape of the network's input.

    Attributes:
        shapes: of a run, with the least room for detections.
        tensors: bytes of the network's inputs and outputs.
        ran: shapes of the runs that were made, of each room for detections.
    """

    shapes: Shapes
    tensors: dict[str, int]
    ran: set[Shapes] = field(default_factory=set)


class Stages:
    """Letterbox, network, detections and masks of batches on one device. Not thread-safe.

    Attributes:
        stream: on which everything runs.
        kernels: loaded on the device.

    Example:
        >>> shapes = stages.shapes(1, (640, 640), max_det=300)  # doctest: +SKIP
        >>> answer = stages.run(shapes, [image], [tables], [Thresholds()], with_words=True)  # doctest: +SKIP
    """

    def __init__(self, network: DeviceNetwork, spec: ModelSpec, graphs: int) -> None:
        """
        Args:
            network: closed by the caller, after this.
            graphs: CUDA graphs that are kept, one for each shape of input, those used last; 0: launch kernel by kernel.
                A network that cannot be captured gets none: one of ONNX Runtime, and one with NMS inside, whose shapes
                depend on the image.
        """
        self._network = network
        self._spec = spec
        self._dtypes = {info.name: np.dtype(info.dtype) for info in network.outputs}
        self._workspace = Workspace(network.cuda_device)
        self._inputs: OrderedDict[Shape, _Input] = OrderedDict()
        self._kept_inputs = max(_KEPT_INPUTS, graphs)
        self._graphs = GraphCache(graphs) if graphs and network.capturable and spec.layout == "raw" else None
        self._expected_words = 0
        self._fetched_words = 0
        self.kernels = Kernels(network.cuda_device.module)
        self.stream = network.stream or network.cuda_device.stream()

    @property
    def uses_graphs(self) -> bool:
        """Whether runs are replayed as CUDA graphs."""
        return self._graphs is not None

    @property
    def nbytes(self) -> int:
        """Device memory of the buffers; the network's own is not in it."""
        return self._workspace.nbytes()

    def shapes(self, batch: int, input_hw: tuple[int, int], max_det: int) -> Shapes:
        """Shapes of a run.

        What is kept for the shapes of inputs that were not used for long is freed: nothing may be running.

        Raises:
            ParameterError: the network does not take them. ModelError: its outputs are not those of its layout.
        """
        blob = (batch, 3, *input_hw)
        if blob not in self._inputs:
            self._inputs[blob] = self._new_input(blob)
        self._inputs.move_to_end(blob)
        while len(self._inputs) > self._kept_inputs:
            self._forget(*self._inputs.popitem(last=False))
        return self._inputs[blob].shapes.with_room_for(max_det)

    def run(
        self,
        shapes: Shapes,
        images: Sequence[NDArray[np.uint8]],
        tables: Sequence[Tables],
        thresholds: Sequence[Thresholds],
        *,
        with_words: bool,
    ) -> Answer:
        """One batch: one upload, all stages on the device, one wait (two if the masks need more room than ever before).

        Args:
            images: RGB, at most `shapes.batch`.
            tables, thresholds: one for each image.
            with_words: download all masks; False: `words` downloads some of them.

        Raises:
            DeviceError: the device has no room, or fails.
        """
        self._reserve(shapes, sum(table.nbytes for table in tables))
        self._upload(shapes, images, tables, thresholds)
        self._launch(shapes)
        answer = self._download(shapes, self._expected_words if with_words else 0)
        if answer.total_words * 4 > self._workspace.size("words"):  # not all was written: that stage again, with room
            self._workspace.reserve({"words": answer.total_words * 4})
            self._assemble(shapes)
            answer = self._download(shapes, 0)
        if with_words:
            self._expected_words = answer.total_words
            if answer.total_words > self._fetched_words:
                self._fetch(answer, 0, answer.total_words)
                self._fetched_words = answer.total_words
        return answer

    def words(self, answer: Answer, first: int, count: int) -> NDArray[np.uint32]:
        """(count,) uint32 of the last answer's words, a new array."""
        if first + count > self._fetched_words:
            self._fetched_words = 0  # the page-locked memory holds another part from now on
            return np.array(self._fetch(answer, first, count))
        here: NDArray[np.uint32] = self._workspace.host("words", self._fetched_words * 4).view(np.uint32)
        return np.array(here[first : first + count])

    def close(self) -> None:
        """Free everything after all work has run."""
        with ExitStack() as stack:  # in reverse; each of them, even where one fails
            stack.callback(self._workspace.close)
            if self._graphs is not None:
                stack.callback(self._graphs.close)
            stack.callback(self.stream.synchronize if self._network.stream else self.stream.close)

    def _new_input(self, blob: Shape) -> _Input:
        spec = self._spec
        made = self._network.output_shapes({spec.input: blob})
        detections = made[spec.detections], self._dtypes[spec.detections].name
        if spec.layout == "split":
            detections = (*made[spec.detections][:2], 6 + spec.mask_dim), "float32"
        prototypes = made[spec.prototypes], self._dtypes[spec.prototypes].name
        shapes = Shapes.of(spec, blob, detections, prototypes, LEAST_ROOM)
        outputs = {name: prod(shape) * self._dtypes[name].itemsize for name, shape in made.items()}
        return _Input(shapes, {spec.input: prod(blob) * _itemsize(shapes.half_input), **outputs})

    def _forget(self, blob: Shape, kept: _Input) -> None:
        """Free what the network keeps for an input, and before that the graphs that use it."""
        if self._graphs is not None:
            self._graphs.drop(lambda key: key[1].with_room_for(0) == kept.shapes)
        self.stream.synchronize()  # only after an error is anything under way
        self._network.forget({self._spec.input: blob})

    def _input(self, shapes: Shapes) -> _Input:
        blob = (shapes.batch, 3, *shapes.input_hw)
        return self._inputs[blob]

    def _reserve(self, shapes: Shapes, images_nbytes: int) -> None:
        sizes = shapes.nbytes()
        answer = sum(sizes.pop(name) for name in ("summaries", "total_words", "detections")) + _TOTAL
        sizes["upload"] = sizes.pop("places") + images_nbytes
        sizes |= {_tensor(name): nbytes for name, nbytes in self._input(shapes).tensors.items()}
        if shapes.layout == "split":
            sizes["joined"] = shapes.batch * shapes.rows * shapes.columns * 4
        words = max(_WORDS * 4, self._workspace.size("words"))
        self._workspace.reserve({**sizes, "answer": answer, "words": words})

    def _buffers(self, shapes: Shapes) -> Buffers:
        space = self._workspace
        upload, answer = space["upload"], space["answer"]
        sizes = shapes.nbytes()
        scratch = {name: space[name] for name in ("keys", "sorted", "kept", "coefficients", "tile_ends")}
        return Buffers(
            upload=upload + sizes["places"],
            places=upload,
            total_words=answer,
            summaries=answer + _TOTAL,
            detections=answer + _TOTAL + sizes["summaries"],
            words=space["words"],
            word_capacity=space.size("words") // 4,
            **scratch,
        )

    def _upload(
        self,
        shapes: Shapes,
        images: Sequence[NDArray[np.uint8]],
        tables: Sequence[Tables],
        thresholds: Sequence[Thresholds],
    ) -> None:
        places = shapes.nbytes()["places"]
        host = self._workspace.host("upload", places + sum(table.nbytes for table in tables))
        used = pack(images, tables, thresholds, host[places:], host[:places].view(PLACE_DTYPE))
        self.stream.copy_in(self._workspace["upload"], host[: places + used])

    def _launch(self, shapes: Shapes) -> None:
        """Put everything between upload and download into the stream: at first kernel by kernel, then as a graph."""
        ran = self._input(shapes).ran
        if self._graphs is None or shapes not in ran:
            self._enqueue(shapes)  # libraries prepare themselves in a first run, which a capture does not allow
            ran.add(shapes)
            return
        generation = self._workspace.generation
        self._graphs.drop(lambda key: key[0] != generation)  # a graph holds addresses: these have moved
        key = (generation, shapes)
        graph = self._graphs.get(key, lambda: Graph.capture(self.stream, lambda: self._enqueue(shapes)))
        graph.launch(self.stream)

    def _enqueue(self, shapes: Shapes) -> None:
        spec, space = self._spec, self._workspace
        buffers = self._buffers(shapes)
        pointers = {name: space[_tensor(name)] for name in self._input(shapes).tensors}
        launchers.letterbox(self.kernels, shapes, buffers, pointers[spec.input], self.stream)
        self._network.enqueue(pointers, {spec.input: (shapes.batch, 3, *shapes.input_hw)}, self.stream.handle)
        rows = pointers[spec.detections]
        if shapes.layout == "split":
            boxes, scores, classes, coefficients = (pointers[name] for name in SPLIT_OUTPUTS)
            half = self._dtypes[spec.detections] == np.float16
            rows = space["joined"]
            launchers.join_rows(self.kernels, shapes, (boxes, scores, classes, coefficients), half, rows, self.stream)
        launchers.decode(self.kernels, shapes, buffers, rows, self.stream)
        self._assemble(shapes)

    def _assemble(self, shapes: Shapes) -> None:
        prototypes = self._workspace[_tensor(self._spec.prototypes)]
        launchers.assemble(self.kernels, shapes, self._buffers(shapes), prototypes, self.stream)

    def _download(self, shapes: Shapes, words: int) -> Answer:
        """The records, and as many words as are likely to be there."""
        sizes = shapes.nbytes()
        space = self._workspace
        at = _TOTAL + sizes["summaries"]
        host = space.host("answer", at + sizes["detections"])
        self.stream.copy_out(host, space["answer"])
        words = min(words, space.size("words") // 4)
        if words:
            self.stream.copy_out(space.host("words", words * 4), space["words"])
        self.stream.synchronize()
        self._fetched_words = words
        return Answer(
            summaries=host[_TOTAL:at].view(SUMMARY_DTYPE).copy(),
            detections=host[at:].view(DETECTION_DTYPE).reshape(shapes.batch, shapes.max_det).copy(),
            detections_at=space["answer"] + at,
            words_at=space["words"],
            total_words=int(host[:8].view(np.int64)[0]),
        )

    def _fetch(self, answer: Answer, first: int, count: int) -> NDArray[np.uint32]:
        host = self._workspace.host("words", count * 4)
        self.stream.copy_out(host, answer.words_at + first * 4)
        self.stream.synchronize()
        return host.view(np.uint32)


def _tensor(name: str) -> str:
    """Name of the buffer of a network's tensor."""
    return f"tensor {name}"


def _itemsize(half: bool) -> int:
    return 2 if half else 4

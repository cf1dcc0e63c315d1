"""All stages of a batch on the device: begun by `begin`, answered by `finish`; two batches may be under way at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from ..spec import SPLIT_OUTPUTS, ModelSpec
from ..system.fork import ForkLock
from . import launchers
from .download import TOTAL, Downloads
from .driver.graphs import Graph
from .inputs import KEPT_INPUTS, Input, Inputs
from .loading import kernels_of
from .network import DeviceNetwork
from .records import PLACE_DTYPE
from .runs import Answer, Job, Run
from .shapes import Buffers
from .slots import Slot, Slots
from .upload import pack
from .workspace import Workspace

_WORDS = 1 << 20
"""Words that an answer has room for at first: 32 million pixels of crops."""

_SCRATCH = ("keys", "sorted", "kept", "coefficients", "tile_ends")
"""Buffers between the stages, of whatever computes."""

_PIXELS_OF_MASKS = 16
"""A warm-up makes room for crops of this many times the pixels of the image. A street scene with 40 masks has 7."""


class Stages:
    """Letterbox, network, detections and masks of batches on one device. Safe to use from many threads.

    While one batch computes, the next one is uploaded and the one before is downloaded (docs/adr/0024).

    Attributes:
        stream: on which everything computes.
        kernels: loaded on the device.
        uses_graphs: whether runs are replayed as CUDA graphs.

    Example:
        >>> run = stages.begin(job)  # doctest: +SKIP
        >>> answer = stages.finish(run)  # doctest: +SKIP
        >>> stages.release(run)  # doctest: +SKIP
    """

    def __init__(self, network: DeviceNetwork, spec: ModelSpec, graphs: int) -> None:
        """
        Args:
            network: closed by the caller, after this.
            graphs: shapes of input for which CUDA graphs are kept, those used last; 0: launch kernel by kernel.
                A network that cannot be captured gets none: one of ONNX Runtime, and one with NMS inside, whose shapes
                depend on the image.
        """
        self._network = network
        self._spec = spec
        self._lock = ForkLock()
        """Held while work is put on `stream`, and while buffers grow."""
        self._inputs = Inputs(network, spec, max(KEPT_INPUTS, graphs), self._forget)
        graphs = graphs if network.capturable and not spec.suppressed else 0
        self.uses_graphs = graphs > 0
        self._scratch = Workspace(network.cuda_device)
        self._downloads = Downloads(network.cuda_device)
        self._slots = Slots(network.cuda_device, network.name, graphs)
        self._room_words = _WORDS
        self._turns = 0
        self.kernels = kernels_of(network.cuda_device)
        self.stream = network.stream or network.cuda_device.stream()

    @property
    def nbytes(self) -> int:
        """Device memory of the buffers; the network's own is not in it."""
        return self._scratch.nbytes() + self._slots.nbytes()

    def make_room(self, pixels: int) -> None:
        """Have room for the masks of images of so many pixels from the next run on."""
        self._room_words = max(self._room_words, pixels * _PIXELS_OF_MASKS // 32)

    def begin(self, job: Job) -> Run:
        """Upload a batch and put all of its stages into the stream. Waits while two others are under way.

        Raises:
            ParameterError: the network does not take the batch. DeviceError: the device has no room, or fails.
            ModelError: the stages are closed, or the network's outputs are not those of its layout.
        """
        return self._begun(self._slots.take(), job)

    def begin_beside(self, job: Job) -> Run | None:
        """As `begin` for a caller that has a run under way; None where it would have to wait."""
        slot = self._slots.take_free()
        return None if slot is None else self._begun(slot, job)

    def finish(self, run: Run) -> Answer:
        """Wait for the answer. Once more if the masks need more room than ever before.

        Raises:
            DeviceError: the device has no room, or fails.
        """
        answer = self._downloads.answer(run)
        if answer.total_words * 4 <= run.slot.space.size("words"):
            return answer
        with self._lock:
            self._room_words = max(self._room_words, answer.total_words)
            run.slot.space.reserve({"words": answer.total_words * 4})
            if run.turn == (self._turns, self._scratch.generation):  # what the masks are made of is still there
                self._assemble(run)
            else:
                self._enqueue(run)
                self._turns += 1
            run.slot.take_over(self.stream)
        return self._downloads.answer(run)

    def release(self, run: Run) -> None:
        """Let the next batch have the run's slot. Addresses in its answer are good no longer."""
        with self._lock:
            self._inputs.done(run.kept)
        self._slots.put_back(run.slot)

    def abandon(self, run: Run) -> None:
        """Release a run of which nobody wants the answer, whatever became of it."""
        try:
            self.stream.synchronize()
            run.slot.stream.synchronize()
        finally:
            self.release(run)

    def words(self, run: Run, parts: Sequence[tuple[int, int]]) -> NDArray[np.uint32]:
        """See `Downloads.words`."""
        return self._downloads.words(run, parts)

    def close(self) -> None:
        """Free everything after all runs are released."""
        with ExitStack() as stack:  # in reverse; each of them, even where one fails
            if self._network.stream is None:
                stack.callback(self.stream.close)
            stack.callback(self._scratch.close)
            stack.callback(self._downloads.close)
            stack.callback(self._slots.close)

    def _begun(self, slot: Slot, job: Job) -> Run:
        input_hw = job.tables[0].place.input_hw
        try:
            with self._lock:
                kept = self._inputs.use((job.batch, *input_hw))
        except BaseException:
            self._slots.put_back(slot)
            raise
        run = Run(job, slot, kept, kept.room_for(job.max_det))
        try:
            with self._lock:
                self._reserve(run)
            self._upload(run)
            with self._lock:
                slot.hand_over(self.stream)
                self._launch(run)
                slot.take_over(self.stream)
                self._turns += 1
                run.turn = self._turns, self._scratch.generation
        except BaseException:
            self.abandon(run)
            raise
        return run

    def _forget(self, kept: Input) -> None:
        """Free what the network keeps for an input, and before that the graphs that use it."""
        for slot in self._slots:
            if slot.graphs is not None:
                slot.graphs.drop(lambda room: room in kept.rooms.values())
        self.stream.synchronize()
        self._network.forget({self._spec.input: kept.blob})

    def _reserve(self, run: Run) -> None:
        """Make the buffers large enough. Those that grow are not in use: the slot's are idle, the others waited for."""
        sizes, shapes = run.sizes, run.shapes
        if run.room.fitted_at != self._scratch.generation:
            shared = {name: sizes[name] for name in _SCRATCH}
            shared |= {_tensor(name): nbytes for name, nbytes in run.kept.tensors.items()}
            if shapes.layout == "split":
                shared["joined"] = shapes.batch * shapes.rows * shapes.columns * 4
            if self._scratch.would_grow(shared):
                self.stream.synchronize()
            self._scratch.reserve(shared)
            run.room.fitted_at = self._scratch.generation
        answer = TOTAL + sizes["summaries"] + sizes["detections"]
        upload = sizes["places"] + run.job.nbytes
        run.slot.space.reserve({"upload": upload, "answer": answer, "words": self._room_words * 4})

    def _buffers(self, run: Run) -> Buffers:
        space, scratch = run.slot.space, self._scratch
        upload, answer = space["upload"], space["answer"]
        sizes = run.sizes
        return Buffers(
            upload=upload + sizes["places"],
            places=upload,
            total_words=answer,
            summaries=answer + TOTAL,
            detections=answer + TOTAL + sizes["summaries"],
            words=space["words"],
            word_capacity=space.size("words") // 4,
            **{name: scratch[name] for name in _SCRATCH},
        )

    def _upload(self, run: Run) -> None:
        """Slice by slice: while one is on its way the next one is written."""
        job, places = run.job, run.sizes["places"]
        space, stream = run.slot.space, run.slot.stream
        host, address, sent = space.host("upload", places + job.nbytes), space["upload"], 0

        def send(end: int) -> None:
            nonlocal sent
            stream.copy_in(address + sent, host[sent : places + end])
            sent = places + end

        pack(
            job.images,
            job.tables,
            job.thresholds,
            host[places:],
            np.ndarray(run.shapes.batch, PLACE_DTYPE, host.data),
            send,
        )

    def _launch(self, run: Run) -> None:
        """Put everything between upload and download into the stream: at first kernel by kernel, then as a graph."""
        graphs = run.slot.graphs
        if graphs is None or not run.room.has_run:
            self._enqueue(run)  # libraries prepare themselves in a first run, which a capture does not allow
            run.room.has_run = True
            return
        generation = self._scratch.generation, run.slot.space.generation
        if run.slot.graphs_of != generation:  # a graph holds addresses: these have moved
            graphs.close()
            run.slot.graphs_of = generation
        graph = graphs.get(run.room, lambda: Graph.capture(self.stream, lambda: self._enqueue(run)))
        graph.launch(self.stream)

    def _enqueue(self, run: Run) -> None:
        spec, shapes, stream = self._spec, run.shapes, self.stream
        buffers = self._buffers(run)
        pointers = {name: self._scratch[_tensor(name)] for name in run.kept.tensors}
        launchers.letterbox(self.kernels, shapes, buffers, pointers[spec.input], stream)
        self._run_network(run, pointers)
        rows = pointers[spec.detections]
        if shapes.layout == "split":
            boxes, scores, classes, coefficients = (pointers[name] for name in SPLIT_OUTPUTS)
            half = self._inputs.dtypes[spec.detections] == np.float16
            rows = self._scratch["joined"]
            launchers.join_rows(self.kernels, shapes, (boxes, scores, classes, coefficients), half, rows, stream)
        launchers.decode(self.kernels, shapes, buffers, rows, stream)
        self._assemble(run)

    def _run_network(self, run: Run, pointers: dict[str, int]) -> None:
        self._network.enqueue(pointers, {self._spec.input: run.kept.blob}, self.stream.handle)

    def _assemble(self, run: Run) -> None:
        prototypes = self._scratch[_tensor(self._spec.prototypes)]
        launchers.assemble(self.kernels, run.shapes, self._buffers(run), prototypes, self.stream)


def _tensor(name: str) -> str:
    """Name of the buffer of a network's tensor."""
    return f"tensor {name}"

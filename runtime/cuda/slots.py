"""Slots: what one run has for itself, so that the next one can be uploaded while it computes.

A run has a slot from its upload to its download. Copies of a slot are on a stream of its own. What computes is on one
stream for all slots, and so are the buffers between the stages: they belong to whatever computes at the moment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

from ..errors import ModelError
from ..system.fork import tell_of_forks
from .driver import process
from .driver.device import Device
from .driver.graphs import GraphCache
from .driver.stream import Stream
from .workspace import Workspace

COUNT = 2
"""One computes while another one is copied. The host's work on an answer needs none."""


class Slot:
    """Buffers of one run, with their stream.

    Attributes:
        number: 0 for the first.
        stream: for copies, and for questions about the masks.
        space: upload, answer and words; captured graphs hold their addresses.
        questions: for questions and replies; in no graph.
        graphs: captured with this slot's buffers, by `Room`; None: there are none.
        graphs_of: generations of the shared and of this slot's buffers when they were captured.
        uploaded: mark behind the upload, on `stream`.
        computed: mark behind the last stage, on the stream that computes.

    Example:
        >>> slot = slots.take()  # doctest: +SKIP
        >>> slots.put_back(slot)  # doctest: +SKIP
    """

    def __init__(self, number: int, device: Device, graphs: int) -> None:
        self.number = number
        self.graphs = GraphCache(graphs) if graphs else None
        self.graphs_of = (0, 0)
        with ExitStack() as stack:
            self.stream = device.stream()
            stack.callback(self.stream.close)
            self.space = Workspace(device)
            self.questions = Workspace(device)
            self.uploaded = self.stream.record(timing=False)
            self.computed = self.stream.record(timing=False)
            for owned in (self.uploaded.free, self.computed.free, self.questions.close, self.space.close):
                stack.callback(owned)
            if self.graphs is not None:
                stack.callback(self.graphs.close)
            self._owned = stack.pop_all()

    def hand_over(self, stream: Stream) -> None:
        """Work of `stream` from now on comes after what is on the slot's stream."""
        self.uploaded.move(self.stream)
        stream.wait(self.uploaded)

    def take_over(self, stream: Stream) -> None:
        """Work of the slot's stream from now on comes after what is on `stream`."""
        self.computed.move(stream)
        self.stream.wait(self.computed)

    def close(self) -> None:
        """Free all of it after its work has run."""
        if not process.is_forked():
            self.stream.synchronize()
        self._owned.close()


class Slots:
    """The slots of a pipeline. Each is made when it is first needed. Safe to use from many threads.

    Example:
        >>> slots = Slots(device, "FastSAM-s.plan", graphs=8)  # doctest: +SKIP
    """

    def __init__(self, device: Device, name: str, graphs: int) -> None:
        """
        Args:
            name: of the model, for the message once they are closed.
            graphs: CUDA graphs that each slot keeps, those used last.
        """
        self._graphs = graphs
        self._device = device
        self._name = name
        self._changed = threading.Condition()
        self._made: list[Slot] = []
        self._free: list[Slot] = []
        self._is_closed = False
        tell_of_forks(self)

    def after_fork(self) -> None:
        """See `Inherited.after_fork`: a thread of the parent may have had a slot, or the lock."""
        self._changed = threading.Condition()
        self._free = list(self._made)

    def take(self) -> Slot:
        """A slot for the caller alone; waits until there is one. A thread that has one must not wait: `take_free`.

        Raises:
            ModelError: they are closed. DeviceError: there is no room for another one.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._free or len(self._made) < COUNT)
            return self._taken()

    def take_free(self) -> Slot | None:
        """A slot, or None if all are in use."""
        with self._changed:
            return self._taken() if self._free or len(self._made) < COUNT else None

    def put_back(self, slot: Slot) -> None:
        """Let others have the slot; nothing may be running on it."""
        with self._changed:
            self._free.append(slot)
            self._free.sort(key=lambda free: -free.number)  # a single caller has the first one again and again
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Slot]:
        return iter(tuple(self._made))

    def nbytes(self) -> int:
        """Bytes of device memory of all slots."""
        return sum(slot.space.nbytes() + slot.questions.nbytes() for slot in self)

    def close(self) -> None:
        """Free all slots, once nobody has one."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._free) == len(self._made))
            self._made.clear()
            with ExitStack() as stack:  # each of them, even where one fails
                while self._free:
                    stack.callback(self._free.pop().close)

    def _taken(self) -> Slot:
        if self._is_closed:
            raise ModelError(f"{self._name}: the model is closed; open it again")
        if not self._free:
            self._free.append(Slot(len(self._made), self._device, self._graphs))
            self._made.append(self._free[-1])
        return self._free.pop()

"""What the stages on the device need of a network: that it runs on device pointers. The engines implement it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..network import OpenNetwork
from .driver.device import Device
from .driver.stream import Stream

Shape = tuple[int, ...]


class DeviceNetwork(OpenNetwork, Protocol):
    """A network whose inputs and outputs lie on a CUDA device. Calls wait for each other. `close` may come twice.

    Example:
        >>> network.output_shapes({"images": (1, 3, 640, 640)})  # doctest: +SKIP
        {'output0': (1, 37, 8400), 'output1': (1, 32, 160, 160)}
    """

    @property
    def cuda_device(self) -> Device: ...

    @property
    def stream(self) -> Stream | None:
        """The only stream that it runs on, which is closed with it; None: it runs on any."""
        ...

    @property
    def capturable(self) -> bool:
        """Whether `enqueue` may be captured into a CUDA graph, once it has run for these shapes outside of one."""
        ...

    def largest_batch(self, input_hw: tuple[int, int]) -> int | None:
        """Images of this input size (H, W) that it takes at once; None: any number."""
        ...

    def output_shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shapes of the outputs for these shapes of the inputs.

        Raises:
            ParameterError: the network does not take them.
        """
        ...

    def enqueue(self, pointers: Mapping[str, int], inputs: Mapping[str, Shape], stream: int) -> None:
        """Put one run on a stream and return.

        Args:
            pointers: input or output → address on the device, of the whole tensor in its own dtype.
            inputs: input → shape.
            stream: handle; always the same one, and that of `stream` if there is one.

        Raises:
            ParameterError: the network does not take the shapes.
        """
        ...

    def forget(self, inputs: Mapping[str, Shape]) -> None:
        """Free what is kept for these shapes of the inputs. Nothing may be running; graphs captured with them must be
        gone."""
        ...

    def clone(self) -> DeviceNetwork:
        """Another one of the same network, which can run at the same time on its own stream."""
        ...

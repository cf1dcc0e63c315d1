"""Whatever the library of an engine raises, as a `ModelError`: libraries have many kinds of errors of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import FastSamError, ModelError

if TYPE_CHECKING:  # the command's help imports this package, and no NumPy
    from numpy.typing import NDArray

    from ..network import TensorInfo
    from .interface import Network

_LONGEST_REASON = 300


@contextmanager
def as_model_error(name: str, doing: str) -> Iterator[None]:
    """Turn every exception of the block that is none of this project's own into a `ModelError`.

    Args:
        name: what the message calls the model.
        doing: what failed, in words: "cannot be opened".

    Raises:
        ModelError: the block raised; the cause is kept.

    Example:
        >>> with as_model_error("model.onnx", "failed to run"):
        ...     raise IndexError("no such output")
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.ModelError: model.onnx: failed to run (IndexError: no such output); export it \
again, or try another engine
    """
    try:
        yield
    except FastSamError:
        raise
    except Exception as error:  # the classes of libraries have no base in common
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise ModelError(
            f"{name}: {doing} ({type(error).__name__}: {reason}); export it again, or try another engine"
        ) from error


class GuardedNetwork:
    """A `Network` around another one, which raises nothing but errors of this project when it runs.

    Example:
        >>> network = GuardedNetwork(OpenVinoNetwork(path, EngineSettings()))  # doctest: +SKIP
        >>> network.run({"images": np.zeros((1, 3, 33, 33), np.float32)}, ["output0"])  # doctest: +SKIP
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.ModelError: model.onnx: failed to run (…
    """

    def __init__(self, network: Network) -> None:
        """
        Args:
            network: closed with this one.
        """
        self._network = network

    @property
    def name(self) -> str:
        """See `Network.name`."""
        return self._network.name

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """See `Network.inputs`."""
        return self._network.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """See `Network.outputs`."""
        return self._network.outputs

    @property
    def metadata(self) -> Mapping[str, str]:
        """See `Network.metadata`."""
        return self._network.metadata

    @property
    def device(self) -> str:
        """See `Network.device`."""
        return self._network.device

    @property
    def description(self) -> dict[str, Any]:
        """See `Network.description`."""
        return self._network.description

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """See `Network.run`."""
        with as_model_error(self.name, "failed to run"):
            return self._network.run(feed, outputs)

    def close(self) -> None:
        """Close the network."""
        self._network.close()

    def __enter__(self) -> GuardedNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

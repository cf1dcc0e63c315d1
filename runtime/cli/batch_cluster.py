"""Options of `fastsam batch` for a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from ..errors import ParameterError
from .options import option

if TYPE_CHECKING:
    from ..batch.parts.execution.interface import Executor

_RAY, _LOCAL = "--ray", "local"
_GB = 10**9
_cluster_option = partial(option, panel="Cluster")


@dataclass(frozen=True)
class ClusterOptions:
    """Whether a Ray cluster does the work, and what each worker gets of it.

    Example:
        >>> ClusterOptions().executor(2, 1, "cpu") is None
        True
    """

    ray: Annotated[
        str | None,
        _cluster_option(
            "Workers are actors of a Ray cluster: HOST:PORT of its head; auto: the cluster of this machine; local, or "
            "nothing: Ray is started here for this run. --workers is then their number at most (default: all that have "
            "a place), --threads the processors of each (default: 1).",
            _RAY,
            metavar="[ADDRESS]",
        ),
    ] = None
    min_workers: Annotated[
        int | None,
        _cluster_option("Workers that are kept when the others have no work. Default: 1.", "--min-workers"),
    ] = None
    gpus: Annotated[
        float | None,
        _cluster_option(
            "GPUs of a worker; 0.5 lets two share one. Default: 1 with --device cuda, otherwise 0.", "--gpus"
        ),
    ] = None
    worker_memory: Annotated[
        float | None,
        _cluster_option("Memory, in GB, that a machine must have free for a worker.", "--worker-memory", metavar="GB"),
    ] = None

    def executor(self, workers: int | None, threads: int | None, device: str) -> Executor | None:
        """What runs the chunks on the cluster; None without --ray.

        Args:
            workers, threads: of `--workers` and `--threads`.
            device: of the network.

        Raises:
            ParameterError: a number is out of range, or an option needs --ray.
            MissingDependencyError, FastSamError: there is no Ray, or no cluster.
        """
        if self.ray is None:
            names = {"--min-workers": self.min_workers, "--gpus": self.gpus, "--worker-memory": self.worker_memory}
            alone = [name for name, value in names.items() if value is not None]
            if alone:
                raise ParameterError(f"{', '.join(alone)}: for a Ray cluster; expected {_RAY} too, or leave it out")
            return None
        from ..batch.parts.execution.cluster.executor import RayExecutor
        from ..batch.parts.execution.cluster.settings import ClusterSettings

        gpus = self.gpus if self.gpus is not None else float(device != "cpu")
        memory = None if self.worker_memory is None else int(self.worker_memory * _GB)
        least = 1 if self.min_workers is None else self.min_workers
        return RayExecutor(ClusterSettings(self.ray, workers, least, threads or 1, gpus, memory))


def with_address(arguments: Sequence[str]) -> list[str]:
    """The arguments with the address that `--ray` has where none is given: before another option, or at the end.

    Example:
        >>> with_address(["photos", "--ray", "--output", "out"])
        ['photos', '--ray', 'local', '--output', 'out']
        >>> with_address([])
        []
    """
    completed = []
    for argument, following in pairwise([*arguments, "-"]):
        completed += [argument, _LOCAL] if argument == _RAY and following.startswith("-") else [argument]
    return completed

"""Where a cluster is, and what each worker gets of it."""

from __future__ import annotations

from dataclasses import dataclass

from .....errors import ParameterError
from .....system.cpu import usable_cpus

LOCAL = "local"
"""An address: start Ray on this machine, for this run alone."""

MOST_WORKERS = 10_000


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Workers on a cluster.

    Attributes:
        address: HOST:PORT of the head node; "auto": the cluster that this machine belongs to; "local": Ray is started
            on this machine, and ends with the run.
        most: workers at most; None: as many as have a place when the run begins.
        least: workers that are kept when there is no work for the others.
        cpus: processors of a worker; the network has as many threads.
        gpus: GPUs of a worker, also a fraction: 0.5 lets two workers share one.
        memory: bytes that a worker asks for when a place for it is sought; None: no such limit.

    Raises:
        ParameterError: a value is out of its range.

    Example:
        >>> ClusterSettings(most=8, gpus=0.5).resources
        {'num_cpus': 1, 'num_gpus': 0.5}
    """

    address: str = LOCAL
    most: int | None = None
    least: int = 1
    cpus: int = 1
    gpus: float = 0.0
    memory: int | None = None

    def __post_init__(self) -> None:
        if not self.address.strip():
            raise ParameterError("the address of the cluster is empty, expected HOST:PORT, auto or local")
        most = MOST_WORKERS if self.most is None else self.most
        if not 1 <= self.least <= most <= MOST_WORKERS:
            raise ParameterError(
                f"workers are {self.least} to {most}, expected numbers from 1 to {MOST_WORKERS}, the smaller first"
            )
        if self.cpus < 1:
            raise ParameterError(f"cpus of a worker is {self.cpus}, expected a whole number of 1 or more")
        if self.gpus < 0 or (self.gpus > 1 and self.gpus != int(self.gpus)):
            raise ParameterError(f"gpus of a worker is {self.gpus}, expected a fraction up to 1, or a whole number")
        if self.memory is not None and self.memory < 1:
            raise ParameterError(f"memory of a worker is {self.memory} bytes, expected 1 or more")
        if self.address == LOCAL and self.cpus > usable_cpus():
            raise ParameterError(f"cpus of a worker is {self.cpus}; this machine has {usable_cpus()}; choose fewer")

    @property
    def resources(self) -> dict[str, float]:
        """What Ray is asked for, for each worker."""
        asked: dict[str, float] = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        if self.memory is not None:
            asked["memory"] = self.memory
        return asked

    def places(self, cluster: dict[str, float]) -> int:
        """How many workers have a place in a cluster with these resources; at least 1.

        Args:
            cluster: name → amount, as `ray.cluster_resources()` has it.

        Example:
            >>> ClusterSettings(cpus=2, gpus=0.5).places({"CPU": 16.0, "GPU": 2.0})
            4
        """
        asked = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory or 0}
        fits = [int(cluster.get(name, 0) / amount + 1e-9) for name, amount in asked.items() if amount]
        return max(1, min(MOST_WORKERS, *fits))

"""The kernels of a plan that are compiled where it runs: how, and the file that keeps them for the next time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ...cuda.driver.device import Device
from ..model_cache import ModelCache, Prepared
from .plan_file import PlanFile

logger = logging.getLogger(__name__)


class KernelCache:
    """TensorRT for RTX compiles the kernels of a plan for each shape of its inputs, which takes seconds.

    They are compiled when a shape first comes, not beside the runs: otherwise a CUDA graph that was captured early
    would hold slow kernels for ever. With a cache they are kept in a file, for one GPU, driver and version, and
    written when the plan is closed.

    Attributes:
        config: for new execution contexts; None before `open` and after `close`.
        status: what became of the file; None: there is to be none.
    """

    def __init__(self, file: PlanFile, cache: bool | str | Path, trt: Any, device: Device) -> None:
        """
        Args:
            cache: see `EngineSettings`.
            trt: module of the library.

        Raises:
            ParameterError: cache is a folder that is not there.
        """
        self._trt = trt
        self._file: ModelCache | None = None
        if cache:
            name = f"{file.library.engine} {trt.__version__}"
            settings = {"gpu": device.name, "driver": device.driver_version}
            self._file = ModelCache(file.path, cache, name, settings)
        self._kernels: Any = None
        self._before = b""
        self.config: Any = None
        self.status: str | None = None

    def open(self, engine: Any) -> None:
        """Make the configuration for an engine, and read the file. The device's context is current."""
        trt = self._trt
        self.config = engine.create_runtime_config()
        self.config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        self.config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        if self._file is None:
            return
        self._kernels = self.config.create_runtime_cache()
        kept = self._file.read()
        if kept is not None and self._kernels.deserialize(kept.content):
            self._before = kept.content
            self.status = f"read: {self._file.path}"
        else:
            self.status = "not there yet" if kept is None else f"not taken by the library: {self._file.path}"
        self.config.set_runtime_cache(self._kernels)

    def keep(self) -> None:
        """Write the file, if there are new kernels. The device's context is current; nothing is running."""
        if self._file is None or self._kernels is None:
            return
        content = bytes(self._kernels.serialize())
        if content != self._before:
            self.status = self._file.write(Prepared(content, {}))
            self._before = content
            logger.info("compiled kernels: %s", self.status)

    def close(self) -> None:
        """Drop the library's objects, which must be gone before its engine."""
        self.config = self._kernels = None

"""The layers of a plan, from the JSON beside it; of a plan without one, from TensorRT's inspector."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ...runtime.cuda.driver.device import Device
from ...runtime.engines.tensorrt.plan_file import read_plan
from .layers import layers_from_inspector


def layer_lines(plan: Path, device: int = 0) -> tuple[str, ...]:
    """One line for each layer, see `Layer.line`.

    Args:
        plan: a plan. One that `fastsam-export engine` built has its layers in the JSON beside it, and needs no GPU.
        device: number of the GPU that any other plan is opened on.

    Raises:
        ModelError: it is no plan, or does not run here.
        DeviceError, MissingDependencyError: it has to be opened, and cannot be.
        ExportError: it was built without the details of its layers.

    Example:
        >>> layer_lines(Path("fastsam.rtx"))[3].split("\\t")[0]  # doctest: +SKIP
        'runtime_fusion'
    """
    file = read_plan(plan)
    if file.record is not None and file.record.layers:
        return file.record.layers
    file.library.load(plan.name)
    opened = Device.open(device)
    from ...runtime.engines.tensorrt.network import network_from_plan

    with closing(network_from_plan(file, opened)) as network:
        return tuple(layer.line for layer in layers_from_inspector(network.layer_information()))

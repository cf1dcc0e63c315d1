"""What the stand-in for TensorRT for RTX does in another way: lists of GPUs, layers in the log, a cache of kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from tests.emulator.tensorrt.double import Behaviour, made

if TYPE_CHECKING:
    from tests.emulator.tensorrt.memory_device import MemoryDevice
    from tests.emulator.tensorrt.world import World

_TOLD = {"FLOAT": "Float", "HALF": "Half", "INT8": "Int8"}


def name_of(device: MemoryDevice) -> str:
    """As in ComputeCapability."""
    return "SM{}{}".format(*device.compute_capability)


def layers_message(world: World, content: bytes) -> str:
    """The layers as the real library logs them (its version 1.7)."""
    from tests.emulator.tensorrt.world import convolutions

    lines = ["Layers:", "Name: shapes, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , "]
    for node, kind in convolutions(onnx.load_from_string(content)):
        told = _TOLD[world.told_type or kind]
        end = f"[ {{ Name: x, Dimensions: [-1,3,-1,-1], Strides: [-1,-1,-1,1], Datatype: {told}, Format: rows }}]"
        lines.append(
            f"Name: __myl_CorrSilu_{node.name}, LayerType: runtime_fusion, Inputs: {end}, Constants: [], Outputs: "
            f"{end}, TacticName: , StreamId: 0, Metadata: [ONNX Layer: {node.name}]"
        )
    return "\n".join(lines)


def behaviour(world: World) -> dict[str, Behaviour]:
    """By "Class.member"."""
    return {**_building(world), **_running(world)}


def _building(world: World) -> dict[str, Behaviour]:
    def set_capability(self: Any, capability: Any, index: int) -> bool:
        if index >= self.x_num_compute_capabilities:
            world.violations.append("a GPU beyond the number of GPUs")
        if capability == world.module.ComputeCapability.CURRENT:
            world.violations.append("the library was left to find the GPU, which needs a driver")
        self.x_gpus = [*getattr(self, "x_gpus", []), capability.name]
        return True

    return {
        "IBuilderConfig.set_compute_capability": set_capability,
        "OnnxParser.supports_operator": lambda self, name: name not in ("Celu", "NonZero"),
    }


def _running(world: World) -> dict[str, Behaviour]:
    def set_strategy(self: Any, strategy: Any) -> None:
        self.x_strategy = strategy

    def create_cache(self: Any) -> Any:
        return made(world.module.IRuntimeCache, content=b"")

    def set_cache(self: Any, cache: Any) -> bool:
        self.x_cache = cache
        return True

    def deserialize(self: Any, content: Any) -> bool:
        if not bytes(content).startswith(f"kernels for {name_of(world.device)}".encode()):
            return False
        self.x_content = bytes(content)
        return True

    def context(self: Any, config: Any = None) -> Any:
        strategies = world.module.DynamicShapesKernelSpecializationStrategy
        if config is None or config.x_strategy != world.module.ExecutionContextAllocationStrategy.USER_MANAGED:
            world.violations.append("a context that allocates memory cannot be captured")
        elif config.x_dynamic_shapes_kernel_specialization_strategy != strategies.EAGER:
            world.violations.append("kernels change behind a captured graph")
        elif hasattr(config, "x_cache"):
            config.x_cache.x_content += (
                b"" if config.x_cache.x_content else f"kernels for {name_of(world.device)}".encode()
            )
        return world.new_context(self)

    return {
        "ICudaEngine.create_runtime_config": lambda self: made(world.module.IRuntimeConfig),
        "ICudaEngine.create_execution_context": context,
        "IRuntimeConfig.set_execution_context_allocation_strategy": set_strategy,
        "IRuntimeConfig.create_runtime_cache": create_cache,
        "IRuntimeConfig.set_runtime_cache": set_cache,
        "IRuntimeCache.serialize": lambda self: world.module.IHostMemory.__new__(
            world.module.IHostMemory, self.x_content
        ),
        "IRuntimeCache.deserialize": deserialize,
        "IExecutionContext.is_stream_capturable": lambda self, stream: world.capturable,
    }

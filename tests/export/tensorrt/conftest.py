"""The stand-in for TensorRT, the real bindings' descriptions, and the real TensorRT for RTX."""

from tests.emulator.tensorrt.fixtures import apis, bindings, newest, real_rtx, rtx, rtx_module, world

__all__ = ["apis", "bindings", "newest", "real_rtx", "rtx", "rtx_module", "world"]

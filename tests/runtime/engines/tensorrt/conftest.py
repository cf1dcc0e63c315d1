"""The stand-in for TensorRT and the real bindings' descriptions."""

from tests.emulator.tensorrt.fixtures import apis, bindings, newest, rtx, world

__all__ = ["apis", "bindings", "newest", "rtx", "world"]

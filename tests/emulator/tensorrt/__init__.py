"""A stand-in for TensorRT with the real bindings' signatures, on a device in memory."""

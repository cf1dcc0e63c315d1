"""ONNX Runtime: networks on host arrays, and on device pointers."""

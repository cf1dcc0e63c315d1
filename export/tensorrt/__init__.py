"""TensorRT plans: the request, the build, the inspection of the layers, and the comparison with ONNX Runtime."""

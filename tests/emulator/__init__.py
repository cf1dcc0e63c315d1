"""What stands in for an NVIDIA GPU: a CUDA driver whose device memory is host memory, and TensorRT's double."""

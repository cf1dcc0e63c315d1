"""TensorRT: plans, their execution contexts and buffers."""

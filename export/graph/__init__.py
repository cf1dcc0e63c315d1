"""ONNX graphs: tracing, compact storage, FP16, and NMS inside the graph."""

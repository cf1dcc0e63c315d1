"""Checkpoint → ONNX without PyTorch: a reader that makes arrays and plain data only, and a builder that needs onnx."""

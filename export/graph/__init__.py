"""ONNX graphs: traced, made smaller, in FP16, with suppression inside."""

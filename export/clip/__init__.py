"""CLIP models to ONNX: sources, towers, tokenizer, comparison."""

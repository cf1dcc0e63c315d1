"""Networks on a Triton Inference Server."""

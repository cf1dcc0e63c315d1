"""INT8 files: calibration, quantized graphs, sensitivity of the blocks, and the comparison with the FP32 file."""

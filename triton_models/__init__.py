"""The Triton model repository; a package so that `fastsam-export triton` finds the Python models."""

"""TensorRT plans: how they are asked for, built, inspected and compared."""

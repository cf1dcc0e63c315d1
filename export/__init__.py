"""Offline: FastSAM checkpoints to ONNX (and on to TensorRT plans). Needs the extra `[export]`.

This package calls ultralytics (AGPL-3.0); `fastsam_deploy.runtime` never does.
"""

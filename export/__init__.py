"""Export FastSAM checkpoints to ONNX files and TensorRT plans. Needs the extra `[export]`, or `[direct]` for `direct`.

This package calls ultralytics (AGPL-3.0); `fastsam_deploy.runtime` never does.
"""

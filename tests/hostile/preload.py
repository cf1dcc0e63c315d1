"""Imports of the process that forks: all that commands import, where it is installed. Nothing is opened."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

for _name in (
    *("cv2", "numpy", "onnxruntime", "PIL.Image", "rich.console", "rich.progress", "typer"),
    *("fastsam_deploy.runtime.cli.main", "fastsam_deploy.runtime.batch.run", "fastsam_deploy.runtime.batch.video"),
    *("fastsam_deploy.runtime.measure.run", "fastsam_deploy.runtime.measure.speed", "fastsam_deploy.runtime.opening"),
    *("fastsam_deploy.runtime.engines.onnxruntime.host", "fastsam_deploy.export.cli.main", "onnx", "onnxslim"),
    *("torch", "torch.onnx", "ultralytics.nn.tasks", "fastsam_deploy.export.to_onnx", "open_clip", "transformers"),
    *("fastsam_deploy.export.quantize.to_int8", "fastsam_deploy.export.triton.to_triton"),
    *("fastsam_deploy.export.clip.to_clip", "onnxscript", "tests.hostile.commands", "tests.emulator.tensorrt.fixtures"),
):
    with suppress(ImportError):
        import_module(_name)

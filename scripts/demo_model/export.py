"""Write models/fastsam-demo.onnx from models/fastsam-demo.pt, proven equal to it; at most 8 MB.

    python -m scripts.demo_model.export

Any batch and size, default 640, near which it was trained; weights stored as FP16 (exactly those of the
checkpoint), arithmetic in FP32. Needs the extras [cpu,export].
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastsam_deploy.export.to_onnx import export_onnx
from fastsam_deploy.runtime.errors import FastSamError

MODELS = Path(__file__).resolve().parents[2] / "models"
MOST_BYTES = 8_000_000


def main() -> int:
    """Export, prove, print what was found; 2 if it did not work."""
    target = MODELS / "fastsam-demo.onnx"
    try:
        proof = export_onnx(MODELS / "fastsam-demo.pt", target, imgsz=640, compact=True)
    except FastSamError as error:
        print(f"scripts.demo_model.export: {error}", file=sys.stderr)
        return 2
    for finding in proof.findings:
        print(finding)
    size = target.stat().st_size
    print(f"{target}: {size} bytes, {proof.detections} detections compared, SHA-256 of the checkpoint "
          f"{proof.spec.checkpoint_sha256}")  # fmt: skip
    if size > MOST_BYTES:
        print(
            f"scripts.demo_model.export: {size} bytes, expected at most {MOST_BYTES}; are its weights FP16?",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

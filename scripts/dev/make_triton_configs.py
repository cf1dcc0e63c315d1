"""Writes the configurations under triton_models/, from the same code as `fastsam-export triton`.

    python scripts/dev/make_triton_configs.py

They fit the demo model and any other dynamic model with one class: copy its `model.plan` (or `model.onnx`) to
`fastsam_engine/1` and, with its `model.json`, to `fastsam_device/1`; the folder is then a model repository. For other
models, make a repository with `fastsam-export triton`: the content of these files depends on the network.

- `config.pbtxt`: TensorRT on a GPU; the input is a square of 1024 px.
- `configs/onnxruntime.pbtxt`: ONNX Runtime with CUDA; the same square.
- `configs/cpu.pbtxt`: ONNX Runtime on the CPU; the smallest rectangle around the image, longest side 1024 px.

`tritonserver --model-config-name=cpu` selects one. For a model without a file of that name, Triton uses `config.pbtxt`;
models whose configuration would be the same have none.
"""

from __future__ import annotations

from pathlib import Path

from fastsam_deploy.export.triton.configs import MODELS, WARMUP_IMAGE, Serving, config_of
from fastsam_deploy.export.triton.to_triton import WARMED_BY_A_PHOTOGRAPH, warmup_image
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.system.atomic import write_atomically

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = ROOT / "triton_models"
IMGSZ = 1024
VARIANTS = {
    "onnxruntime": Serving("onnxruntime", "gpu", IMGSZ, rect=False),
    "cpu": Serving("onnxruntime", "cpu", IMGSZ, rect=True),
}
PRODUCTION = Serving("tensorrt", "gpu", IMGSZ, rect=False)


def files() -> dict[str, bytes]:
    """Path under triton_models/ → content."""
    engine = open_engine(ROOT / "models/fastsam-demo.onnx")
    spec = engine.spec
    engine.close()
    contents: dict[str, bytes] = {}
    for model in MODELS:
        usual = config_of(model, spec, PRODUCTION)
        contents[f"{model}/config.pbtxt"] = usual.encode()
        for name, serving in VARIANTS.items():
            config = config_of(model, spec, serving)
            if config != usual:
                contents[f"{model}/configs/{name}.pbtxt"] = config.encode()
        if model in WARMED_BY_A_PHOTOGRAPH:
            contents[f"{model}/warmup/{WARMUP_IMAGE}"] = warmup_image()
    # Git keeps no empty folders, but Triton needs one for the version.
    for model in ("fastsam", "fastsam_engine"):
        contents[f"{model}/1/.gitkeep"] = b""
    return contents


def main() -> None:
    """Run the command: write the files that differ."""
    for name, content in files().items():
        path = REPOSITORY / name
        if path.is_file() and path.read_bytes() == content:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        print(f"written: {path}")


if __name__ == "__main__":
    main()

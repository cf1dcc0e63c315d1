"""Maps folders of the repository to the package `fastsam_deploy`; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
TOP = ["runtime", "export", "models", "triton_models"]
TOP_LEVEL = "runtime.top_level"  # the package `fastsam_deploy` itself
PYTHON_MODELS = ["fastsam_preprocess", "fastsam_postprocess", "fastsam_device"]
PACKAGES = find_packages(str(ROOT), include=[*TOP, *(f"{name}.*" for name in TOP)], exclude=[TOP_LEVEL])
# Triton's model folders are no Python packages: they carry one file each.
PACKAGES += [f"triton_models.{name}" for name in PYTHON_MODELS]


class BuildAnew(build_py):
    """Starts from an empty folder: `build/` of an earlier build may hold modules that have been deleted since."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib) / "fastsam_deploy", ignore_errors=True)
        super().run()


setup(
    cmdclass={"build_py": BuildAnew},
    packages=["fastsam_deploy", *(f"fastsam_deploy.{name}" for name in PACKAGES)],
    package_dir={
        "fastsam_deploy": TOP_LEVEL.replace(".", "/"),
        **{f"fastsam_deploy.{name}": name.replace(".", "/") for name in PACKAGES},
    },
    package_data={
        "fastsam_deploy": ["py.typed"],
        "fastsam_deploy.runtime": ["py.typed"],
        "fastsam_deploy.runtime.app.assets": ["*.html", "*.css", "*.js", "*.jpg"],
        "fastsam_deploy.runtime.cuda.kernels": ["*.ptx", "*.cu", "*.cuh"],
        "fastsam_deploy.export": ["py.typed"],
        "fastsam_deploy.export.photographs": ["*.jpg", "README.md"],
        "fastsam_deploy.triton_models": ["requirements.txt", "requirements-gpu.txt"],
        **{f"fastsam_deploy.triton_models.{name}": ["1/model.py"] for name in PYTHON_MODELS},
        # The checkpoint stays in the repository: only the ONNX file is needed to run.
        "fastsam_deploy.models": ["fastsam-demo.onnx", "README.md"],
    },
)

"""Maps folders of the repository to the package `fastsam_deploy`, and builds its compiled code; all else is in
pyproject.toml.

The compiled code is a plain shared library, which Python calls through ctypes (docs/adr/0032). A wheel that holds it
fits every version of Python on its platform. Without a C++ compiler the wheel holds none and fits every platform.
"""

import shutil
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
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


NATIVE = "runtime/native"
LIBRARY_NAMES = {"win32": "fastsam_native.dll", "darwin": "libfastsam_native.dylib"}
LIBRARY_NAME = LIBRARY_NAMES.get(sys.platform, "libfastsam_native.so.1")  # as in runtime/native/library.py


class BuildLibrary(build_ext):
    """Builds a shared library that is no module of Python."""

    def build_extensions(self) -> None:
        if self.compiler.compiler_type == "msvc":
            flags = ["/std:c++17", "/O2", "/EHsc", "/fp:precise"]
        else:
            # Products and sums are rounded as they stand in the sources, so that NumPy gives the same pixels.
            flags = ["-std=c++17", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-g0"]
        for extension in self.extensions:
            extension.extra_compile_args = flags
        super().build_extensions()

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")[:-1], LIBRARY_NAME))

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """None beside those that the sources mark: a module of Python would have a function that makes it."""
        return []


class NameWheel(bdist_wheel):
    """Names the wheel after its platform if the library was built, for any version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        built = Path(self.bdist_dir or self.get_finalized_command("build").build_lib)
        is_compiled = any(built.rglob(LIBRARY_NAME))
        return "py3", "none", super().get_tag()[2] if is_compiled else "any"


setup(
    cmdclass={"build_py": BuildAnew, "build_ext": BuildLibrary, "bdist_wheel": NameWheel},
    ext_modules=[
        Extension(
            "fastsam_deploy.runtime.native._library",
            sources=sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / NATIVE / "source").glob("*.cpp")),
            depends=sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / NATIVE / "source").glob("*.h")),
            language="c++",
            optional=True,  # without a compiler NumPy does its work
        )
    ],
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

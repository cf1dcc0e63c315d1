"""Which code computes masks: chosen by the processor or by FASTSAM_NATIVE, said in words, never replaced silently."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fastsam_deploy.runtime import FastSAM
from fastsam_deploy.runtime.errors import MissingDependencyError, ParameterError
from fastsam_deploy.runtime.measure import doctor
from fastsam_deploy.runtime.native import library as module

built = pytest.mark.skipif(not module.PATH.is_file(), reason="the compiled code was not built")


@pytest.fixture(autouse=True)
def _fresh():
    """Nothing that a test makes of the library stays."""
    module._library_for.cache_clear()
    yield
    module._library_for.cache_clear()


def test_zero_means_numpy_and_is_said(monkeypatch: pytest.MonkeyPatch, demo_onnx: Path) -> None:
    monkeypatch.setenv(module.VARIABLE, "0")
    assert module.library() is None
    with FastSAM(demo_onnx, imgsz=320) as model:
        assert model.description["masks"] == "NumPy (FASTSAM_NATIVE=0)"
        assert "masks='NumPy (FASTSAM_NATIVE=0)'" in repr(model)
    row = doctor._try_native()
    assert not row["works"] and row["reason"].startswith("NumPy (FASTSAM_NATIVE=0): the same masks")


@built
def test_the_processors_best_instructions_are_used_and_said(demo_onnx: Path) -> None:
    name = module.library().level_name
    with FastSAM(demo_onnx, imgsz=320) as model:
        assert f"masks='compiled ({name})'" in repr(model)
    assert doctor._try_native()["detail"] == f"compiled ({name})"


@built
def test_both_give_the_same_segments(monkeypatch: pytest.MonkeyPatch, demo_onnx: Path, coffee: Path) -> None:
    with FastSAM(demo_onnx, imgsz=320) as model:
        compiled = model.segment(coffee)
        monkeypatch.setenv(module.VARIABLE, "0")
        twin = model.segment(coffee)
        np.testing.assert_array_equal(compiled.boxes_xyxy, twin.boxes_xyxy)
        assert compiled.masks == twin.masks
        texts = twin.masks.rle()
        monkeypatch.delenv(module.VARIABLE)
        assert compiled.masks.rle() == texts


@built
def test_another_instruction_set_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.VARIABLE, "portable")
    assert module.state() == "compiled (portable)"


@pytest.mark.parametrize("value", ["1", "yes", "sse9"])
def test_an_unknown_value_is_an_error(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(module.VARIABLE, value)
    with pytest.raises(ParameterError, match=f"FASTSAM_NATIVE is '{value}', expected 0 or one of portable"):
        module.library()


@built
def test_instructions_that_the_processor_lacks_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    functions = module._loaded(module.PATH)
    lacking = [name for level, name in enumerate(module.LEVELS) if not functions.fastsam_has_level(level)]
    monkeypatch.setenv(module.VARIABLE, lacking[0])
    with pytest.raises(ParameterError, match="this processor or this library lacks"):
        module.library()


def test_an_absent_library_is_numpy_and_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "PATH", tmp_path / "absent")
    assert module.library() is None and module.state() == "NumPy (not compiled)"
    assert "install a C++ compiler" in doctor._try_native()["reason"]
    monkeypatch.setenv(module.VARIABLE, "avx2")
    with pytest.raises(MissingDependencyError, match="there is no"):
        module.library()


def test_a_broken_library_is_an_error_with_advice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"\x7fELF, or not")
    monkeypatch.setattr(module, "PATH", broken)
    with pytest.raises(MissingDependencyError, match=r"does not load .*FASTSAM_NATIVE=0 to use NumPy"):
        module.library()
    assert "does not load" in doctor._try_native()["reason"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_a_library_of_another_version_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source, other = tmp_path / "other.cpp", tmp_path / "other.so"
    source.write_text('extern "C" int fastsam_abi() { return 99; }\n')
    subprocess.run(["g++", "-shared", "-fPIC", str(source), "-o", str(other)], check=True)
    monkeypatch.setattr(module, "PATH", other)
    with pytest.raises(MissingDependencyError, match=rf"is of version 99, expected {module.ABI}; install the package"):
        module.library()


def test_the_version_is_that_of_the_sources() -> None:
    header = (Path(__file__).resolve().parents[3] / "runtime/native/source/api.h").read_text(encoding="utf-8")
    assert f"#define FASTSAM_ABI {module.ABI}\n" in header


@pytest.mark.parametrize("compiler", ["aarch64-linux-gnu-g++", "x86_64-w64-mingw32-g++-posix"])
def test_it_compiles_for_other_systems(compiler: str, tmp_path: Path) -> None:
    """With the warnings of a missing header: `pip install` would go on without the library."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    sources = sorted((Path(__file__).resolve().parents[3] / "runtime/native/source").glob("*.cpp"))
    flags = ["-std=c++17", "-O0", "-ffp-contract=off", "-shared", *([] if "mingw" in compiler else ["-fPIC"])]
    command = [compiler, *flags, *map(str, sources), "-o", str(tmp_path / "library")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

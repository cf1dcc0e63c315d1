"""The shipped PTX is made of the present sources, and these compile for every GPU from Turing on.

Not in tests/runtime/cuda: NVRTC crashes in a process that has the emulated driver.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastsam_deploy.runtime.cuda import kernels
from fastsam_deploy.runtime.cuda.loading import ENTRIES, Kernels
from fastsam_deploy.runtime.errors import DeviceError

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
QUICK = ("sm_75", "sm_120")


@pytest.fixture(scope="module")
def make_ptx() -> ModuleType:
    """scripts/dev/make_ptx.py"""
    spec = importlib.util.spec_from_file_location("make_ptx", ROOT / "scripts/dev/make_ptx.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def nvrtc(make_ptx: ModuleType) -> Any:
    """The newest NVRTC of this environment; no GPU is needed."""
    for folder in sys.path:
        for found in sorted(Path(folder).glob("nvidia/c*"), reverse=True):  # cu13, cuda_nvrtc
            if list(found.rglob("libnvrtc.so.*")):
                return make_ptx.Nvrtc(found)
    return pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc")


def test_every_file_is_made_of_its_source(make_ptx: ModuleType):
    assert make_ptx.outdated() == []
    assert sorted(kernels.NAMES) == make_ptx.kernel_names()


@pytest.mark.parametrize("name", kernels.NAMES)
def test_what_a_file_says_of_itself(make_ptx: ModuleType, name: str):
    text = kernels.ptx_path(name).read_text(encoding="ascii")
    assert f"// NVRTC 12.0 {' '.join(make_ptx.OPTIONS)}\n" in text
    assert "\n.version 8.0\n.target sm_75\n" in text, "a driver refuses PTX of a CUDA newer than itself"
    assert sorted(re.findall(r"\.entry (\w+)", text)) == sorted(ENTRIES[name])


@pytest.mark.parametrize("name", kernels.NAMES)
def test_no_sum_may_be_fused_where_the_bits_count(name: str):
    """Without `.rn` the driver's compiler may make one operation of a product and a sum: other bits than NumPy's."""
    text = kernels.ptx_path(name).read_text(encoding="ascii")
    operations = re.findall(r"^\s*((?:add|sub|mul|div|fma|mad)\.[a-z0-9.]*f32)\s", text, re.M)
    allowed = {"add.rn.f32", "sub.rn.f32", "mul.rn.f32", "div.rn.f32"} | ({"fma.rn.f32"} if name == "masks" else set())
    assert set(operations) <= allowed
    assert bool(operations) == (name not in ("prompts",))


@pytest.mark.parametrize("changed", ["masks.cu", "layout.cuh"])
def test_a_changed_source_is_reported(
    make_ptx: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
):
    folder = tmp_path / "kernels"
    shutil.copytree(make_ptx.KERNELS, folder)
    monkeypatch.setattr(make_ptx, "KERNELS", folder)
    assert make_ptx.outdated() == []
    path = folder / changed
    path.write_text(path.read_text(encoding="utf-8") + "// more\n", encoding="utf-8")
    (folder / "left_over.ptx").write_text("", encoding="utf-8")
    problems = make_ptx.outdated()
    assert len(problems) == 1 + (1 if changed == "masks.cu" else len(kernels.NAMES))
    assert "left_over.ptx: has no source; delete it" in problems
    assert "masks.ptx: not made of the present source; run scripts/dev/make_ptx.py" in problems


def test_the_script_checks_and_refuses(
    make_ptx: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["make_ptx.py", "--check"])
    assert make_ptx.main() == 0
    monkeypatch.setattr(sys, "argv", ["make_ptx.py", "--nvrtc", str(tmp_path)])
    assert make_ptx.main() == 2
    assert "no libnvrtc.so.* in it" in capsys.readouterr().err


def test_a_newer_compiler_is_refused(
    make_ptx: ModuleType, nvrtc: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    if nvrtc.version == make_ptx.VERSION:
        pytest.skip("this environment has the very version that the files are made with")
    before = {name: kernels.ptx_path(name).read_bytes() for name in kernels.NAMES}
    monkeypatch.setattr(make_ptx, "Nvrtc", lambda folder: nvrtc)
    monkeypatch.setattr(sys, "argv", ["make_ptx.py", "--nvrtc", "."])
    assert make_ptx.main() == 2
    assert re.search(r"NVRTC is \d+\.\d+, expected 12\.0", capsys.readouterr().err)
    assert before == {name: kernels.ptx_path(name).read_bytes() for name in kernels.NAMES}


def test_the_same_compiler_makes_the_same_bytes(make_ptx: ModuleType, nvrtc: Any):
    if nvrtc.version != make_ptx.VERSION:
        pytest.skip(f"NVRTC here is {nvrtc.version}, the files are made with {make_ptx.VERSION}")
    for name in kernels.NAMES:
        assert make_ptx.ptx_text(nvrtc, name) == kernels.ptx_path(name).read_bytes()


@pytest.mark.parametrize(
    "arch", [arch if arch in QUICK else pytest.param(arch, marks=pytest.mark.slow) for arch in ARCHITECTURES]
)
def test_every_kernel_compiles(make_ptx: ModuleType, nvrtc: Any, arch: str):
    if int(arch.removeprefix("sm_")) not in nvrtc.architectures():
        pytest.skip(f"NVRTC {nvrtc.version} knows {nvrtc.architectures()}; install a newer one")
    options = [option for option in make_ptx.OPTIONS if "architecture" not in option]
    for name in make_ptx.kernel_names():
        binary = nvrtc.compile(name, (*options, f"--gpu-architecture={arch}"), binary=True)
        assert binary.startswith(b"\x7fELF")
        for entry in ENTRIES[name]:
            assert f".text.{entry}".encode() in binary


def test_a_source_with_a_fault_says_where(
    make_ptx: ModuleType, nvrtc: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "kernels"
    shutil.copytree(make_ptx.KERNELS, folder)
    (folder / "prompts.cu").write_text("int x = y;", encoding="utf-8")
    monkeypatch.setattr(make_ptx, "KERNELS", folder)
    with pytest.raises(RuntimeError, match=r'prompts\.cu\(1\): error: identifier "y" is undefined'):
        nvrtc.compile("prompts", make_ptx.OPTIONS)


def test_a_package_without_ptx_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernels, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(DeviceError, match=r"letterbox\.ptx: not there; .* install the package again"):
        Kernels(lambda path: pytest.fail("nothing to load"))

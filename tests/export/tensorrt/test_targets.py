"""What TensorRT for RTX does not build is refused before it is asked, in one line that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="needs the extra [export]")

import onnx
from typer.testing import CliRunner

from fastsam_deploy.export.cli.main import app
from fastsam_deploy.export.tensorrt.request import request_for
from fastsam_deploy.export.tensorrt.settings import BuildSettings
from fastsam_deploy.export.tensorrt.targets import gpus_from_text
from fastsam_deploy.runtime.cuda.driver.device import Device
from fastsam_deploy.runtime.engines.tensorrt.library import TENSORRT_RTX
from fastsam_deploy.runtime.errors import DeviceError, FastSamError, ParameterError
from tests.emulator.tensorrt.memory_device import MemoryDevice


def test_gpus_are_read() -> None:
    assert gpus_from_text("sm86,sm89 , SM_120") == ("sm86", "sm89", "sm120")
    assert gpus_from_text("8.6,86,12.1") == ("sm86", "sm121")
    assert gpus_from_text("sm75") == ("sm75",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"builds for a list of GPUs, and none is given; add --gpu sm86,sm89,sm120"),
        (" , ", "none is given"),
        ("rtx4090", r"GPU is 'rtx4090', expected as in sm86 or 8\.6: one of sm75, sm80"),
        ("sm86,current", "'current' stands alone; name that GPU instead"),
        ("sm75,sm86,sm120", r"sm75 in a list limits .* two files: --gpu sm75, and --gpu sm86,sm120"),
        (
            "sm87",
            "sm87 is none of the GPUs that TensorRT for RTX serves .*sm121.*; Jetson .* run plans of TensorRT itself",
        ),
        ("sm86,9.0", "sm90 is none of .* H100 .* fastsam-export engine MODEL.onnx on that GPU"),
    ],
)
def test_other_gpus_are_refused(text: str | None, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        gpus_from_text(text)


def test_the_gpu_here_needs_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(number: int = 0) -> None:
        raise DeviceError("no driver")

    monkeypatch.setattr(Device, "open", no_driver)
    with pytest.raises(DeviceError, match=r"--gpu current: no driver; or name the GPUs, .* --gpu sm86,sm89,sm120"):
        gpus_from_text("current")
    monkeypatch.setattr(Device, "open", lambda number=0: MemoryDevice(number))
    assert gpus_from_text("current") == ("sm89",)
    monkeypatch.setattr(Device, "open", lambda number=0: MemoryDevice(number, "NVIDIA H100", (9, 0)))
    with pytest.raises(DeviceError, match=r"--gpu current: NVIDIA H100 \(sm90\) is none of .* TensorRT itself"):
        gpus_from_text("current")


def request(model: Path, output: Path, **settings: Any) -> Any:
    return request_for(model, output, settings=BuildSettings(**settings), device=None, library=TENSORRT_RTX)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timing_cache": Path("x")}, "--timing-cache with --rtx: .* nothing is timed .*; leave it out"),
        ({"version_compatible": True}, "--version-compatible with --rtx: .*; leave it out"),
        (
            {"hardware_compatible": True},
            r"--hardware-compatible with --rtx: .* \(--gpu sm86,sm89,sm120\); leave it out",
        ),
    ],
)
def test_settings_that_it_does_not_have(
    demo_onnx: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        request(demo_onnx, tmp_path / "m.rtx", gpus=("sm86",), **settings)


def quantized(graph: onnx.ModelProto, target: str) -> onnx.ModelProto:
    from fastsam_deploy.export.quantize.graph import layers_of, tensors_to_calibrate, with_folded_weights, with_qdq

    plain = with_folded_weights(graph)
    layers = [layer for layer in layers_of(plain) if not layer.kept]
    return with_qdq(plain, layers, dict.fromkeys(tensors_to_calibrate(plain, layers, target), (-2.0, 2.5)), target)


def suppressed(graph: onnx.ModelProto) -> onnx.ModelProto:
    from fastsam_deploy.export.graph.suppression import spec_with_suppression, with_suppression
    from fastsam_deploy.runtime.spec import METADATA_KEY, ModelSpec
    from fastsam_deploy.runtime.suppression import Suppression

    spec = ModelSpec.from_json(next(e.value for e in graph.metadata_props if e.key == METADATA_KEY))
    made = with_suppression(graph, spec, Suppression(0.01, 0.8, 50))
    told = spec_with_suppression(spec, Suppression(0.01, 0.8, 50))
    onnx.helper.set_model_props(made, {METADATA_KEY: told.to_json()})
    return made


@pytest.mark.parametrize(
    ("change", "gpu", "message"),
    [
        pytest.param(suppressed, "sm86", "has NMS inside, .* export it again without --nms", id="NMS inside"),
        pytest.param(lambda g: quantized(g, "cpu"), "sm86", "for processors .*without --target cpu", id="INT8, CPU"),
        pytest.param(lambda g: quantized(g, "tensorrt"), "sm75", "INT8 for sm75, .* --precision fp16", id="INT8, sm75"),
    ],
)
def test_files_that_it_does_not_build(
    demo_onnx: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], onnx.ModelProto], gpu: str, message: str
) -> None:
    onnx.save(change(onnx.load(demo_onnx)), tmp_path / "m.onnx")
    with pytest.raises(ParameterError, match=f"m.onnx: .*{message}"):
        request(tmp_path / "m.onnx", tmp_path / "m.rtx", gpus=(gpu,))


def test_a_file_for_processors_is_refused_for_tensorrt_too(demo_onnx: Path, tmp_path: Path) -> None:
    onnx.save(quantized(onnx.load(demo_onnx), "cpu"), tmp_path / "m.onnx")
    with pytest.raises(ParameterError, match=r"quantized for processors .* which TensorRT does not take"):
        request_for(tmp_path / "m.onnx", tmp_path / "m.plan")


def test_fp16_and_one_profile_by_default(demo_onnx: Path, tmp_path: Path) -> None:
    made = request(demo_onnx, tmp_path / "m.rtx", gpus=("sm86",))
    assert (made.precision, len(made.profiles)) == ("fp16", 1)
    assert made.command.endswith("--rtx --gpu sm86")
    assert len(request_for(demo_onnx, tmp_path / "m.plan").profiles) == 3
    onnx.save(quantized(onnx.load(demo_onnx), "tensorrt"), tmp_path / "int8.onnx")
    assert request(tmp_path / "int8.onnx", tmp_path / "m.rtx", gpus=("sm86",)).precision == "int8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rtx",), "none is given"),
        (("--gpu", "sm86"), "TensorRT builds for the GPU of this machine; add --rtx"),
        (("--rtx", "--gpu", "sm86", "--trtexec"), "--trtexec builds plans of TensorRT itself"),
        (("--rtx", "--gpu", "sm86", "-o", "m.plan"), r"expected a name that ends in \.rtx"),
        (("-o", "m.rtx"), r"expected a name that ends in \.plan"),
        (("--check", "--layers"), "--check and --layers: expected one of them"),
    ],
)
def test_options_that_do_not_go_together(demo_onnx: Path, arguments: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(app, ["engine", str(demo_onnx), *arguments])
    assert isinstance(done.exception, FastSamError)
    with pytest.raises(FastSamError, match=message):
        raise done.exception


def test_without_the_library_the_error_says_what_to_install(
    demo_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in TENSORRT_RTX.modules:
        monkeypatch.setitem(__import__("sys").modules, module, None)
    for arguments in (["--rtx", "--gpu", "sm86", "-o", str(tmp_path / "m.rtx")], ["--check"]):
        done = CliRunner().invoke(app, ["engine", str(demo_onnx), *arguments])
        assert "pip install 'fastsam-deploy[rtx-export]'" in str(done.exception)
    assert not list(tmp_path.iterdir())

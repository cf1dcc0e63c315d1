"""The TensorRT engine on our real device layer, PyCUDA and a driver (see test_on_driver.py, which runs this).

The driver is the emulated one of tests/emulator; TensorRT is the stand-in, which reads and writes device memory at
the addresses that it is given.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import sys
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastsam_deploy.export.tensorrt.drafts import record_of, write_pair
from fastsam_deploy.export.tensorrt.request import request_for
from fastsam_deploy.export.tensorrt.settings import BuildSettings
from fastsam_deploy.export.tensorrt.to_engine import build_engine
from fastsam_deploy.runtime import FastSAM, TRTFastSAM
from fastsam_deploy.runtime.cuda.driver.device import Device
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.engines.onnxruntime.device import OnnxRuntimeCudaNetwork
from fastsam_deploy.runtime.engines.tensorrt.library import TENSORRT_RTX, gpu_of
from fastsam_deploy.runtime.engines.tensorrt.plan_file import read_plan
from fastsam_deploy.runtime.settings import EngineSettings
from tests.emulator.build import build_cpu_kernels
from tests.emulator.driver.emulated import Emulated, driver
from tests.emulator.tensorrt.world import World

HERE = Path(__file__).resolve().parent


class Adapter:
    """What the stand-in asks of a device, on the real device layer."""

    def __init__(self, device: Device, found: Emulated) -> None:
        self.name, self.number, self.compute_capability = device.name, device.number, device.compute_capability
        self.streams = self
        self._driver = found

    @property
    def is_active(self) -> bool:
        return self._driver.current_context() is not None

    def bytes_at(self, pointer: int, nbytes: int) -> np.ndarray:
        return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(pointer))

    def __contains__(self, stream: int) -> bool:
        return bool(stream)

    def __getitem__(self, stream: int) -> Any:
        # The emulated driver has done what is on a stream by the time that a call returns.
        return SimpleNamespace(waiting=SimpleNamespace(append=lambda work: work()))


def main(model: Path, folder: Path) -> None:
    found = driver()
    assert isinstance(found, Emulated)
    device = Device.open(0)
    before = found.living()
    world = installed(device, found)
    tensorrt = importlib.import_module("fastsam_deploy.runtime.engines.tensorrt.network")
    network = tensorrt.network_from_file(plan(world, device, model, folder / "demo.plan"), EngineSettings("cuda:0"))
    with closing(open_engine(model)) as reference:
        shapes = [(1, 3, 64, 64), (2, 3, 128, 160), (1, 3, 96, 128), (1, 3, 64, 64)]
        images = {shape: np.random.default_rng(1).random(shape, np.float32) for shape in shapes}
        wanted = {shape: reference.run(images[shape])["detections"] for shape in images}
    for shape in shapes:
        np.testing.assert_array_equal(network.run({"images": images[shape]}, ["output0"])[0], wanted[shape])
    other = network.clone()
    pointers(network, device, images[shapes[0]], wanted[shapes[0]])
    with OnnxRuntimeCudaNetwork(model, device, memory="cpu") as runtime:
        pointers(runtime, device, images[shapes[0]], wanted[shapes[0]])
    wrong: list[Any] = []

    def work(one: Any) -> None:
        for shape in shapes * 3:
            got = one.run({"images": images[shape]}, ["output0"])[0]
            wrong.extend([shape] * (not np.array_equal(got, wanted[shape])))

    threads = [threading.Thread(target=work, args=(one,)) for one in (network, other, network)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    network.close()
    other.close()
    whole_pipeline(device, found, model, folder)
    gc.collect()
    assert found.current_context() is None
    assert not +world.alive
    assert found.living() == before, (before, found.living())
    assert found.wrong() == {}, found.wrong()
    # Work of other threads than the one that made its context current is what the stand-in complains about.
    assert world.violations == []
    print("all of it")


def installed(device: Device, found: Emulated) -> World:
    """The stand-in, in TensorRT's place for this process."""
    api = json.loads((HERE / "api-11.4.json").read_text())
    world = World(api, Adapter(device, found))  # type: ignore[arg-type]
    sys.modules["tensorrt"] = world.module
    return world


def whole_pipeline(device: Device, found: Emulated, model: Path, folder: Path) -> None:
    """`TRTFastSAM` on a plan of TensorRT for RTX: every stage on the device, and kernels kept.

    Without graphs, as the stand-in computes when it is asked, and not when a graph is launched.
    """
    found.add_kernels(build_cpu_kernels(folder))
    world = World(json.loads((HERE / "api-rtx-1.7.json").read_text()), Adapter(device, found))  # type: ignore[arg-type]
    sys.modules["tensorrt_rtx"] = world.module
    gpu = gpu_of((device.compute_capability[0], device.compute_capability[1]))
    settings = BuildSettings(gpus=(gpu,))
    shapes = ["1x64x64,1x128x128,2x128x160"]
    request = request_for(
        model,
        folder / "demo.rtx",
        precision="fp32",
        shapes=shapes,
        settings=settings,
        device=None,
        library=TENSORRT_RTX,
    )
    build_engine(request)
    photo = np.random.default_rng(0).integers(0, 255, (90, 128, 3), np.uint8)
    photo[20:70, 30:90] = 220
    with FastSAM(model, imgsz=128, conf=0.05) as reference:
        expected = reference.segment(photo)
    assert len(expected)
    for _ in range(2):
        with TRTFastSAM(request.output, imgsz=128, conf=0.05, cache=True, graphs=0) as trt:
            segments = trt.segment(photo)
            np.testing.assert_allclose(segments.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)
            assert segments.masks == expected.masks
            status = trt.description["cache"]
    assert status.startswith("read: "), status
    for world.capturable in (False, True):
        with TRTFastSAM(request.output) as trt:
            assert trt.description["cuda_graphs"] is world.capturable
    assert world.violations == [] and not +world.alive


def plan(world: World, device: Device, model: Path, target: Path) -> Path:
    builder = importlib.import_module("fastsam_deploy.export.tensorrt.builder")
    log = importlib.import_module("fastsam_deploy.runtime.engines.tensorrt.log").tensorrt_log(world.module)
    shapes = ["1x64x64,2x128x128,2x128x160", "1x64x64,1x96x128,1x96x128"]
    request = request_for(model, target, shapes=shapes)
    content = model.read_bytes()
    with device.active():
        profiles = {"images": request.profiles}
        built = builder.plan_from_onnx(world.module, content, model.name, profiles, request.settings, log)
    write_pair(target, built, record_of(request, request.spec, built, content, world.api["version"], device))
    assert read_plan(target).record is not None
    return target


def pointers(network: Any, device: Device, images: np.ndarray, wanted: np.ndarray) -> None:
    """One run on device memory and a stream, the caller's unless the network has one."""
    made = network.output_shapes({"images": images.shape})
    memory = {name: device.memory(int(np.prod(s)) * 4) for name, s in {"images": images.shape, **made}.items()}
    with closing(device.stream()) as other:
        stream = network.stream or other
        stream.copy_in(memory["images"], images)
        addresses = {name: block.pointer for name, block in memory.items()}
        network.enqueue(addresses, {"images": images.shape}, stream.handle)
        got = np.empty(made["output0"], np.float32)
        stream.copy_out(got, memory["output0"])
        stream.synchronize()
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-4)
    for block in memory.values():
        block.free()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)

"""Two batches under way at once: in order, and nothing touches a buffer that is in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsam_deploy.runtime import FastSamError, Points, Segments, Thresholds
from fastsam_deploy.runtime.cuda.driver.device import Device
from fastsam_deploy.runtime.cuda.runs import Job
from fastsam_deploy.runtime.cuda.slots import Slot
from fastsam_deploy.runtime.cuda.stages import Stages
from fastsam_deploy.runtime.cuda.tables import tables_for
from fastsam_deploy.runtime.spec import ModelSpec
from fastsam_deploy.runtime.stages.image import load_image
from fastsam_deploy.runtime.stages.letterbox import fit_model, letterbox
from fastsam_deploy.runtime.stages.postprocess import postprocess
from fastsam_deploy.runtime.trt import TRTFastSAM
from tests.emulator.agreement import require_same
from tests.emulator.driver.emulated import Emulated, driver
from tests.emulator.networks import RecordedNetwork, raw_outputs

pytestmark = pytest.mark.gpu

IMGSZ, PLANES = 160, 16
LOW = Thresholds(conf=0.2)


class Looking(RecordedNetwork):
    """Its answer depends on the pixels: some planes of prototypes are the beginning of the input."""

    def enqueue(self, pointers: Any, inputs: Any, stream: int) -> None:
        super().enqueue(pointers, inputs, stream)
        prototypes = self.outputs[1].name
        self._streams[stream].copy(pointers[prototypes], pointers[self.inputs[0].name], self.seen_nbytes)

    def largest_batch(self, input_hw: tuple[int, int]) -> int | None:
        return 1

    @property
    def seen_nbytes(self) -> int:
        return PLANES * int(np.prod(self.outputs[1].shape[2:])) * 4


class World:
    """The network, its images and what the CPU makes of them."""

    def __init__(self, device: Device, onnx: Path, coffee: Path) -> None:
        image = load_image(coffee)[::4, ::4]
        spec, input_hw, outputs = raw_outputs(onnx, image, IMGSZ)
        self.spec = ModelSpec.from_json(spec.to_json().replace('"size_hw": [null, null]', f'"size_hw": {[*input_hw]}'))
        self.network = Looking(device, self.spec, input_hw, outputs)
        self.outputs = outputs
        cut = [(slice(0, 100), slice(0, 150)), (slice(3, 97), slice(0, 120)), (slice(20, 70), slice(10, 90))]
        self.images = [np.ascontiguousarray(image[part]) for part in cut]
        self.images += [255 - pixels for pixels in self.images]
        self.wanted = [self._on_cpu(pixels) for pixels in self.images]

    def _on_cpu(self, image: np.ndarray) -> Segments:
        place = fit_model(image.shape[:2], self.spec, IMGSZ)
        prototypes = self.outputs[self.spec.prototypes][0].copy()
        prototypes[:PLANES].flat = letterbox(image, place).flat[: prototypes[:PLANES].size]
        return postprocess(self.outputs[self.spec.detections][0], prototypes, place, self.spec, LOW)

    def model(self, graphs: int = 2) -> TRTFastSAM:
        model = TRTFastSAM(self.network, conf=0.2, graphs=graphs)
        self.network.on(model._segmenter._running_stages().stream)
        return model

    def job(self, number: int) -> Job:
        image = self.images[number]
        place = fit_model(image.shape[:2], self.spec, IMGSZ)
        tables = tables_for(place, (place.input_hw[0] // 4, place.input_hw[1] // 4))
        return Job([image], [tables], [LOW], 1, with_words=True)


@pytest.fixture(scope="module")
def world(cuda_device: Device, demo_onnx: Path, coffee: Path) -> Iterator[World]:
    made = World(cuda_device, demo_onnx, coffee)
    assert len({wanted.areas.tobytes() for wanted in made.wanted}) == len(made.wanted), "answers depend on the pixels"
    yield made
    made.network.close()


@pytest.fixture
def emulated() -> Iterator[Emulated]:
    found = driver()
    if not isinstance(found, Emulated):
        pytest.skip("a real device runs its work when it likes")
    yield found
    found.set("defer", 0)


def _in_any_order(emulated: Emulated, seed: int) -> None:
    emulated.set("seed", seed)
    emulated.set("defer", 2)


def _batch(model: TRTFastSAM, world: World) -> list[Segments]:
    return model.segment_batch([*world.images, *world.images])


def _stream(model: TRTFastSAM, world: World) -> list[Segments]:
    return [item.result() for item in model.segment_stream([*world.images, *world.images])]


def _require_right(answers: list[Segments], world: World) -> None:
    for found, wanted in zip(answers, world.wanted * 2, strict=True):
        require_same(found, wanted)


@pytest.mark.parametrize("way", [_batch, _stream], ids=["batch", "stream"])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_order_the_device_works_in(world: World, emulated: Emulated, way: Callable, seed: int):
    before = emulated.wrong()
    with world.model() as model:
        _in_any_order(emulated, seed)
        _require_right(way(model, world), world)
        point = Points([[30, 30]], mode="each")
        for found, wanted in zip(model.segment_batch(world.images, point), world.wanted, strict=True):
            require_same(found, wanted.select(point))
    assert emulated.wrong() == before


def _nothing(*_: object) -> None:
    pass


FORGOTTEN: dict[str, tuple[type, str]] = {
    "the upload is not waited for": (Slot, "hand_over"),
    "the masks are not waited for": (Slot, "take_over"),
}


@pytest.mark.parametrize("what", FORGOTTEN)
def test_an_order_that_is_forgotten_shows(world: World, emulated: Emulated, what: str, monkeypatch: pytest.MonkeyPatch):
    """So the tests above mean something."""
    wrong = 0
    for seed in range(6):
        with world.model() as model:
            _batch(model, world)
            with monkeypatch.context() as forgetful:
                forgetful.setattr(*FORGOTTEN[what], _nothing)
                _in_any_order(emulated, seed)
                try:
                    _require_right(_batch(model, world), world)
                except (AssertionError, FastSamError, ValueError, IndexError, MemoryError):
                    wrong += 1
                emulated.set("defer", 0)
    assert wrong > 0


def test_a_slot_that_is_given_back_too_early_shows(world: World, emulated: Emulated):
    """The next batch is then written over what is still to be uploaded, which the driver sees."""
    with world.model() as model:
        _batch(model, world)
        stages = model._segmenter._running_stages()
        before = emulated.counter("changed_in_flight")
        emulated.set("defer", 1)
        first = stages.begin(world.job(0))
        stages.release(first)
        second = stages.begin(world.job(1))
        assert second.slot is first.slot
        stages.abandon(second)
        assert emulated.counter("changed_in_flight") > before


def test_the_next_upload_waits_for_nothing(world: World, emulated: Emulated):
    """Image k + 1 goes up while k computes; the answer of k does not wait for k + 1."""
    with world.model(graphs=0) as model:
        stages = model._segmenter._running_stages()
        first = stages.begin(world.job(0))
        stages.finish(first)
        stages.release(first)
        emulated.set("defer", 1)
        launches = emulated.counter("launches")
        runs = [stages.begin(world.job(number)) for number in (0, 1)]
        assert runs[0].slot.stream is not runs[1].slot.stream is not stages.stream
        runs[1].slot.uploaded.synchronize()
        assert emulated.counter("launches") == launches, "uploaded, and nothing has computed yet"
        stages.finish(runs[0])
        of_one = emulated.counter("launches") - launches
        assert of_one > 0
        stages.finish(runs[1])
        assert emulated.counter("launches") - launches == 2 * of_one, "the first answer came before the second computed"
        for run in runs:
            stages.release(run)


def test_batches_and_streams_have_two_under_way(world: World, monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []
    for name in ("_begun", "finish", "release"):
        real = getattr(Stages, name)

        def noted(self: Stages, *arguments: Any, name: str = name, real: Callable = real) -> Any:
            order.append(name.strip("_"))
            return real(self, *arguments)

        monkeypatch.setattr(Stages, name, noted)
    with world.model() as model:
        model.segment_batch(world.images[:4])
        one = ["begun", "begun", *["finish", "release", "begun"] * 2, *["finish", "release"] * 2]
        assert order == one
        order.clear()
        model.segment(world.images[0])
        assert order == ["begun", "finish", "release"]
        assert len(list(model._segmenter._running_stages()._slots)) == 2


def test_calls_of_many_threads_share_the_slots(world: World):
    """Each has several batches, and none may wait for a slot while it has one."""
    import threading

    failed: list[BaseException] = []

    def work(model: TRTFastSAM) -> None:
        try:
            for _ in range(3):
                _require_right(_batch(model, world), world)
        except BaseException as error:  # noqa: BLE001 a thread's failure is the test's
            failed.append(error)

    with world.model() as model:
        threads = [threading.Thread(target=work, args=(model,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in threads)
    assert not failed


def test_an_error_on_the_way_gives_the_slot_back(world: World, monkeypatch: pytest.MonkeyPatch):
    with world.model() as model:
        stages = model._segmenter._running_stages()
        for method in ("_upload", "_launch"):
            with monkeypatch.context() as broken:
                broken.setattr(stages, method, lambda *_: (_ for _ in ()).throw(FastSamError("broken")))
                for _ in range(3):
                    with pytest.raises(FastSamError, match="broken"):
                        model.segment_batch(world.images[:3])
        _require_right(_batch(model, world), world)

"""TRTFastSAM answers as FastSAM does: on photographs, with every prompt, in batches, with and without graphs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsam_deploy.runtime import (
    Boxes,
    DeviceError,
    FastSAM,
    ImageError,
    ModelError,
    ParameterError,
    Points,
    PromptError,
    Segments,
    Thresholds,
    Tiles,
)
from fastsam_deploy.runtime.cuda import stages
from fastsam_deploy.runtime.cuda.driver.device import Device
from fastsam_deploy.runtime.cuda.driver.stream import Stream
from fastsam_deploy.runtime.cuda.runs import Job
from fastsam_deploy.runtime.cuda.tables import tables_for
from fastsam_deploy.runtime.masks.store import PackedMasks
from fastsam_deploy.runtime.measure.fidelity import compare
from fastsam_deploy.runtime.stages.image import load_image
from fastsam_deploy.runtime.stages.letterbox import fit_model
from fastsam_deploy.runtime.stages.postprocess import postprocess
from fastsam_deploy.runtime.trt import TRTFastSAM
from tests.emulator.agreement import require_alike, require_same
from tests.emulator.driver.emulated import Emulated, driver
from tests.emulator.networks import RecordedNetwork, raw_outputs

pytestmark = pytest.mark.gpu

IMGSZ = 256
LOW = Thresholds(conf=0.15)
PATIENCE_S = 60
MANY = Thresholds(conf=0.02)
"""As many detections as there is room for, many of them small, of which some have no pixel."""


@pytest.fixture(scope="module")
def device_memory(cuda_device: Device) -> Callable[[], int]:
    """Bytes of the device that are taken."""
    found = driver()
    if isinstance(found, Emulated):
        return lambda: found.counter("device_bytes") + found.counter("pinned_blocks")
    return lambda: cuda_device.memory_total - cuda_device.memory_free()


def _slack() -> int:
    """Bytes by which a real device may be fuller: other programs use it too, and ONNX Runtime takes more in steps."""
    return 0 if driver().emulated else 64 << 20


@pytest.fixture(scope="module")
def cpu(demo_onnx: Path) -> Iterator[FastSAM]:
    with FastSAM(demo_onnx, imgsz=IMGSZ, engine="onnxruntime") as model:
        yield model


@pytest.fixture(scope="module")
def gpu(open_network: Callable, demo_onnx: Path) -> Iterator[TRTFastSAM]:
    network = open_network(demo_onnx)
    with TRTFastSAM(network, imgsz=IMGSZ) as model:
        yield model
    network.close()


@pytest.fixture(scope="module")
def photos(coffee: Path, cat: Path) -> dict[str, np.ndarray]:
    """RGB arrays: landscape, portrait, small, one pixel wide."""
    # Every second pixel: kernels on a host are slow.
    first, second = load_image(coffee)[::2, ::2].copy(), load_image(cat)[::2, ::2].copy()
    tall = np.ascontiguousarray(np.rot90(second))
    return {"coffee": first, "tall": tall, "small": first[50:113, 100:197], "thin": second[:100, 150:151]}


def same(found: Segments, wanted: Segments) -> None:
    """The CPU's answer; on a GPU as far as another network library gives it."""
    (require_same if driver().emulated else require_alike)(found, wanted)


@pytest.mark.parametrize("name", ["coffee", "tall", "small", "thin"])
@pytest.mark.parametrize("asked", [Thresholds(), MANY, Thresholds(conf=0.995)], ids=["usual", "many", "none"])
def test_everything(gpu: TRTFastSAM, cpu: FastSAM, photos: dict, name: str, asked: Thresholds):
    found = gpu.segment(photos[name], thresholds=asked)
    same(found, cpu.segment(photos[name], thresholds=asked))
    assert isinstance(found.masks, PackedMasks)
    if name == "coffee":
        assert (len(found) > 5) == (asked.conf < 0.9)


@pytest.mark.parametrize(
    "prompt",
    [
        Points([[142, 75]]),
        Points([[142, 75], [50, 150], [25, 25]], [1, 0, 1], mode="merge"),
        Points([[142, 75], [50, 150], [299, 199]], mode="each"),
        Points([[50, 150]], [0], mode="all"),
        Boxes([[100, 30, 210, 130], [0, 0, 300, 200], [160, 115, 210, 165]]),
        [Boxes([100, 30, 210, 130]), Points([[142, 75]], mode="each")],
    ],
    ids=["point", "merge", "each", "all", "boxes", "joined"],
)
def test_prompts_are_answered_on_the_device(gpu: TRTFastSAM, cpu: FastSAM, photos: dict, prompt):
    found = gpu.segment(photos["coffee"], prompt, thresholds=LOW)
    wanted = cpu.segment(photos["coffee"], prompt, thresholds=LOW)
    assert len(wanted) > 0
    same(found, wanted)
    # And later, on what came down.
    same(gpu.segment(photos["coffee"], thresholds=LOW).select(prompt), wanted)


def test_masks_of_many_points_are_joined_on_the_device(
    gpu: TRTFastSAM, cpu: FastSAM, photos: dict, monkeypatch: pytest.MonkeyPatch
):
    """One mask comes down, and not each of those that it is made of."""
    copies: list[int] = []
    real = Stream.copy_out
    monkeypatch.setattr(Stream, "copy_out", lambda self, to, source: (copies.append(to.nbytes), real(self, to, source)))
    points = [[x, y] for x in range(10, 290, 40) for y in range(10, 190, 40)]
    for clean in (True, False):
        prompt = Points(points, mode="merge", clean=clean)
        del copies[:]
        found = gpu.segment(photos["coffee"], prompt, thresholds=LOW)
        assert len(copies) == 4, "records, which masks hold the points, areas, and one mask"
        wanted = cpu.segment(photos["coffee"], prompt, thresholds=LOW)
        same(found, wanted)
        everything = gpu.segment(photos["coffee"], thresholds=LOW).select(prompt)
        assert found.masks == everything.masks, "to the pixel"


def test_a_mask_of_which_cleaning_would_leave_nothing(gpu: TRTFastSAM, photos: dict):
    """It stays as it is, as on the host."""
    image = photos["coffee"][::5, ::5]
    everything = gpu.segment(image, thresholds=Thresholds(conf=0.02))
    small = [i for i in range(len(everything)) if everything.areas[i] < 40]
    assert small
    points = [np.argwhere(everything.masks.dense()[i])[0][::-1].tolist() for i in small]
    for point in points:
        prompt = Points([point], mode="merge")
        found = gpu.segment(image, prompt, thresholds=Thresholds(conf=0.02))
        assert found.masks == everything.select(prompt).masks
        assert found.areas[0] > 0


def test_a_prompt_outside_is_an_error_and_the_next_call_works(gpu: TRTFastSAM, cpu: FastSAM, photos: dict):
    with pytest.raises(PromptError, match="point 0 is at"):
        gpu.segment(photos["coffee"], Points([[301, 1]]))
    same(gpu.segment(photos["coffee"]), cpu.segment(photos["coffee"]))


def test_a_batch_of_all_sizes(gpu: TRTFastSAM, cpu: FastSAM, photos: dict):
    images = [photos[name] for name in ("coffee", "thin", "coffee", "tall", "small")]
    asked = [Thresholds(), LOW, Thresholds(conf=0.1, iou=0.5, max_det=7), LOW, Thresholds(conf=0.995)]
    found = gpu.segment_batch(images, thresholds=asked)
    for one, wanted in zip(found, cpu.segment_batch(images, thresholds=asked), strict=True):
        same(one, wanted)
    assert [len(found[i]) > 0 for i in (0, 2, 3, 4)] == [True, True, True, False]
    assert set(found[0].timing_ms) == {"load", "device", "prompt"}


def test_tiles_are_merged_as_on_the_host(gpu: TRTFastSAM, cpu: FastSAM, photos: dict):
    for prompt in (None, Points([[140, 75], [30, 30]], mode="each")):
        answers = [model.segment(photos["coffee"], prompt, thresholds=LOW, tiles=Tiles(128)) for model in (gpu, cpu)]
        same(*answers)
    assert len(answers[0]) == 2


def test_a_prompt_for_each_image_of_a_batch(gpu: TRTFastSAM, cpu: FastSAM, photos: dict):
    images = [photos["coffee"], photos["tall"], photos["coffee"]]
    prompt = Points([[142, 75]], mode="each")
    for one, wanted in zip(gpu.segment_batch(images, prompt), cpu.segment_batch(images, prompt), strict=True):
        same(one, wanted)


def test_a_bad_image_is_named(gpu: TRTFastSAM, photos: dict):
    with pytest.raises(ImageError, match="image 1 of 2"):
        gpu.segment_batch([photos["coffee"], b"no image"])


def test_answers_stay_when_the_next_image_comes(gpu: TRTFastSAM, cpu: FastSAM, photos: dict):
    kept = gpu.segment(photos["coffee"], thresholds=LOW)
    for name in ("tall", "thin", "coffee"):
        gpu.segment(photos[name], Points([[0, 0]]), thresholds=Thresholds(conf=0.3))
    same(kept, cpu.segment(photos["coffee"], thresholds=LOW))


@pytest.fixture
def recorded(cuda_device, demo_onnx: Path, photos: dict) -> Iterator[tuple[RecordedNetwork, Callable]]:
    """A network that can be captured, and what the CPU makes of its outputs for any image of its input shape."""
    spec, input_hw, outputs = raw_outputs(demo_onnx, photos["coffee"], IMGSZ)
    network = RecordedNetwork(cuda_device, spec, input_hw, outputs)
    fixed = replace(spec, size_hw=input_hw)

    def wanted(image: np.ndarray, asked: Thresholds) -> Segments:
        place = fit_model(image.shape[:2], fixed, max(input_hw))
        return postprocess(outputs[spec.detections][0], outputs[spec.prototypes][0], place, fixed, asked)

    yield network, wanted
    network.close()


def _opened(network: RecordedNetwork, graphs: int) -> TRTFastSAM:
    model = TRTFastSAM(network, graphs=graphs)
    network.on(model._segmenter._running_stages().stream)
    return model


def test_a_graph_serves_images_of_every_size(recorded, photos: dict):
    network, wanted = recorded
    images = [photos["coffee"], photos["coffee"][:175, :250], photos["small"], photos["coffee"]]
    with _opened(network, graphs=4) as model, _opened(network, graphs=0) as plain:
        for image in images:
            for asked in (Thresholds(), LOW, Thresholds(conf=0.3, max_det=3)):
                found = model.segment(image, thresholds=asked)
                same(found, wanted(image, asked))
                same(found, plain.segment(image, thresholds=asked))
        assert model.description["cuda_graphs"]
        assert not plain.description["cuda_graphs"]
        runs = network.enqueued
        model.segment(images[0])
        assert network.enqueued == runs, "a replayed graph does not call the network"


def test_work_that_runs_late_gives_the_same(recorded, photos: dict):
    """The driver runs nothing before somebody waits for it: memory that was used again too early would show."""
    network, wanted = recorded
    found = driver()
    if not isinstance(found, Emulated):
        pytest.skip("a real device runs its work when it likes")
    found.set("defer", 1)
    try:
        with _opened(network, graphs=2) as model:
            for image in [photos["coffee"], photos["small"], photos["coffee"], photos["small"]]:
                same(model.segment(image, thresholds=LOW), wanted(image, LOW))
                point = Points([[50, 40]], mode="each")
                same(model.segment(image, point, thresholds=LOW), wanted(image, LOW).select(point))
    finally:
        found.set("defer", 0)


def test_a_file_with_nms_inside(open_network: Callable, demo_onnx: Path, photos: dict, tmp_path: Path):
    """Its outputs are separate, and its thresholds its own."""
    onnx = pytest.importorskip("onnx", reason="the file is made here")
    from fastsam_deploy.export.graph.suppression import with_suppression
    from fastsam_deploy.runtime.suppression import Suppression

    with FastSAM(demo_onnx) as usual:
        spec = usual.spec
    model = with_suppression(onnx.load(demo_onnx), spec, Suppression(conf=0.1, iou=0.9, max_det=100))
    path = tmp_path / "nms.onnx"
    onnx.save(model, path)
    network = open_network(path)
    asked = Thresholds(conf=0.2, max_det=100)
    with TRTFastSAM(network, imgsz=IMGSZ) as model, FastSAM(path, imgsz=IMGSZ) as wanted:
        assert model.spec.layout == "split"
        for images in ([photos["coffee"]], [photos["coffee"], photos["small"], photos["coffee"]]):
            found = model.segment_batch(images, thresholds=asked)
            for one, other in zip(found, wanted.segment_batch(images, thresholds=asked), strict=True):
                same(one, other)
        assert len(found[0]) > 10
        with pytest.raises(ParameterError, match=r"conf is 0\.05"):
            model.segment(photos["coffee"], thresholds=Thresholds(conf=0.05, max_det=100))
    network.close()


def test_the_benchmark_compares_and_times(
    open_network: Callable, demo_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from benchmarks import gpu_pipeline

    monkeypatch.setattr(gpu_pipeline, "_has_peer", lambda: False)  # PyTorch would find the emulated driver
    if driver().emulated:
        real = gpu_pipeline.jpeg_decoder
        monkeypatch.setattr(gpu_pipeline, "jpeg_decoder", lambda number: real(None))  # and so would nvJPEG
    network = open_network(demo_onnx)
    quick = ["--imgsz", "160", "--megapixels", "0.05", "--runs", "2", "--output", str(tmp_path)]
    table = gpu_pipeline.measure(network, gpu_pipeline.parsed(quick), network.cuda_device.memory_free())
    report = json.loads((tmp_path / "gpu_pipeline.json").read_text())
    assert len(report["images"]) == 2
    names = {"network", "single", "batch", "stream", "JPEG single", "JPEG stream", "decoding"}
    for row in report["images"]:
        row["ms"].pop("nvImageCodec", None)
        assert row["worst_iou"] >= 0.99 and set(row["ms"]) == names
        assert set(row["stages_ms"]) == {"upload", "letterbox", "network", "decode", "masks", "download"}
    assert "bound by decoding" in table
    network.close()


def test_a_network_alone_is_captured_too(recorded, photos: dict):
    from benchmarks.gpu_contenders import Bare

    network, _ = recorded
    network.clone = lambda: network
    with _opened(network, graphs=2) as model:
        own: list[Stream] = []
        real = type(network.cuda_device).stream
        network.cuda_device.stream = lambda: own.append(real(network.cuda_device)) or network.on(own[-1]) or own[-1]
        try:
            bare = Bare(network, model, photos["coffee"])
            runs = network.enqueued
            assert bare() >= 0 and bare() >= 0
            assert network.enqueued == runs, "a replayed graph does not call the network"
            network.close = lambda: None
            bare.close()
        finally:
            del network.cuda_device.stream, network.close


def test_goals_are_said_to_be_reached_or_not():
    from benchmarks.gpu_goals import bound_by_decoding, goals, size_of

    assert [size_of(Path(name)) for name in ("FastSAM-x.plan", "FastSAM_s.onnx", "fastsam-demo.onnx")] == [
        "x",
        "s",
        "n",
    ]
    ms = {"network": 4.0, "single": 5.0, "stream": 5.2, "ultralytics": 40.0, "decoding": 21.0, "JPEG stream": 6.0}
    said = [str(goal) for goal in goals("cat", "s", 3.0, ms)]
    assert [line.rsplit(" ", 1)[1] if "NOT" not in line else "NOT" for line in said] == [
        "**reached**", "NOT", "**reached**"
    ]  # fmt: skip
    assert goals("cat", "s", 0.65, ms) == []
    assert "not bound by decoding" in bound_by_decoding("cat", ms, 16)
    assert ": bound by decoding" in bound_by_decoding("cat", ms, 3)


def test_the_model_of_the_triton_server_takes_no_other_device(demo_onnx: Path, cuda_device: Device):
    """Where ONNX Runtime has no CUDA it says so; the CPU is not taken instead."""
    import onnxruntime

    from fastsam_deploy.runtime.serving import Parameters, WholePipeline

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    config = {"parameters": {"model": {"string_value": demo_onnx.name}}}
    with pytest.raises(DeviceError, match="expected CUDAExecutionProvider"):
        WholePipeline(Parameters(config), demo_onnx.parent, "cuda:0")


def test_a_mask_buffer_that_is_too_small_grows(recorded, photos: dict, monkeypatch):
    network, wanted = recorded
    monkeypatch.setattr(stages, "_WORDS", 64)
    with _opened(network, graphs=2) as model:
        for image in (photos["small"], photos["coffee"], photos["coffee"], photos["coffee"], photos["small"]):
            same(model.segment(image, thresholds=LOW), wanted(image, LOW))


def test_a_batch_without_room_on_the_device_harms_no_other(recorded, photos: dict):
    """Buffers that should have grown are gone; those of smaller batches are made again."""
    network, wanted = recorded
    found = driver()
    if not isinstance(found, Emulated):
        pytest.skip("a real device has more room than a test should fill")
    image = photos["coffee"]
    with _opened(network, graphs=2) as model:
        for _ in range(3):
            model.segment(image, thresholds=LOW)
        for batch in (3, 4, 5, 6):  # each batch lacks room for another buffer
            found.set("memory", found.counter("device_bytes") + (batch << 17))
            with pytest.raises(DeviceError, match="out of memory"):
                model.segment_batch([image] * (batch * 4), thresholds=LOW)
            found.set("memory", 8 << 30)
            same(model.segment(image, thresholds=LOW), wanted(image, LOW))


def test_outputs_in_fp16(cuda_device, demo_onnx: Path, photos: dict):
    """As a plan gives them whose file has FP16 outputs: the kernels read them as they are."""
    spec, input_hw, outputs = raw_outputs(demo_onnx, photos["coffee"], IMGSZ)
    halves = {name: values.astype(np.float16) for name, values in outputs.items()}
    network = RecordedNetwork(cuda_device, spec, input_hw, halves)
    place = fit_model(photos["coffee"].shape[:2], replace(spec, size_hw=input_hw), max(input_hw))
    widened = [halves[name][0].astype(np.float32) for name in (spec.detections, spec.prototypes)]
    with _opened(network, graphs=2) as model:
        for _ in range(3):
            found = model.segment(photos["coffee"], thresholds=LOW)
            same(found, postprocess(*widened, place, spec, LOW))
        assert len(found) > 5
    network.close()


@pytest.mark.parametrize("broken", ["scores", "prototypes"])
def test_numbers_that_are_not_finite_are_an_error(recorded, photos: dict, cuda_device, demo_onnx: Path, broken: str):
    spec, input_hw, outputs = raw_outputs(demo_onnx, photos["coffee"], IMGSZ)
    if broken == "scores":
        outputs[spec.detections][0, 4, 7] = np.nan
    else:
        outputs[spec.prototypes][0, 3, 2, 1] = np.inf
    network = RecordedNetwork(cuda_device, spec, input_hw, outputs)
    with _opened(network, graphs=0) as model, pytest.raises(ModelError, match=f"network's {broken} hold NaN"):
        model.segment(photos["coffee"])
    network.close()


def in_time(work: Callable[[], Any]) -> Any:
    """What `work` gives, in a thread that is left behind where it never ends."""
    given: list[Any] = []

    def run() -> None:
        try:
            given.append(work())
        except BaseException as error:  # noqa: BLE001 told by the test
            given.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert given, "it waits for itself"
    if isinstance(given[0], BaseException):
        raise given[0]
    return given[0]


class AsksTheModel:
    """A prompt of one's own: the largest segments, as many as the model finds in another image."""

    prompt_count = 1

    def __init__(self, model: FastSAM, other: np.ndarray, thread: Callable[[Callable[[], Any]], Any]) -> None:
        self.model, self.other, self.thread = model, other, thread

    def select_from(self, segments: Segments) -> Segments:
        count = len(self.thread(lambda: self.model.segment(self.other, thresholds=LOW)))
        rows = np.argsort(-segments.areas, kind="stable")[:count]
        return segments[rows].answering(np.zeros(len(rows)), np.ones(len(rows)))


class AsksTheModelBesides(Points):
    """A point, answered as points are, but for a question in between."""

    model: Any = None
    other: Any = None

    def select_from(self, segments: Segments) -> Segments:
        self.model.segment(self.other, thresholds=LOW)
        return super().select_from(segments)


@pytest.mark.parametrize("thread", [lambda work: work(), in_time], ids=["the same thread", "another thread"])
def test_a_prompt_may_ask_the_model(gpu: TRTFastSAM, cpu: FastSAM, photos: dict, thread: Callable):
    """What a prompt of one's own, or a CLIP, does is done while the device is free."""
    asked, wanted = (AsksTheModel(model, photos["tall"], thread) for model in (gpu, cpu))
    images = [photos["coffee"], photos["small"]]
    answers = in_time(lambda: gpu.segment_batch(images, asked, thresholds=LOW))
    for answer, image in zip(answers, images, strict=True):
        same(answer, cpu.segment(image, wanted, thresholds=LOW))
        assert set(answer.timing_ms) == {"load", "device", "prompt"}
    assert len(answers[0]) > 5
    both = in_time(lambda: gpu.segment(photos["coffee"], [Points([[142, 75]]), asked], thresholds=LOW))
    same(both, cpu.segment(photos["coffee"], [Points([[142, 75]]), wanted], thresholds=LOW))


def test_a_subclass_of_a_prompt_may_ask_the_model(gpu: TRTFastSAM, cpu: FastSAM, photos: dict, monkeypatch):
    monkeypatch.setattr(AsksTheModelBesides, "other", photos["tall"])
    monkeypatch.setattr(AsksTheModelBesides, "model", gpu)
    point = AsksTheModelBesides([[142, 75]])
    found = in_time(lambda: gpu.segment(photos["coffee"], point, thresholds=LOW))
    same(found, cpu.segment(photos["coffee"], Points([[142, 75]]), thresholds=LOW))


def test_clones_run_in_threads_of_their_own(gpu: TRTFastSAM, cpu: FastSAM, photos: dict):
    wanted = {name: cpu.segment(photos[name], thresholds=LOW) for name in ("coffee", "tall")}
    failed: list[BaseException] = []

    def work(model: TRTFastSAM, name: str) -> None:
        try:
            for _ in range(2):
                same(model.segment(photos[name], thresholds=LOW), wanted[name])
        except BaseException as error:  # noqa: BLE001 a thread's failure is the test's
            failed.append(error)

    with gpu.clone() as first, gpu.clone() as second:
        models = [(first, "coffee"), (second, "tall"), (gpu, "coffee"), (gpu, "tall")]
        threads = [threading.Thread(target=work, args=one) for one in models]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed


def test_jpeg_files_through_another_decoder(
    open_network: Callable, demo_onnx: Path, coffee: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("nvidia.nvimgcodec", reason="it comes with the extra [nvimagecodec]")
    from fastsam_deploy.runtime.segmenters import device as module

    if driver().emulated:  # nvJPEG cannot run there: the library's decoder for the CPU
        monkeypatch.setattr(module, "JpegDecoder", lambda number, real=module.JpegDecoder: real(None))
    with pytest.raises(ParameterError, match="decoder is 'turbo', expected 'nvimagecodec'"):
        TRTFastSAM(open_network(demo_onnx), decoder="turbo")
    network = open_network(demo_onnx)
    with TRTFastSAM(network, imgsz=96) as usual:
        wanted = usual.segment(coffee, thresholds=LOW)
    with TRTFastSAM(network, imgsz=96, decoder="nvimagecodec") as model:
        found = model.segment(coffee, thresholds=LOW)
        pairs = compare(wanted, found)
        assert len(pairs.ious) >= 0.9 * len(wanted) > 3
        assert np.mean(pairs.ious) >= 0.95
    network.close()


def test_closed_in_any_order(open_network: Callable, demo_onnx: Path, photos: dict):
    model = TRTFastSAM(open_network(demo_onnx), imgsz=IMGSZ)
    other = model.clone()
    model.close()
    model.close()
    assert len(other.segment(photos["coffee"])) > 5
    other.close()
    with pytest.raises(ModelError, match="closed"):
        other.segment(photos["coffee"])


def _graphs(model: TRTFastSAM) -> int:
    return sum(len(slot.graphs or ()) for slot in model._segmenter._running_stages()._slots)


def _room(model: TRTFastSAM, network: RecordedNetwork, max_det: int) -> int:
    """Detections that a run has room for."""
    inputs = model._segmenter._running_stages()._inputs
    kept = inputs.use((1, *network.inputs[0].shape[2:]))
    inputs.done(kept)
    return kept.shapes.with_room_for(max_det).max_det


def test_any_max_det_has_one_of_a_few_rooms(recorded, photos: dict, device_memory: Callable[[], int]):
    """A client of a server may ask for another number each time; it must cost neither graphs nor memory."""
    network, wanted = recorded
    anchors = network.outputs[0].shape[2]
    image, rooms = photos["coffee"], set()
    assert anchors == 1008
    with _opened(network, graphs=8) as model:
        model.segment(image, thresholds=Thresholds(conf=0.02, max_det=10**9))
        before = device_memory()
        captured = network.enqueued
        for max_det in range(301, 1301, 10):
            asked = Thresholds(conf=0.02, max_det=max_det)
            found = model.segment(image, thresholds=asked)
            if max_det % 200 == 1:
                same(found, wanted(image, asked))
            rooms.add(_room(model, network, max_det))
        assert rooms == {512, anchors} and _graphs(model) == len(rooms)
        assert network.enqueued - captured <= 2 * len(rooms), "run once and captured once for each room"
        assert device_memory() - before <= _slack()
        few = Thresholds(conf=0.02, max_det=7)
        same(model.segment(image, thresholds=few), wanted(image, few))


def test_no_more_room_than_the_network_can_fill(recorded, photos: dict):
    network, wanted = recorded
    asked = Thresholds(conf=0.02, max_det=2**40)
    with _opened(network, graphs=2) as model:
        same(model.segment(photos["coffee"], thresholds=asked), wanted(photos["coffee"], asked))
        assert _room(model, network, 2**40) == network.outputs[0].shape[2]


def test_inputs_of_any_shape_keep_no_more_than_the_last_ones(
    open_network: Callable, demo_onnx: Path, cpu: FastSAM, photos: dict, monkeypatch: pytest.MonkeyPatch
):
    from fastsam_deploy.runtime.cuda import stages as module

    monkeypatch.setattr(module, "KEPT_INPUTS", 2)
    network = open_network(demo_onnx)
    forgotten: list[Any] = []
    real = network.forget
    network.forget = lambda inputs: (forgotten.append(inputs["images"]), real(inputs))
    shapes = [(200, 300), (100, 300), (200, 150), (200, 300)]
    with TRTFastSAM(network, imgsz=IMGSZ, graphs=2) as model:
        for h, w in shapes:
            image = photos["coffee"][:h, :w]
            same(model.segment(image, thresholds=LOW), cpu.segment(image, thresholds=LOW))
        assert len(forgotten) == 2 and len(model._segmenter._running_stages()._inputs) == 2
        assert len(network._made) == 2
    network.close()


def test_rows_that_changed_places_are_alike(cpu: FastSAM, photos: dict):
    """What a GPU's answers are held against, here on the CPU's: rows in another order, scores in the fifth digit."""
    wanted = cpu.segment(photos["coffee"], thresholds=LOW)
    others = wanted[np.arange(len(wanted))[::-1]]
    others = replace(others, scores=others.scores + np.float32(5e-5), boxes_xyxy=others.boxes_xyxy + np.float32(0.01))
    require_alike(others, wanted)
    require_alike(wanted[:-1], wanted)
    with pytest.raises(AssertionError):
        require_same(others, wanted)
    for wrong in (
        replace(others, scores=others.scores + np.float32(1e-3)),
        replace(others, boxes_xyxy=others.boxes_xyxy + np.float32(0.1)),
        wanted[len(wanted) // 100 + 1 :],  # one in a hundred may be missing
    ):
        with pytest.raises(AssertionError):
            require_alike(wrong, wanted)


class Sizes(RecordedNetwork):
    """Takes inputs of any size: the recorded outputs, whatever the input is."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        info = self.inputs[0]
        self.inputs = (replace(info, shape=(None, 3, None, None)),)

    def output_shapes(self, inputs: Any) -> dict[str, tuple[int, ...]]:
        ((batch, _, height, width),) = inputs.values()
        detections, prototypes = self.outputs
        return {
            detections.name: (batch, *self._outputs[detections.name].shape[1:]),
            prototypes.name: (batch, 32, height // 4, width // 4),
        }

    def enqueue(self, pointers: Any, inputs: Any, stream: int) -> None:
        """Nothing is found: what was recorded for detections, all of it zero."""
        self.enqueued += 1
        detections = self.outputs[0].name
        self._streams[stream].copy(pointers[detections], self._memory[detections], self._outputs[detections].nbytes)


def test_a_hundred_shapes_of_inputs_are_bounded(
    cuda_device: Device, demo_onnx: Path, photos: dict, device_memory: Callable[[], int]
):
    spec, input_hw, outputs = raw_outputs(demo_onnx, photos["coffee"], IMGSZ)
    outputs[spec.detections][:] = 0
    network = Sizes(cuda_device, spec, input_hw, outputs)
    sides = range(32, 32 * 11, 32)
    shapes = [(height, width) for height in sides for width in sides]
    assert len(shapes) == 100
    largest = np.zeros((320, 320, 3), np.uint8)
    with TRTFastSAM(network, imgsz=320, graphs=8) as model:
        segmenter = model._segmenter
        stages = segmenter._running_stages()
        network.on(stages.stream)
        model.segment(largest)
        before = device_memory()
        for hw in shapes:
            place = fit_model(hw, replace(spec, size_hw=hw), max(hw))
            for _ in range(2):
                tables = tables_for(place, (hw[0] // 4, hw[1] // 4))
                run = stages.begin(Job([largest[: hw[0], : hw[1]]], [tables], [LOW], 1, with_words=True))
                assert stages.finish(run).total_words == 0
                stages.release(run)
        assert len(stages._inputs) == 64 and _graphs(model) <= 8
        assert network.forgotten == [(1, 3, *hw) for hw in [(320, 320), *shapes[: 100 - 64]]], "the last used are kept"
        assert device_memory() - before <= _slack()
    network.close()


def test_many_runs_do_not_grow(recorded, photos: dict, device_memory: Callable[[], int]):
    network, _ = recorded
    with _opened(network, graphs=2) as model:
        model.warmup([(1, *photos["coffee"].shape[:2]), (2, *photos["coffee"].shape[:2])])
        model.segment(photos["coffee"], Points([[142, 75]]))
        before = device_memory()
        for _ in range(25):
            model.segment_batch([photos["coffee"], photos["small"]])
            model.segment(photos["coffee"], Points([[142, 75]]))
        assert device_memory() - before <= _slack()

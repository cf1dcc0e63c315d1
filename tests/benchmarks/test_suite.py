"""The suite runs; what it stands on (comparison, turns, operations, the guard) says so when something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def _as_a_script(monkeypatch: pytest.MonkeyPatch):
    """Benchmarks import each other as scripts do."""
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.mark.export
def test_the_whole_suite_runs_once_and_small(tmp_path: Path):
    pytest.importorskip("ultralytics", reason="the reference needs the extra [export]")
    pytest.importorskip("matplotlib", reason="the plots need the extra [dev]")
    from benchmarks.suite.machine import kind_here

    command = [sys.executable, "-m", "benchmarks.suite", "--quick", "--models", str(tmp_path / "models")]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)],
        env={**os.environ, "OPENBLAS_CORETYPE": "Haswell"},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    parts = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("suite_*.json")}
    names = ("network", "end_to_end", "prompts", "memory", "startup", "scaling", "stream", "gpu_host", "compiled")
    assert set(parts) == {f"suite_{name}" for name in names}
    for part in parts.values():
        assert part["settings"]["quick"] and (part["rows"] or part["part"] in {"gpu_host", "compiled"})
        assert part["environment"]["peak"]
        for row in part["rows"]:
            assert {"case", "contender", "title", "threads", "runs", "ms"} <= row.keys()
            assert all(0 < stage["min"] <= stage["median"] <= stage["max"] for stage in row["ms"].values())
    compared = [row for row in parts["suite_end_to_end"]["rows"] if row["case"]["batch"] == 1]
    assert {row["contender"] for row in compared} == {"ours_onnxruntime", "ultralytics"}
    assert all(row["masks"] > 0 and row["worst_iou"] >= 0.99 for row in compared)
    assert all(row["worst_difference"] <= 1e-3 for row in parts["suite_network"]["rows"])
    wanted = {row["case"]["wanted"]: row["masks"] for row in parts["suite_scaling"]["rows"]}
    assert wanted[0] == 0
    assert wanted[10] == 10
    report = (tmp_path / "REPORT.md").read_text(encoding="utf-8")
    assert "its figures mean nothing" in report
    kind = kind_here()
    for plot in ("end_to_end", "networks", "prompts", "memory", "size", "masks"):
        assert f"plots/{kind}/{plot}.png" in report
        assert (tmp_path / f"plots/{kind}/{plot}.png").read_bytes().startswith(b"\x89PNG")
    unset = [part["environment"]["unset_variables"] for part in parts.values()]
    assert all(names.get("OPENBLAS_CORETYPE") == "Haswell" for names in unset), "and what else this machine has set"
    libraries = parts["suite_network"]["environment"]["math_libraries"]
    assert "OpenBLAS of NumPy" in libraries and "oneDNN of PyTorch" in libraries
    assert not list(tmp_path.glob("models/*/random-*")), "a quick run makes no models"


def test_an_unknown_part_is_refused():
    command = [sys.executable, "-m", "benchmarks.suite", "--parts", "network,speed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "no part speed; expected some of models, network" in done.stderr


def _rle(*boxes: tuple[int, int, int, int]) -> list[dict[str, Any]]:
    """Masks that are boxes (x1, y1, x2, y2) of a 100 × 100 image."""
    from fastsam_deploy.runtime import Masks

    dense = np.zeros((len(boxes), 100, 100), bool)
    for mask, (x1, y1, x2, y2) in zip(dense, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return Masks.from_dense(dense).rle()


def test_other_answers_are_not_timed():
    from benchmarks.suite.contenders import require_same

    masks = _rle((0, 0, 50, 50), (50, 50, 100, 100))
    assert require_same(masks, masks[::-1], "photo") == 1
    assert require_same([], [], "photo") == 1
    with pytest.raises(SystemExit, match="photo: 1 masks against 2"):
        require_same(masks[:1], masks, "photo")
    with pytest.raises(SystemExit, match="0 masks against 2"):
        require_same([], masks, "photo", "bf16")
    moved = _rle((1, 0, 51, 50), (50, 50, 100, 100))
    with pytest.raises(SystemExit, match=r"least overlap 0\.96"):
        require_same(moved, masks, "photo")
    with pytest.raises(SystemExit, match="not the same answer in int8"):
        require_same(_rle((8, 0, 58, 50), (50, 50, 100, 100)), masks, "photo", "int8")
    # Of fewer digits a pixel of a border may be another, but not a mask.
    assert require_same(_rle((1, 0, 50, 50), (50, 50, 100, 100)), masks, "photo", "bf16") == 0.98
    with pytest.raises(SystemExit, match="not the same answer in bf16"):
        require_same(_rle((20, 0, 70, 50), (50, 50, 100, 100)), masks, "photo", "bf16")


class _Asked:
    """Stands in for a contender's process; writes down who was asked."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.contender = SimpleNamespace(name=name)
        self._log = log

    def ask(self, request: str, **_: Any) -> dict[str, Any]:
        self._log.append(self.contender.name)
        return {"ms": {"total": float(len(self._log))}}


def test_contenders_are_asked_in_turn_and_in_changing_order():
    from benchmarks.suite.contenders import in_turn

    log: list[str] = []
    times = in_turn([_Asked(name, log) for name in "abc"], 3, 60)  # type: ignore[arg-type]
    assert "".join(log) == "abcbcacab"
    assert [one["total"] for one in times["a"]] == [1, 6, 8]
    log.clear()
    # No time at all: the least that gives a median.
    assert len(in_turn([_Asked("a", log)], 50, 0)["a"]) == 3  # type: ignore[arg-type]
    assert len(in_turn([_Asked("a", log)], 2, 0)["a"]) == 2  # type: ignore[arg-type]


def test_a_contender_that_fails_ends_the_measurement(tmp_path: Path):
    from benchmarks.suite.contenders import running
    from benchmarks.suite.workers import Contender

    nothing = Contender("ours", "ours", str(tmp_path / "none.onnx"), True, "onnxruntime", threads=1)
    with pytest.raises(SystemExit, match=r"ours failed:(.|\n)*none\.onnx: no such file"), running([nothing]):
        pass


def test_a_contender_answers_as_the_library_does(coffee: Path, demo_onnx: Path):
    from benchmarks.suite.contenders import running
    from benchmarks.suite.workers import Contender
    from fastsam_deploy.runtime import FastSAM, load_image

    image = load_image(coffee)[:200, :300]
    contender = Contender("ours", "ours", str(demo_onnx), True, "onnxruntime", threads=1, imgsz=160)
    with running([contender]) as runners, FastSAM(demo_onnx, imgsz=160) as model:
        runners["ours"].ask("show", images=[image])
        answer = runners["ours"].ask("segment", masks=True, conf=0.2, max_det=3)
        pixels = runners["ours"].ask("box_pixels")["box_pixels"]
        memory = runners["ours"].ask("memory_now")
        expected = model.segment(image, thresholds=type(model.thresholds)(0.2, 0.9, 3))
    assert answer["masks"] == expected.masks.rle()
    assert answer["count"] == len(expected) > 0
    assert pixels == sum(crop.size for crop in expected.masks.crops)
    ms = answer["ms"]
    assert ms["before"] + ms["network"] + ms["after"] == pytest.approx(ms["total"])
    assert memory["peak"] >= memory["now"] > 20


def test_nothing_steers_the_libraries_of_a_measured_process(monkeypatch: pytest.MonkeyPatch):
    from benchmarks.suite.libraries import measured_environment

    steering = {"OPENBLAS_CORETYPE": "Haswell", "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "7", "HOME": "/here"}
    for name, value in steering.items():
        monkeypatch.setenv(name, value)
    with measured_environment(1):
        inside = dict(os.environ)
    assert not {"OPENBLAS_CORETYPE", "ONEDNN_MAX_CPU_ISA"} & inside.keys()
    assert (inside["OMP_NUM_THREADS"], inside["HOME"]) == ("1", "/here")
    assert {name: os.environ[name] for name in steering} == steering, "afterwards all is as before"


@pytest.mark.export
@pytest.mark.parametrize("threads", [1, 2])
def test_ultralytics_has_the_threads_that_its_row_says(threads: int, coffee: Path):
    pytest.importorskip("ultralytics", reason="the reference needs the extra [export]")
    from benchmarks.suite.contenders import running
    from benchmarks.suite.workers import Contender
    from fastsam_deploy.runtime import load_image

    if threads > len(os.sched_getaffinity(0)):
        pytest.skip("one processor only")
    contender = Contender("theirs", "theirs", str(ROOT / "models/fastsam-demo.pt"), threads=threads, imgsz=160)
    with running([contender]) as runners:
        runners["theirs"].ask("show", images=[load_image(coffee)[:200, :300]])
        for _ in range(2):  # its first run gives PyTorch other threads
            runners["theirs"].ask("segment")
        used = runners["theirs"].require_threads()
    assert (used["torch"], used["torch, between operations"]) == (threads, threads) and used["cv2"] <= threads


@pytest.mark.export
def test_a_session_of_others_keeps_to_one_thread(demo_onnx: Path):
    code = (
        "import onnxruntime, sys; from benchmarks.suite.workers import _limit_onnxruntime; _limit_onnxruntime(1); "
        "session = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider']); "
        "print(session.get_session_options().intra_op_num_threads)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(demo_onnx)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    expected = 1 if (os.cpu_count() or 1) > 1 else 0
    assert done.stdout.split() == [str(expected)], done.stderr


def test_a_contender_with_other_threads_is_not_timed():
    from benchmarks.suite.contenders import Runner

    runner = Runner.__new__(Runner)
    runner.contender = SimpleNamespace(name="peer", threads=1, as_it_comes=False)  # type: ignore[assignment]
    runner.ask = lambda *_, **__: {"torch": 2, "cv2": 1}  # type: ignore[method-assign]
    with pytest.raises(SystemExit, match=r"peer: threads are \{'torch': 2\}, expected 1"):
        runner.require_threads()


def test_results_are_kept_by_the_kind_of_processor(tmp_path: Path):
    from benchmarks.suite.records import load_kinds

    parts = {"avx2": ["avx2"], "avx512-bf16": ["avx2", "avx512f", "avx512_vnni", "avx512_bf16"]}
    for kind, flags in parts.items():
        (tmp_path / kind).mkdir()
        part = {"environment": {"cpu_flags": flags}}
        (tmp_path / kind / "suite_network.json").write_text(json.dumps(part), encoding="utf-8")
    (tmp_path / "suite_accuracy.json").write_text("{}", encoding="utf-8")
    (tmp_path / "suite_stream.json").write_text(json.dumps({"environment": {"cpu_flags": []}}), encoding="utf-8")
    found = load_kinds(tmp_path)
    assert list(found) == ["avx512-bf16", "avx2", "other", ""], "newest first"
    assert [list(results) for results in found.values()] == [["network"], ["network"], ["stream"], ["accuracy"]]


def test_operations_of_a_network(demo_onnx: Path, tmp_path: Path):
    onnx = pytest.importorskip("onnx", reason="counting reads the graph: needs the extra [export]")
    from benchmarks.suite.machine import network_operations

    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    shapes = {"w": (8, 3, 3, 3), "up": (8, 4, 2, 2), "m": (32, 5)}
    weights = [onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in shapes.items()]
    nodes = [
        node("Conv", ["images", "w"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),  # 8 × 16 × 16 values, 27 products each
        node("ConvTranspose", ["a", "up"], ["b"], strides=[2, 2]),  # 8 × 16 × 16 values, each goes into 4 × 2 × 2
        node("MatMul", ["b", "m"], ["c"]),  # 4 × 32 × 5 values, 32 products each
    ]
    inputs, outputs = [value("images", 1, ["b", 3, "h", "w"])], [value("c", 1, None)]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, weights)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "small.onnx")
    expected = 2 * (2048 * 27 + 2048 * 16 + 640 * 32)
    assert network_operations(tmp_path / "small.onnx", (1, 3, 32, 32)) == expected
    # What ultralytics prints of the demo network at this size: 29.0 GFLOPs.
    assert network_operations(demo_onnx, (1, 3, 1024, 1024)) == pytest.approx(29.0e9, rel=0.002)


def test_the_peak_of_the_machine_is_plausible():
    from benchmarks.suite.machine import peak

    found = peak(1, quick=True)
    assert 0.5 < found["gflops"] < 5000
    assert 0.2 < found["gb_per_s"] < 2000


def test_points_of_the_prompts_lie_in_the_image():
    from benchmarks.suite.parts.prompts import point_prompts

    prompts = point_prompts((300, 400))
    counts = {"1": 1, "10": 10, "100": 100, "E(16×16)": 256, "E(32×32)": 1024, "E(64×64)": 4096}
    assert {name: len(points) for name, points in prompts.items()} == counts
    for points in prompts.values():
        assert (np.array(points) >= 0).all() and (np.array(points) < (400, 300)).all()
    assert len({tuple(point) for point in prompts["E(64×64)"]}) == 4096


def test_photographs_are_cut_to_one_shape():
    from benchmarks.suite.records import photograph_sizes

    found = photograph_sizes(ROOT / "examples/images", [0.1, 3.0])
    assert len(found) == 4
    for label, image in found.items():
        height, width = image.shape[:2]
        assert label.endswith(f"{width}×{height}")
        assert width / height == pytest.approx(4 / 3, rel=0.01)
    assert [round(image.shape[0] * image.shape[1] / 1e6, 1) for image in found.values()] == [0.1, 0.1, 3, 3]


def _results(total: float, cpu: str = "A", memory: float = 100) -> dict[str, Any]:
    case = {"image": "photo", "threads": 2}
    ratio = {"case": case, "of": "ultralytics", "over": "ours_openvino", "values": {"total": total}}
    cost = {"case": {"count": 9}, "of": "ours", "over": "ours", "values": {"total": 1.0}}
    row = {"case": case, "contender": "ours_onnxruntime", "over_engine_mb": memory}
    machine = {"cpu": cpu, "processors": 2, "cpu_flags": ["avx2"]}
    settings = {"imgsz": 1024, "quick": False, "conf": 0.4}
    part = {"part": "end_to_end", "environment": machine, "settings": settings, "skipped": []}
    return {"end_to_end": {**part, "ratios": [ratio, cost], "rows": [row]}}


def test_the_guard_sees_what_fell():
    from benchmarks.suite.guard import fallen

    committed = _results(10)
    assert fallen(committed, [_results(8.6)]) == {}
    (text,) = fallen(committed, [_results(8.4)]).values()
    assert text == "was 10, is 8.4 (-16%)"
    assert fallen(committed, [_results(8.4), _results(9)]) == {}, "the better attempt counts"
    (name,) = fallen(committed, [_results(12, memory=120)])
    assert name.startswith("end_to_end: MB ours_onnxruntime")
    dearer = _results(10)
    dearer["end_to_end"]["ratios"][1]["values"]["total"] = 1.2
    assert len(fallen(committed, [dearer])) == 1, "what more points cost may not rise"
    gone = _results(10)
    del gone["end_to_end"]["ratios"][0]
    assert list(fallen(committed, [gone]).values()) == ["was 10, is not measured any more"]
    gone["end_to_end"]["skipped"] = [{"what": "ours_openvino", "why": "openvino is not installed"}]
    assert fallen(committed, [gone]) == {}


@pytest.mark.parametrize(
    ("measured", "code", "said"),
    [
        (_results(9.5), 0, "0 of 3 figures fell"),
        (_results(5), 1, "was 10, is 5 (-50%)"),
        (_results(5, cpu="B"), 2, "committed with cpu A, this machine has B"),
    ],
)
def test_the_guard_answers_by_its_code(measured: dict[str, Any], code: int, said: str, tmp_path: Path):
    for name, results in (("committed", _results(10)), ("measured", measured)):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "suite_end_to_end.json"
        path.write_text(json.dumps(results["end_to_end"]), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.suite.guard", "--parts", "end_to_end"]
    folders = ["--committed", str(tmp_path / "committed"), "--measured", str(tmp_path / "measured")]
    done = subprocess.run([*command, *folders], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, said in done.stdout) == (code, True), done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.export
def test_ratios_have_not_fallen():
    """The nightly guard: minutes long, and only where the committed rows were measured on such a processor."""
    pytest.importorskip("ultralytics", reason="the reference needs the extra [export]")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.suite.guard"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode == 2 and "not compared:" in done.stdout:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr

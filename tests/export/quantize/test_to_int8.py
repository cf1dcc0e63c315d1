"""INT8 files: near to the FP32 one on photographs they were not calibrated on, and refused where they are not."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra [export]: onnx is not installed")

import onnx
from onnx import TensorProto, helper, numpy_helper

from fastsam_deploy.export.errors import ExportError
from fastsam_deploy.export.graph.fp16 import decoding_nodes
from fastsam_deploy.export.graph.suppression import with_suppression
from fastsam_deploy.export.quantize import calibrated as module
from fastsam_deploy.export.quantize import to_int8
from fastsam_deploy.export.quantize.enlarging import with_plain_enlargement
from fastsam_deploy.export.quantize.graph import layers_named, layers_of, with_qdq
from fastsam_deploy.export.quantize.judge import Judge, Likeness, QuantizationLimits
from fastsam_deploy.export.quantize.ranges import Histogram, histograms, network_inputs, range_before_silu, range_of
from fastsam_deploy.export.quantize.sweep import kept_in, sweep
from fastsam_deploy.export.quantize.to_int8 import Quantized, quantize_model
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.errors import ModelError, ParameterError
from fastsam_deploy.runtime.measure.fidelity import compare
from fastsam_deploy.runtime.measure.findings import failures
from fastsam_deploy.runtime.pipeline import FastSAM
from fastsam_deploy.runtime.suppression import Suppression

IMGSZ = 256


@pytest.fixture(scope="module")
def made(demo_onnx: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Quantized]:
    """The demo model for both targets, calibrated on six photographs and compared on the other three."""
    folder = tmp_path_factory.mktemp("int8")
    settings: dict[str, Any] = {"count": 6, "imgsz": IMGSZ, "half": False}
    return {
        target: quantize_model(demo_onnx, folder / f"{target}.onnx", photos, target=target, **settings)
        for target in ("tensorrt", "cpu", "vnni", "openvino")
    }


@pytest.mark.parametrize("target", ["tensorrt", "cpu", "vnni", "openvino"])
def test_masks_and_recall_hold_on_photographs_that_were_not_calibrated_on(
    made: dict[str, Quantized], target: str
) -> None:
    found = made[target]
    assert found.unseen and found.calibrated_on == 6
    assert found.likeness.detections > 10
    assert found.likeness.mean_iou >= 0.95
    assert found.likeness.recall >= 0.98
    assert found.likeness.mean_iou < 1  # something was rounded


@pytest.mark.parametrize("target", ["tensorrt", "cpu", "vnni", "openvino"])
def test_the_file_opens_in_our_runtime_and_finds_the_same(
    made: dict[str, Quantized], target: str, demo_onnx: Path, coffee: Path
) -> None:
    with FastSAM(made[target].path, imgsz=IMGSZ) as model, FastSAM(demo_onnx, imgsz=IMGSZ) as plain_model:
        assert model.spec == made[target].spec
        assert model.spec.precision == "int8"
        assert model.spec.checkpoint_sha256 == plain_model.spec.checkpoint_sha256
        ours, expected = len(model.segment(coffee)), len(plain_model.segment(coffee))
    assert 0 < ours <= expected * 1.25
    assert ours >= expected * 0.75


def test_openvino_takes_what_it_computes_rightly_and_refuses_the_rest(
    made: dict[str, Quantized], demo_onnx: Path, coffee: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="needs the extra [openvino]")
    from fastsam_deploy.runtime.engines import openvino as engine

    settings: dict[str, Any] = {"imgsz": IMGSZ, "engine": "openvino", "precision": "fp32"}
    with FastSAM(demo_onnx, **settings) as plain_model:
        expected = plain_model.segment(coffee)
    for target in ("cpu", "openvino"):
        with FastSAM(made[target].path, **settings) as model:
            assert compare(expected, model.segment(coffee)).ious.mean() >= 0.95
    monkeypatch.setattr(engine, "name_and_flags", lambda: ("an old one", frozenset({"avx2"})))
    FastSAM(made["openvino"].path, **settings).close()
    with pytest.raises(ModelError, match="overflow in OpenVINO on a processor without VNNI"):
        FastSAM(made["vnni"].path, **settings)
    with pytest.raises(ModelError, match="overflow in OpenVINO on a processor without VNNI"):
        FastSAM(made["tensorrt"].path, **settings)
    monkeypatch.setattr(engine, "name_and_flags", lambda: ("a newer one", frozenset({"avx2", "avx512_vnni"})))
    FastSAM(made["tensorrt"].path, **settings).close()


def test_the_file_says_how_it_was_made(made: dict[str, Quantized]) -> None:
    said = {target: one.spec.tools["int8"] for target, one in made.items()}
    assert said["tensorrt"] == "for tensorrt, calibrated by percentile on 6 images, the rest fp32"
    for target in ("cpu", "vnni", "openvino"):
        how = "calibrated by percentile on 6 images, weights by GPTQ, scores corrected"
        assert said[target] == f"for {target}, {how}, the rest fp32"


def qdq_of(path: Path) -> tuple[onnx.GraphProto, dict[str, np.ndarray], list[onnx.NodeProto]]:
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return graph, constants, [node for node in graph.node if node.op_type == "QuantizeLinear"]


def test_for_tensorrt_nothing_has_a_zero_point_and_each_convolution_its_own_pair(made: dict[str, Quantized]) -> None:
    graph, constants, quantizing = qdq_of(made["tensorrt"].path)
    assert len(quantizing) == 2 * len(made["tensorrt"].quantized)
    for node in quantizing:
        zero = constants[node.input[2]]
        assert zero.dtype == np.int8 and not zero.any()
        assert constants[node.input[1]].min() > 0
    per_channel = [node for node in quantizing if constants[node.input[1]].ndim == 1]
    assert len(per_channel) == len(made["tensorrt"].quantized)
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            assert readers[node.output[0]] == 1
        if node.op_type == "Conv" and len(node.input) > 2:
            assert constants[node.input[2]].dtype == np.float32  # the bias is not rounded
    assert not [t for t in graph.initializer if t.data_type == TensorProto.INT32]
    assert {entry.domain for entry in onnx.load(made["tensorrt"].path).opset_import} == {""}


@pytest.mark.parametrize(("target", "most"), [("cpu", 63), ("vnni", 127), ("openvino", 63)])
def test_for_a_processor_activations_are_unsigned_and_weights_have_few_enough_bits(
    made: dict[str, Quantized], target: str, most: int
) -> None:
    _, constants, quantizing = qdq_of(made[target].path)
    assert {constants[node.input[2]].dtype for node in quantizing} == {np.dtype(np.uint8)}
    weights = [values for values in constants.values() if values.dtype == np.int8 and values.ndim == 4]
    assert len(weights) == len(made[target].quantized)
    assert max(int(np.abs(values.astype(int)).max()) for values in weights) == most
    assert made[target].path.stat().st_size < 0.35 * made["tensorrt"].path.stat().st_size


def test_a_file_for_vnni_is_refused_where_its_sums_would_overflow(
    made: dict[str, Quantized], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastsam_deploy.runtime.engines.onnxruntime import provider

    monkeypatch.setattr(provider, "name_and_flags", lambda: ("an old one", frozenset({"avx2"})))
    with pytest.raises(ModelError, match=r"overflow on a processor without VNNI \(an old one\).*--target cpu"):
        FastSAM(made["vnni"].path)
    FastSAM(made["cpu"].path).close()


def optimised(path: Path, folder: Path) -> Counter[str]:
    """What ONNX Runtime runs of a file: operator → how many."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


@pytest.mark.parametrize("target", ["cpu", "vnni"])
def test_onnx_runtime_computes_all_between_two_int8_convolutions_in_8_bits(
    made: dict[str, Quantized], target: str, tmp_path: Path
) -> None:
    operators = optimised(made[target].path, tmp_path)
    quantized = len(made[target].quantized)
    assert quantized == 61  # all but the stem and the ends of the head; the enlargement of the prototypes is one
    assert operators["QLinearConv"] == quantized
    # All have SiLU but the enlargement; the last one's product is an output, in floating point.
    assert operators["QLinearSigmoid"] == 60 and operators["QLinearMul"] == 59
    assert operators["QLinearAdd"] == 5 and operators["NhwcMaxPool"] == 3
    assert operators["QLinearConcat"] == 14  # 12 of the network, two enlargements
    assert not operators["ConvTranspose"] and not operators["Resize"]
    # Conversions: into 8 bits after the stem, out of them for the 9 ends of the head and the prototypes.
    assert operators["QuantizeLinear"] <= 3 and operators["DequantizeLinear"] <= 15


def test_what_is_concatenated_has_one_scale(made: dict[str, Quantized]) -> None:
    graph, constants, quantizing = qdq_of(made["cpu"].path)
    scales = {node.input[0]: float(constants[node.input[1]]) for node in quantizing}
    rounded = {f"{name}_rounded": scale for name, scale in scales.items()}
    joined = [node for node in graph.node if node.op_type == "Concat" and node.input[0] in rounded]
    assert len(joined) == 14
    for node in joined:
        assert {rounded[name] for name in node.input} == {scales[node.output[0]]}


def test_for_openvino_what_a_convolution_writes_is_exact(made: dict[str, Quantized]) -> None:
    graph, _, quantizing = qdq_of(made["openvino"].path)
    rounded = {node.input[0] for node in quantizing}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert rounded and not rounded & {node.output[0] for node in convolutions}
    operators = Counter(node.op_type for node in graph.node)
    assert operators["ConvTranspose"] == 1 and operators["Resize"] == 2


@pytest.mark.parametrize("side", [64, 96])
def test_plain_enlargement_changes_no_value(plain: onnx.ModelProto, side: int) -> None:
    import onnxruntime

    enlarged = with_plain_enlargement(plain)
    operators = Counter(node.op_type for node in enlarged.graph.node)
    assert not operators["ConvTranspose"] and not operators["Resize"]
    onnx.checker.check_model(enlarged, full_check=True)
    images = np.random.default_rng(side).random((1, 3, side, 128), np.float32)
    before, after = (
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"images": images}
        )
        for model in (plain, enlarged)
    )
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_other_enlargements_stay(plain: onnx.ModelProto) -> None:
    changed = onnx.ModelProto.FromString(plain.SerializeToString())
    for node in changed.graph.node:
        for attribute in node.attribute:
            if attribute.name == "auto_pad":
                attribute.s = b"VALID"
            if node.op_type == "Resize" and attribute.name == "mode":
                attribute.s = b"linear"
    operators = [
        Counter(node.op_type for node in graph.graph.node) for graph in (changed, with_plain_enlargement(changed))
    ]
    assert operators[0] == operators[1]


def test_levels_are_not_spent_on_values_whose_silu_is_zero() -> None:
    values = np.concatenate((np.linspace(-30, -8, 5000), np.random.default_rng(0).normal(size=100_000)))
    counts, _ = np.histogram(values, 4096, (-30, 5))
    low, high = range_before_silu(Histogram(-30.0, 5.0, counts))
    assert -10 < low < -3 and 3 < high <= 5


def test_the_ends_of_the_head_and_the_stem_stay_high(made: dict[str, Quantized], plain: onnx.ModelProto) -> None:
    ends = {f"model.22.cv{branch}.{scale}.2" for branch in (2, 3, 4) for scale in (0, 1, 2)}
    stem = {"model.0", "model.1", "model.2.cv1", "model.2.cv2", "model.2.m.0.cv1", "model.2.m.0.cv2"}
    assert set(made["tensorrt"].kept) == ends | stem
    assert len(made["tensorrt"].quantized) == 60
    graph = onnx.load(made["tensorrt"].path).graph
    maker = {output: node.op_type for node in graph.node for output in node.output}
    decoding = decoding_nodes(graph)
    assert not {maker.get(name) for node in graph.node if node.name in decoding for name in node.input} & {
        "DequantizeLinear"
    }


@pytest.mark.slow  # FP16 on a CPU takes its time
def test_the_rest_in_fp16_is_as_near(demo_onnx: Path, photos: Path, tmp_path: Path) -> None:
    found = quantize_model(demo_onnx, tmp_path / "m.onnx", photos, count=6, imgsz=IMGSZ)
    assert found.likeness.mean_iou >= 0.95
    model = onnx.load(found.path)
    assert [entry.version for entry in model.opset_import] == [19]
    kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4}
    assert TensorProto.FLOAT16 in kinds
    assert found.path.stat().st_size < 7_500_000


def test_a_file_with_nms_in_its_graph_becomes_int8_too(demo_onnx: Path, photos: Path, tmp_path: Path) -> None:
    with open_engine(demo_onnx) as engine:
        spec = engine.spec
    onnx.save(with_suppression(onnx.load(demo_onnx), spec, Suppression(0.001, 0.9, 300)), tmp_path / "nms.onnx")
    found = quantize_model(tmp_path / "nms.onnx", tmp_path / "i.onnx", photos, target="cpu", count=4, imgsz=192)
    assert (found.spec.layout, found.spec.precision) == ("split", "int8")
    assert found.likeness.mean_iou >= 0.95


def test_a_file_that_is_too_far_off_is_refused_and_the_old_one_stays(
    demo_onnx: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "m.onnx"
    target.write_bytes(b"the good one from yesterday")
    # Ranges a tenth of what they should be cut off most of every activation.
    monkeypatch.setattr(module, "range_of", lambda h, method, signed: (-h.high / 10, h.high / 10))
    with pytest.raises(ExportError, match=r"mean mask IoU .*expected at least 0\.95.*let --sweep find"):
        quantize_model(demo_onnx, target, photos, count=2, imgsz=128, half=False)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert target.read_bytes() == b"the good one from yesterday"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target": "tpu"}, "target is 'tpu', expected one of tensorrt, cpu, vnni, openvino"),
        ({"method": "guess"}, "method is 'guess', expected one of minmax"),
        ({"count": 0}, "0 photographs"),
        ({"target": "cpu", "half": True}, "FP16 beside INT8 with target cpu"),
        ({"keep": ["model.2"], "run_sweep": True}, "use one of them"),
        ({"keep": ["model.99"], "count": 1}, "--keep model.99: the model has no layer.*model.21"),
        ({"keep_from": Path("nowhere.json"), "count": 1}, "nowhere.json.*expected a file that.*--sweep wrote"),
        ({"imgsz": 100}, "imgsz is 100.*use 96 or 128"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(
    settings: dict[str, Any], said: str, demo_onnx: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=said):
        quantize_model(demo_onnx, tmp_path / "m.onnx", photos, **{"imgsz": 64, **settings})
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said_before_the_work(
    demo_onnx: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "histograms", lambda *_: pytest.fail("work for a file that cannot be written"))
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"file/m\.onnx: cannot be written"):
        quantize_model(demo_onnx, tmp_path / "file/m.onnx", photos, imgsz=64)


def test_files_that_cannot_be_rounded_are_refused(
    made: dict[str, Quantized], demo_onnx: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match="is int8 already, expected an FP32 file"):
        quantize_model(made["cpu"].path, tmp_path / "m.onnx", photos)
    with pytest.raises(ParameterError, match=r"expected an FP32 \.onnx file"):
        quantize_model(tmp_path / "m.pt", tmp_path / "m.onnx", photos)
    with pytest.raises(ParameterError, match=r"ends in \.onnx"):
        quantize_model(demo_onnx, tmp_path / "m.plan", photos)
    with pytest.raises(ExportError, match="holds no photograph"):
        quantize_model(demo_onnx, tmp_path / "m.onnx", tmp_path)
    with pytest.raises(ExportError, match="no such folder"):
        quantize_model(demo_onnx, tmp_path / "m.onnx", tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_blocks_and_layers_are_found_by_name(plain: onnx.ModelProto) -> None:
    layers = layers_of(plain)
    assert len(layers) == 75  # 76 convolutions, one of which only takes the mean of a distribution
    assert layers_named(layers, ["model.5", "model.22.cv3.1"]) == {
        "model.5", "model.22.cv3.1.0", "model.22.cv3.1.1", "model.22.cv3.1.2",
    }  # fmt: skip
    assert {layer.group for layer in layers if layer.name.startswith("model.22")} == {
        "model.22.cv2", "model.22.cv3", "model.22.cv4", "model.22.proto",
    }  # fmt: skip
    assert layers_named(layers, [layers[3].node]) == {layers[3].name}


def test_compactly_stored_weights_are_unfolded_without_a_change(plain: onnx.ModelProto, demo_onnx: Path) -> None:
    import onnxruntime

    images = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    before, after = (
        onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, {"images": images})
        for source in (demo_onnx.read_bytes(), plain.SerializeToString())
    )
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_histograms_count_every_value_of_every_photograph(
    plain: onnx.ModelProto, demo_onnx: Path, photos: Path
) -> None:
    with open_engine(demo_onnx) as engine:
        spec = engine.spec
    paths = sorted(photos.glob("*.png"))[:2]
    blobs = list(network_inputs(paths, spec, 96))
    found = histograms(plain, ["images", "silu"], lambda: network_inputs(paths, spec, 96))
    assert found["images"].counts.sum() == sum(blob.size for blob in blobs)
    assert found["images"].high == max(float(blob.max()) for blob in blobs)
    assert found["silu"].counts.sum() == sum(16 * blob.shape[2] * blob.shape[3] // 4 for blob in blobs)
    assert found["silu"].low == pytest.approx(-0.2785, abs=1e-3)  # the least value of SiLU


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_one_value_far_out_does_not_stretch_the_range(method: str) -> None:
    values = np.concatenate((np.random.default_rng(0).normal(size=200_000), [1000.0]))
    counts = np.histogram(values, 4096, (-5, 1000))[0]
    histogram = Histogram(-5.0, 1000.0, counts)
    assert range_of(histogram, "minmax", signed=False) == (-5, 1000)
    low, high = range_of(histogram, method, signed=True)
    assert low == -high
    assert 3 < high < 100
    low, high = range_of(histogram, method, signed=False)
    assert -5 <= low < -3 and high < 100


def test_an_input_that_is_never_negative_keeps_its_unsigned_range() -> None:
    histogram = Histogram(0.0, 1.0, np.full(64, 100))
    assert range_of(histogram, "percentile", signed=False) == (0, 1)
    assert range_of(histogram, "percentile", signed=True) == (-1, 1)


class Graph:
    """Stands for a rounded graph in the test of the sweep: it only knows what was rounded."""

    def __init__(self, layers: Any) -> None:
        self.groups = {layer.group for layer in layers}


class StrictJudge:
    """Every block costs a little, two cost much."""

    def judge(self, graph: Graph, *, as_written: bool) -> Likeness:
        cost = {"model.4": 0.04, "model.9": 0.03}
        lost = sum(cost.get(group, 0.0005) for group in graph.groups)
        return Likeness(1 - lost, 1.0, 1.0, 100, 100, 1 - lost, 1)


def test_the_sweep_keeps_the_worst_blocks_and_no_more(plain: onnx.ModelProto, tmp_path: Path) -> None:
    layers = layers_of(plain)
    found = sweep(layers, Graph, StrictJudge(), QuantizationLimits(0.97, 0.98), as_written=True)  # type: ignore[arg-type]
    assert [block.group for block in found.blocks[:2]] == ["model.4", "model.9"]
    assert found.reached and len(found.tries) == 3
    kept_groups = {layer.group for layer in layers if layer.name in found.keep and not layer.ends_head}
    assert kept_groups == {"model.4", "model.9"}
    path = tmp_path / "sweep.json"
    path.write_text(found.to_json(model="m.onnx"))
    assert kept_in(path) == found.keep
    assert layers_named(layers, kept_in(path)) == set(found.keep)
    hopeless = sweep(layers, Graph, StrictJudge(), QuantizationLimits(1, 1), as_written=True)  # type: ignore[arg-type]
    assert not hopeless.reached


def test_a_block_in_int8_costs_less_than_the_whole_network(
    plain: onnx.ModelProto, demo_onnx: Path, coffee: Path, cat: Path
) -> None:
    judge = Judge(demo_onnx, [coffee, cat], 192)
    layers = layers_of(plain)
    with open_engine(demo_onnx) as engine:
        spec = engine.spec
    block = [layer for layer in layers if layer.group == "model.19"]
    counted = histograms(plain, {layer.source for layer in layers}, lambda: network_inputs([coffee, cat], spec, 192))
    ranges = {name: range_of(one, "percentile", signed=True) for name, one in counted.items()}
    one, whole = (
        judge.judge(with_qdq(plain, members, ranges, "tensorrt"), as_written=True).mean_iou
        for members in (block, layers)
    )
    assert whole < one - 0.01
    assert one > 0.98


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    for text in ("", "[]", json.dumps({"format": "other", "keep": []}), json.dumps({"keep": []})):
        path.write_text(text)
        with pytest.raises(ParameterError, match="expected a file that"):
            kept_in(path)


def test_a_network_that_finds_nothing_cannot_be_judged(demo_onnx: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (96, 64), (114, 114, 114)).save(tmp_path / "gray.png")
    with pytest.raises(ExportError, match=r"finds nothing with a score above 0\.4 in 1 photographs"):
        Judge(demo_onnx, [tmp_path / "gray.png"], 64)


def test_limits_name_what_is_missing() -> None:
    likeness = Likeness(0.94, 0.99, 1, 1, 1, 1, 1)
    assert failures(QuantizationLimits().findings(likeness)) == ["mean mask IoU is 0.94, expected at least 0.95"]
    assert failures(QuantizationLimits(0.9, 0.9).findings(likeness)) == []
    assert len(failures(QuantizationLimits().findings(replace(likeness, recall=float("nan"))))) == 2


@pytest.mark.parametrize("variant", [0, 1], ids=["the file", "the file in true FP16"])
@pytest.mark.parametrize("short", [{"recall": 0.9}, {"mean_iou": 0.9}], ids=str)
def test_every_variant_is_held_to_every_limit(
    variant: int,
    short: dict[str, float],
    demo_onnx: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also the one of higher panoptic quality, which is no limit."""
    good = Likeness(0.97, 0.99, 0.9, 100, 100, 0.8, 4)
    likenesses = [good, good]
    likenesses[variant] = replace(good, quality=0.95, **short)
    monkeypatch.setattr(to_int8, "Judge", lambda *_: SimpleNamespace(judge=lambda *_, **__: likenesses.pop(0)))
    (name,) = short
    with pytest.raises(ExportError, match=f"{name.replace('mean_iou', 'mean mask IoU')} is 0.9, expected at least"):
        quantize_model(demo_onnx, tmp_path / "m.onnx", photos, count=2, imgsz=64, half=True)
    assert list(tmp_path.iterdir()) == [] and likenesses == []


def test_a_graph_without_convolutions_is_refused() -> None:
    tensor = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    model = helper.make_model(helper.make_graph([helper.make_node("Neg", ["x"], ["y"], "n")], "g", [tensor], [result]))
    with pytest.raises(ExportError, match="no convolution"):
        layers_of(model)

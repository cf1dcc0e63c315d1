"""What model files say of themselves, and what is refused."""

from __future__ import annotations

import pytest

from fastsam_deploy.runtime.engines.tensors import spec_from_tensors
from fastsam_deploy.runtime.errors import ModelError, ParameterError
from fastsam_deploy.runtime.input_size import check_imgsz
from fastsam_deploy.runtime.network import TensorInfo
from fastsam_deploy.runtime.spec import METADATA_KEY, ModelSpec, imgsz_for

IMAGES = TensorInfo("images", "float32", (None, 3, None, None))
RAW = TensorInfo("output0", "float32", (None, 37, None))
PROTOTYPES = TensorInfo("output1", "float32", (None, 32, None, None))


def test_json_round_trip():
    spec = ModelSpec(size_hw=(640, 384), class_names=("a", "b"), checkpoint_sha256="00", tools={"torch": "2"})
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_newer_keys_are_ignored_and_nonsense_is_refused():
    assert ModelSpec.from_json('{"imgsz": 640, "from_the_future": 1}').imgsz == 640
    for text in ("", "[]", "3", '{"layout": "other"}', '{"input_dtype": "int8"}', '{"size_hw": [33, 32]}'):
        with pytest.raises(ModelError):
            ModelSpec.from_json(text)


def test_own_metadata_is_taken_and_the_tensors_decide():
    written = ModelSpec(imgsz=768, class_names=("item",), input="other name")
    spec = spec_from_tensors([IMAGES], [RAW, PROTOTYPES], {METADATA_KEY: written.to_json()}, "m.onnx")
    assert (spec.imgsz, spec.class_names, spec.input, spec.batch, spec.fixed_hw) == (
        768,
        ("item",),
        "images",
        None,
        None,
    )


def test_outputs_are_found_by_shape_not_by_position_or_name():
    swapped = [TensorInfo("masks", "float32", (1, 32, 160, 160)), TensorInfo("boxes", "float32", (1, 37, 8400))]
    spec = spec_from_tensors([TensorInfo("x", "float16", (1, 3, 640, 640))], swapped, {}, "m.onnx")
    assert (spec.detections, spec.prototypes, spec.input) == ("boxes", "masks", "x")
    assert (spec.fixed_hw, spec.batch, spec.input_dtype, spec.precision) == ((640, 640), 1, "float16", "fp16")


def test_ultralytics_metadata():
    meta = {
        "names": "{0: 'cat', 1: 'dog'}",
        "imgsz": "[320, 480]",
        "stride": "32",
        "args": "{'quantize': 16}",
        "version": "8",
    }
    spec = spec_from_tensors([IMAGES], [TensorInfo("o", "float32", (None, 38, None)), PROTOTYPES], meta, "m.onnx")
    assert (spec.class_names, spec.imgsz, spec.precision) == (("cat", "dog"), 480, "fp16")


def test_suppressed_layout_and_many_classes():
    nms = TensorInfo("output0", "float32", (None, 300, 38))
    assert spec_from_tensors([IMAGES], [nms, PROTOTYPES], {}, "m").layout == "nms"
    coco = TensorInfo("output0", "float32", (1, 116, 8400))
    assert spec_from_tensors([IMAGES], [coco, PROTOTYPES], {}, "m").class_count == 80


@pytest.mark.parametrize(
    ("inputs", "outputs", "says"),
    [
        pytest.param([], [RAW, PROTOTYPES], "inputs are none", id="no input"),
        pytest.param([TensorInfo("i", "uint8", (1, 3, 64, 64))], [RAW, PROTOTYPES], "uint8", id="integer input"),
        pytest.param([TensorInfo("i", "float32", (1, 1, 64, 64))], [RAW, PROTOTYPES], "one, images", id="gray input"),
        pytest.param([IMAGES], [RAW], "prototypes", id="a detection network"),
        pytest.param([IMAGES], [PROTOTYPES], "exactly one of three", id="no detections"),
        pytest.param([IMAGES], [RAW, RAW, PROTOTYPES], "exactly one of three", id="two detections"),
        pytest.param([IMAGES], [TensorInfo("o", "float32", (1, 20, 99)), PROTOTYPES], "neither", id="too few rows"),
    ],
)
def test_foreign_networks_are_refused_with_what_was_found(inputs, outputs, says):
    with pytest.raises(ModelError, match=says):
        spec_from_tensors(inputs, outputs, {}, "m.onnx")


def test_class_count_that_contradicts_the_names_is_refused():
    with pytest.raises(ModelError, match="names 2 classes"):
        spec_from_tensors([IMAGES], [RAW, PROTOTYPES], {"names": "{0: 'a', 1: 'b'}"}, "m.onnx")


@pytest.mark.parametrize("count", [3, 81])
def test_more_or_fewer_names_than_classes_are_refused_with_both_numbers(count):
    names = str({i: f"thing {i}" for i in range(count)})
    eighty = TensorInfo("output0", "float32", (1, 116, 8400))
    with pytest.raises(ModelError, match=f"holds 80 classes .* names {count} classes"):
        spec_from_tensors([IMAGES], [eighty, PROTOTYPES], {"names": names}, "m.onnx")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param("{0: 'cat', 2: 'dog'}", ("cat", "class1", "dog"), id="a gap moves no name"),
        pytest.param("{'0': 'cat', '10': 'k', '2': 'dog'}", None, id="numbers as texts are in the order of numbers"),
        pytest.param("['cat', 'dog', 'cup']", ("cat", "dog", "cup"), id="a list"),
        pytest.param("'cat'", ("cat",), id="one text is no list of letters"),
        pytest.param("{0: ", ("class0", "class1", "class2"), id="cut off"),
        pytest.param("{}", ("class0", "class1", "class2"), id="empty"),
        pytest.param("{'cat': 0, 'dog': 1}", ("class0", "class1", "class2"), id="the other way round"),
        pytest.param("{-1: 'cat'}", ("class0", "class1", "class2"), id="negative"),
        pytest.param("{10**9: 'cat'}", ("class0", "class1", "class2"), id="a billion"),
        pytest.param("{1000000000: 'cat'}", ("class0", "class1", "class2"), id="a billion, written out"),
    ],
)
def test_names_stand_at_their_numbers(names, expected):
    count = 11 if expected is None else len(expected)
    expected = expected or ("cat", "class1", "dog", *(f"class{i}" for i in range(3, 10)), "k")
    raw = TensorInfo("output0", "float32", (1, 36 + count, 8400))
    assert spec_from_tensors([IMAGES], [raw, PROTOTYPES], {"names": names}, "m.onnx").class_names == expected


def test_names_of_our_own_metadata_are_a_list_of_texts():
    for names in ('"cat"', "[0, 1]", "7"):
        with pytest.raises(ModelError, match=r"m\.onnx: .*export it again"):
            spec_from_tensors([IMAGES], [RAW, PROTOTYPES], {METADATA_KEY: f'{{"class_names": {names}}}'}, "m.onnx")


@pytest.mark.parametrize("imgsz", [0, -32, float("-inf"), float("nan"), 33, 1000, 639.5])
def test_imgsz_names_the_neighbours(imgsz):
    with pytest.raises(ParameterError, match="multiple of the network's stride 32; use"):
        check_imgsz(imgsz)
    assert check_imgsz(1024) == 1024


@pytest.mark.parametrize("imgsz", [100_000, 3_200_000, 10**400, float("inf"), "640", None, True])
def test_imgsz_that_no_memory_holds_or_is_no_number_is_refused(imgsz):
    with pytest.raises(ParameterError, match=r"imgsz is .*expected (16384 pixels or fewer|a whole number)"):
        check_imgsz(imgsz)


def test_imgsz_of_many_images_at_once_is_limited():
    with pytest.raises(ParameterError, match="takes 512 images at once"):
        imgsz_for(ModelSpec(batch=512), 2048)
    assert imgsz_for(ModelSpec(batch=16), 2048) == 2048

"""The models `fastsam` and `fastsam_device` answer as `FastSAM` does in this process."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tritonclient.utils import InferenceServerException

from fastsam_deploy.runtime import Boxes, Everything, FastSAM, Points, Segments, Thresholds, load_image
from fastsam_deploy.runtime.wire.answer import answers_from_tensors
from tests.triton_models.plain_client import Answer, PlainClient, assert_same, column, refusal, segments_of

pytestmark = pytest.mark.triton

MODELS = ("fastsam", "fastsam_device")
CUP, TABLE, CORNER = [285, 150], [60, 60], [5, 5]
BOXES = [[200, 60, 420, 260], [320, 230, 420, 330], [200, 60, 420, 260]]
SENT_AND_MEANT = {
    "everything": ([{"everything": True}], [Everything()]),
    "merged points": ([{"points": [CUP]}], [Points([CUP])]),
    "merged, a background point": ([{"points": [CUP, CORNER], "labels": [1, 0]}], [Points([CUP, CORNER], [1, 0])]),
    "not cleaned": ([{"points": [CUP, TABLE], "clean": False}], [Points([CUP, TABLE], clean=False)]),
    "each point": ([{"points": [CUP, TABLE], "mode": "each"}], [Points([CUP, TABLE], mode="each")]),
    "all of the points": ([{"points": [CUP, TABLE], "mode": "all"}], [Points([CUP, TABLE], mode="all")]),
    "boxes": ([{"boxes": BOXES}], [Boxes(BOXES)]),
    "several joined": (
        [{"points": [CUP, TABLE], "mode": "each"}, {"boxes": BOXES}, {"everything": True}],
        [Points([CUP, TABLE], mode="each"), Boxes(BOXES), Everything()],
    ),
}


@pytest.fixture(scope="module")
def local() -> Iterator[FastSAM]:
    with FastSAM() as model:
        yield model


@pytest.fixture(scope="module")
def everything(local: FastSAM, coffee: Path) -> Segments:
    found = local.segment(coffee)
    assert len(found) > 10
    assert (found.areas > 1000).sum() > 5
    return found


@pytest.fixture(scope="module", params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: Any) -> Iterator[PlainClient]:
    with PlainClient(server, request.param) as opened:
        yield opened


@pytest.fixture(scope="module", params=list(zip(MODELS, ("http", "grpc"), strict=True)), ids="-".join)
def ask(request: pytest.FixtureRequest, server: Any) -> Iterator[Callable[..., Answer]]:
    """Asks one model over one transport: for what happens behind both."""
    model, transport = request.param
    with PlainClient(server, transport) as opened:
        yield partial(opened.ask, model)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _encoded(pixels: NDArray[Any] | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(stream, kind, **options)
    return stream.getvalue()


def test_a_file_is_answered_as_it_is_here(
    client: PlainClient, model: str, local: FastSAM, everything: Segments, coffee: Path, cat: Path
):
    for path, wanted in ((coffee, everything), (cat, local.segment(cat))):
        assert_same(segments_of(client.ask(model, path.read_bytes())), wanted)


def test_png_and_pixels_are_answered_as_they_are_here(
    client: PlainClient, model: str, everything: Segments, coffee: Path
):
    pixels = load_image(coffee)
    for answer in (client.ask(model, _encoded(pixels)), client.ask(model, pixels=pixels[None])):
        assert_same(segments_of(answer), everything)


def test_photographs_of_many_shapes(server: Any, model: str, local: FastSAM, photographs: list[NDArray[np.uint8]]):
    with PlainClient(server, "grpc") as client:
        for pixels in photographs[2::9]:
            assert_same(segments_of(client.ask(model, pixels=pixels[None])), local.segment(pixels))


@pytest.mark.parametrize("prompts", SENT_AND_MEANT)
def test_prompts_are_answered_as_they_are_here(
    client: PlainClient, model: str, everything: Segments, coffee: Path, prompts: str
):
    sent, meant = SENT_AND_MEANT[prompts]
    wanted = everything.select(meant)
    assert len(wanted) > 0
    answer = client.ask(model, coffee.read_bytes(), prompt={"prompts": sent})
    assert_same(segments_of(answer), wanted)
    assert ((answer["FITS"] == -1) == (answer["PROMPTS"] == -1)).all(), "JSON has no NaN"


def test_thresholds_of_the_request_are_used(
    ask: Callable[..., Answer], local: FastSAM, everything: Segments, coffee: Path
):
    for asked in ({"conf": 0.7}, {"iou": 0.3}, {"max_det": 3}, {"conf": 0.25, "iou": 0.5, "max_det": 20.0}):
        wanted = local.segment(coffee, thresholds=Thresholds(**asked))
        assert len(wanted) != len(everything)
        assert_same(segments_of(ask(coffee.read_bytes(), prompt=asked)), wanted)


def test_masks_as_bits_and_no_masks(client: PlainClient, model: str, everything: Segments, coffee: Path):
    (found,) = answers_from_tensors(client.ask(model, coffee.read_bytes(), prompt={"masks": "bits"}), ("object",))
    assert_same(found, everything)
    none = client.ask(model, coffee.read_bytes(), prompt={"masks": "none"})
    assert none["COUNT"].item() == len(everything)
    assert set(none["MASKS"].ravel()) == {b""}
    np.testing.assert_allclose(none["AREAS"][0], everything.areas, rtol=1e-3)


def test_nothing_found_is_an_empty_answer(ask: Callable[..., Answer], coffee: Path):
    for prompt in ({"conf": 0.9999}, {"conf": 0.9999, "prompts": [{"points": [CUP]}, {"boxes": BOXES}]}):
        answer = ask(coffee.read_bytes(), prompt=prompt)
        assert answer["COUNT"].tolist() == [[0]]
        assert answer["BOXES"].shape == (1, 0, 4)
        assert answer["MASKS"].shape == (1, 0)
        assert segments_of(answer).image_hw == (400, 600)


def test_rows_past_the_count_are_zero(ask: Callable[..., Answer], everything: Segments, coffee: Path):
    """Two images of one request: nothing in the first, much in the second."""
    asked = [{"conf": 0.9999}, {"masks": "none"}]
    answer = ask([coffee.read_bytes()] * 2, prompt=asked)
    assert answer["COUNT"].ravel().tolist() == [0, len(everything)]
    for name in set(answer) - {"COUNT", "IMAGE_SIZE", "MASKS"}:
        assert not answer[name][0].any(), name


def test_images_of_one_shape_in_one_request(ask: Callable[..., Answer], local: FastSAM, coffee: Path):
    upright = load_image(coffee)
    images = [upright, upright[:, ::-1].copy(), upright[::-1].copy()]
    asked = [{}, {"prompts": [{"points": [[600 - 1 - CUP[0], CUP[1]]]}]}, {"conf": 0.6}]
    wanted = [
        local.segment(images[0]),
        local.segment(images[1], Points([[600 - 1 - CUP[0], CUP[1]]])),
        local.segment(images[2], thresholds=Thresholds(conf=0.6)),
    ]
    for answer in (
        ask(list(map(_encoded, images)), prompt=asked),
        ask(pixels=np.stack(images), prompt=asked),
    ):
        for i in range(3):
            assert_same(segments_of(answer, i), wanted[i])


def test_images_of_several_sizes_in_one_request(client: PlainClient, local: FastSAM, coffee: Path, cat: Path):
    """fastsam_device takes them; the ensemble's network needs one shape, and says so."""
    tall = _encoded(load_image(cat).swapaxes(0, 1))
    files = [coffee.read_bytes(), cat.read_bytes(), tall]
    answer = client.ask("fastsam_device", files)
    for i, file in enumerate(files):
        assert_same(segments_of(answer, i), local.segment(file))
    with pytest.raises(InferenceServerException) as caught:
        client.ask("fastsam", files)
    assert "need network inputs of 2 shapes" in refusal(caught.value, client.transport)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_photograph_is_turned_upright(ask: Callable[..., Answer], local: FastSAM, coffee: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = _encoded(load_image(coffee), "JPEG", exif=exif, quality=95)
    wanted = local.segment(file)
    assert wanted.image_hw == ((400, 600) if orientation == 3 else (600, 400))
    assert_same(segments_of(ask(file)), wanted)


def test_kinds_of_png(ask: Callable[..., Answer], local: FastSAM, cat: Path):
    rgb = load_image(cat)
    gray = rgb[..., 0]
    files = {
        "gray": _encoded(gray),
        "16 bit": _encoded(gray.astype(np.uint16) * 257),
        "RGBA": _encoded(np.dstack([rgb, np.full(gray.shape, 128, np.uint8)])),
        "palette": _encoded(Image.fromarray(rgb).convert("P")),
    }
    for kind, file in files.items():
        wanted = local.segment(file)
        assert len(wanted) > 0, kind
        assert_same(segments_of(ask(file)), wanted)


def test_outputs_have_the_types_and_dimensions_of_the_configuration(
    client: PlainClient, model: str, coffee: Path, server: Any
):
    """Triton passes a wrong dtype on, and leaves a misnamed output out, without a word."""
    with PlainClient(server, "http") as http:
        declared = http.raw.get_model_config(model)["output"]
    kinds = {"TYPE_INT32": np.int32, "TYPE_FP32": np.float32, "TYPE_STRING": np.object_}
    for prompt in (None, {"prompts": [{"boxes": BOXES}]}, {"conf": 0.9999}, {"masks": "none"}):
        answer = client.ask(model, coffee.read_bytes(), prompt=prompt)
        assert set(answer) == {output["name"] for output in declared}
        count = answer["COUNT"].item()
        for output in declared:
            values = answer[output["name"]]
            dims = [count if int(side) == -1 else int(side) for side in output["dims"]]
            assert list(values.shape) == [1, *dims], output["name"]
            assert values.dtype == kinds[output["data_type"]], output["name"]


def test_the_ensembles_parts_keep_to_their_configurations(server: Any, coffee: Path):
    """The same for the tensors between them, which no client of the ensemble sees."""
    kinds = {"TYPE_INT32": np.int32, "TYPE_FP32": np.float32}
    with PlainClient(server, "http") as client:
        passed = client.ask("fastsam_preprocess", coffee.read_bytes())
        passed |= client.infer("fastsam_engine", {"images": passed["images"]})
        for part in ("fastsam_preprocess", "fastsam_engine"):
            for output in client.raw.get_model_config(part)["output"]:
                values = passed[output["name"]]
                assert values.dtype == kinds[output["data_type"]]
                assert values.ndim == 1 + len(output["dims"])
                for found, declared in zip(values.shape[1:], output["dims"], strict=True):
                    assert int(declared) in (-1, found)


class Json:
    """HTTP as curl would do it."""

    def __init__(self, server: Any, model: str) -> None:
        self._url = f"http://{server.http}/v2/models/{model}/infer"

    def post(self, body: bytes, **headers: str) -> tuple[int, Answer | str]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            with urllib.request.urlopen(urllib.request.Request(self._url, body, names), timeout=60) as answer:
                found = json.loads(answer.read(), parse_constant=pytest.fail)  # NaN, which JSON does not have
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())["error"]
        kinds = {"FP32": np.float32, "INT32": np.int32}
        return 200, {
            output["name"]: np.array([text.encode() for text in output["data"]], np.object_).reshape(output["shape"])
            if output["datatype"] == "BYTES"
            else np.array(output["data"], kinds[output["datatype"]]).reshape(output["shape"])
            for output in found["outputs"]
        }


def test_json_with_the_image_behind_it(server: Any, model: str, local: FastSAM, coffee: Path):
    """The binary extension: a header with the length of the JSON, then four bytes of length and the file."""
    file = coffee.read_bytes()
    request = {
        "inputs": [
            {
                "name": "IMAGE",
                "shape": [1, 1],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": 4 + len(file)},
            },
            {"name": "PROMPT", "shape": [1, 1], "datatype": "BYTES", "data": ['{"conf": 0.5}']},
        ]
    }
    head = json.dumps(request).encode()
    body = head + len(file).to_bytes(4, "little") + file
    status, answer = Json(server, model).post(body, Inference_Header_Content_Length=str(len(head)))
    assert status == 200
    assert_same(segments_of(answer), local.segment(coffee, thresholds=Thresholds(conf=0.5)))


def test_json_alone_can_send_pixels_but_no_file(server: Any, model: str, local: FastSAM, coffee: Path):
    """BYTES in JSON are text in UTF-8, which no JPEG is: a client without the binary extension sends PIXELS."""
    pixels = np.asarray(Image.open(coffee).resize((90, 60)))

    def asked(name: str, datatype: str, shape: tuple[int, ...], data: list[Any]) -> bytes:
        return json.dumps({"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]}).encode()

    status, answer = Json(server, model).post(asked("PIXELS", "UINT8", (1, *pixels.shape), pixels.ravel().tolist()))
    assert status == 200
    assert_same(segments_of(answer), local.segment(pixels))
    status, message = Json(server, model).post(asked("IMAGE", "BYTES", (1, 1), [coffee.read_bytes().decode("latin-1")]))
    assert status == 400
    assert "not an image" in message


def test_only_the_outputs_that_are_asked_for_travel(server: Any, model: str, coffee: Path):
    with PlainClient(server, "http") as client:
        from tritonclient.http import InferRequestedOutput

        outputs = [InferRequestedOutput("AREAS"), InferRequestedOutput("COUNT")]
        answer = client.infer(model, {"IMAGE": column([coffee.read_bytes()])}, outputs=outputs)
    assert set(answer) == {"AREAS", "COUNT"}


@pytest.mark.parametrize("head", [b"", b"data:image/jpeg;base64,"], ids=["base64", "data URL"])
@pytest.mark.parametrize("model", MODELS)
def test_an_image_in_a_request_of_json_alone(server: Any, model: str, head: bytes, coffee: Path, everything: Segments):
    text = (head + base64.b64encode(coffee.read_bytes())).decode()
    inputs = [{"name": "IMAGE", "shape": [1, 1], "datatype": "BYTES", "data": [text]}]
    code, answer = Json(server, model).post(json.dumps({"inputs": inputs}).encode())
    assert code == 200, answer
    assert answer["AREAS"].ravel().tolist() == everything.areas.tolist()

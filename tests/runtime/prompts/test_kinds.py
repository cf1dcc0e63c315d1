"""A kind of prompt is one class: registered, it works in Python, on the command line, in pictures and on a server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from fastsam_deploy.runtime import Boxes, Everything, FastSAM, ParameterError, Points, PromptError, Segments, load_image
from fastsam_deploy.runtime.cli import main as cli
from fastsam_deploy.runtime.cli.choices import PointsMode
from fastsam_deploy.runtime.connection import Address
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.prompts import kinds
from fastsam_deploy.runtime.prompts.base import PromptKind, listed, looks_at_image
from fastsam_deploy.runtime.prompts.coordinates import check_points_inside, rows_of_numbers
from fastsam_deploy.runtime.prompts.fields import known_keys
from fastsam_deploy.runtime.prompts.marks import BoxMarks, LineMark, PointMarks
from fastsam_deploy.runtime.prompts.points import POINT_MODES
from fastsam_deploy.runtime.render import draw_prompts
from fastsam_deploy.runtime.segmenters.remote import RemoteSegmenter
from fastsam_deploy.runtime.serving import Parameters, Postprocess, Preprocess, WholePipeline
from fastsam_deploy.runtime.settings import Thresholds
from fastsam_deploy.runtime.spec import METADATA_KEY
from fastsam_deploy.runtime.wire.answer import answers_from_tensors
from fastsam_deploy.runtime.wire.question import Limits, Question

IMGSZ = 320
LOW = Thresholds(conf=0.1)
AROUND_THE_CUP = [[150, 30], [450, 30], [450, 330], [150, 330]]


@dataclass(frozen=True, init=False, eq=False)
class Lasso(PromptKind):
    """Segments of whose pixels more than half lie within a polygon."""

    key = "lasso"
    example = '{"lasso": [[x, y], …]}'
    prompt_count = 1

    xy: NDArray[np.float64]

    def __init__(self, xy: ArrayLike) -> None:
        corners = rows_of_numbers(xy, 2, "lasso", self.example)
        if not 3 <= len(corners) <= 100:
            raise PromptError(f"lasso has {len(corners)} corners; expected 3 to 100")
        object.__setattr__(self, "xy", corners)

    def select_from(self, segments: Segments) -> Segments:
        self.check_inside(segments.image_hw)
        inside = np.zeros(segments.image_hw, np.uint8)
        cv2.fillPoly(inside, [self.xy.astype(np.int32)], 1)
        shares = np.array([(mask & inside.view(np.bool_)).sum() / mask.sum() for mask in segments.masks.dense()])
        rows = np.flatnonzero(shares > 0.5)
        return segments[rows].answering(np.zeros(len(rows)), shares[rows])

    def check_inside(self, image_hw: tuple[int, int]) -> None:
        check_points_inside(self.xy, image_hw, "lasso corner")

    def marks(self) -> Sequence[LineMark]:
        return (LineMark(self.xy, closed=True),)

    def to_json(self) -> dict[str, Any]:
        return {self.key: self.xy.tolist()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Lasso:
        return cls(known_keys(document, (cls.key,), cls.key)[cls.key])

    @classmethod
    def count_in(cls, document: Mapping[str, Any]) -> int:
        return 1


@dataclass(frozen=True)
class Largest:
    """A prompt of a caller's own kind: two members, nothing registered."""

    prompt_count = 1

    def select_from(self, segments: Segments) -> Segments:
        return segments[segments.areas.argmax()].answering([0], [1])


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that a new kind needs, undone after the test."""
    monkeypatch.setattr(kinds, "_KINDS", dict(kinds._KINDS))
    kinds.register(Lasso)


@pytest.fixture(scope="module")
def model() -> Iterator[FastSAM]:
    with FastSAM(imgsz=IMGSZ, conf=0.1) as opened:
        yield opened


@pytest.fixture(scope="module")
def expected(model: FastSAM, coffee: Path) -> Segments:
    answer = model.segment(coffee).select(Lasso(AROUND_THE_CUP))
    assert 0 < len(answer) < len(model.segment(coffee))
    return answer


def _assert_same(answer: Segments, expected: Segments) -> None:
    assert answer.prompts.tolist() == expected.prompts.tolist()
    assert answer.areas.tolist() == expected.areas.tolist()
    np.testing.assert_allclose(answer.fits, expected.fits, atol=1e-5)


def test_a_new_kind_in_python(model: FastSAM, coffee: Path, expected: Segments) -> None:
    _assert_same(model.segment(coffee, Lasso(AROUND_THE_CUP)), expected)
    box = Boxes([325, 235, 410, 325])
    both = model.segment(coffee, [Lasso(AROUND_THE_CUP), box])
    assert both.prompts.tolist() == [0] * len(expected) + [1]
    with pytest.raises(PromptError, match=r"lasso corner 1 is at \(900, 0\), the image has x in \[0, 600\)"):
        model.segment(coffee, Lasso([[0, 0], [900, 0], [0, 9]]))


def test_a_new_kind_is_drawn() -> None:
    gray = np.full((200, 300, 3), 128, np.uint8)
    drawn = draw_prompts(gray, [Lasso([[50, 50], [250, 50], [150, 180]]), Largest()]).astype(int)
    for x, y in ((150, 50), (200, 115), (100, 115)):
        assert drawn[y, x, 0] > drawn[y, x, 2] + 50, f"a yellow line passes ({x}, {y})"
    assert (drawn[80, 150] == 128).all(), "it is not filled"


@pytest.mark.usefixtures("registered")
def test_a_new_kind_on_the_command_line(
    coffee: Path,
    expected: Segments,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    asked = json.dumps({"lasso": AROUND_THE_CUP})
    settings = ["--imgsz", str(IMGSZ), "--conf", "0.1", "--json", "-", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["fastsam", "segment", str(coffee), "--prompt", asked, *settings])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capfd.readouterr()
    assert not ended.value.code, err
    _assert_same(Segments.from_json(json.loads(out)), expected)
    assert (tmp_path / "coffee.overlay.jpg").is_file()


@pytest.mark.usefixtures("registered")
def test_a_new_kind_on_the_wire() -> None:
    (back,) = Question.from_json(Question((Lasso(AROUND_THE_CUP),)).to_json(), Limits(prompts=1)).prompts
    assert isinstance(back, Lasso)
    np.testing.assert_array_equal(back.xy, AROUND_THE_CUP)
    with pytest.raises(PromptError, match=r'or {"lasso": \[\[x, y\], …\]}$'):
        Question.from_json('{"prompts": [{"points": [1, 1], "lasso": []}]}', Limits())
    with pytest.raises(PromptError, match="lasso: unknown key 'labels'"):
        Question.from_json('{"prompts": [{"lasso": [[0, 0], [9, 0], [9, 9]], "labels": [1]}]}', Limits())


class ServerInThisProcess:
    """What `RemoteSegmenter` needs of a `TritonClient`; the model answers in this process."""

    in_flight = 1

    def __init__(self, pipeline: WholePipeline, config: dict[str, Any]) -> None:
        self.address, self.config = Address.from_text("grpc://localhost:8001/fastsam"), config
        self.asked: list[dict[str, Any]] = []
        self._pipeline = pipeline

    def infer_many(self, requests: Sequence[dict[str, NDArray[Any]]], _outputs: Sequence[str]) -> list[Any]:
        self.asked += [json.loads(request["PROMPT"][0, 0]) for request in requests]
        return self._pipeline(requests)

    def close(self) -> None: ...


def _config(model: FastSAM, demo_onnx: Path) -> dict[str, Any]:
    texts = {METADATA_KEY: model.spec.to_json(), "imgsz": str(IMGSZ), "rect": "true", "model": demo_onnx.name}
    return {"parameters": {name: {"string_value": text} for name, text in texts.items()}}


@pytest.mark.usefixtures("registered")
def test_a_new_kind_on_a_server(model: FastSAM, demo_onnx: Path, coffee: Path, expected: Segments) -> None:
    config = _config(model, demo_onnx)
    pipeline = WholePipeline(Parameters(config), demo_onnx.parent, "cpu")
    client = ServerInThisProcess(pipeline, config)
    remote = RemoteSegmenter(client)  # type: ignore[arg-type]
    (answer,) = remote.segment_batch([coffee], Lasso(AROUND_THE_CUP), [LOW], "RGB")
    _assert_same(answer, expected)
    assert client.asked[0]["prompts"] == [{"lasso": AROUND_THE_CUP}]
    (answer,) = remote.segment_batch([coffee], [Lasso(AROUND_THE_CUP), Largest()], [LOW], "RGB")
    assert answer.prompts.tolist() == [0] * len(expected) + [1], "a prompt of no registered kind is answered here"
    assert "prompts" not in client.asked[1]
    pipeline.close()


@pytest.mark.usefixtures("registered")
def test_a_new_kind_in_the_ensemble(model: FastSAM, demo_onnx: Path, coffee: Path, expected: Segments) -> None:
    parameters = Parameters(_config(model, demo_onnx))
    before, after = Preprocess(parameters), Postprocess(parameters, Path())

    def request(*lasso: Sequence[int]) -> dict[str, NDArray[Any]]:
        asked = Question((Lasso(lasso),), LOW, "bits").to_json().encode()
        return {"PIXELS": load_image(coffee)[None], "PROMPT": np.array([[asked]], np.object_)}

    good, outside = before([request(*AROUND_THE_CUP), request([0, 0], [900, 0], [0, 9])])
    assert isinstance(outside, PromptError), "refused before the network runs"
    engine = open_engine(demo_onnx)
    raw = engine.run(good["images"])
    engine.close()
    outputs = {"output0": raw["detections"], "output1": raw["prototypes"], "IMAGE_SIZE": good["IMAGE_SIZE"]}
    (result,) = after([{**outputs, "PROMPT": request(*AROUND_THE_CUP)["PROMPT"]}])
    _assert_same(answers_from_tensors(result, ("object",))[0], expected)


def test_what_is_not_registered_is_not_sent() -> None:
    assert not kinds.is_registered(Lasso(AROUND_THE_CUP))
    assert not kinds.is_registered(Largest())
    with pytest.raises(PromptError, match="type Lasso cannot be sent"):
        Question((Lasso(AROUND_THE_CUP),)).to_json()
    with pytest.raises(PromptError, match=r"a prompt is {'lasso'"):
        Question.from_json('{"prompts": [{"lasso": []}]}', Limits())


@pytest.mark.usefixtures("registered")
def test_a_key_belongs_to_one_kind() -> None:
    again = type("Lasso", (Lasso,), {"__module__": Lasso.__module__, "__qualname__": Lasso.__qualname__})
    kinds.register(again)
    assert kinds.kind_of_key("lasso") is again, "a class that is defined again, as a cell of a notebook does"
    with pytest.raises(ParameterError, match=r"the key 'lasso' belongs to .*test_kinds\.Lasso; choose another"):
        kinds.register(type("Rope", (Lasso,), {}))
    with pytest.raises(ParameterError, match=r"the key 'points' belongs to .*\.points\.Points"):
        kinds.register(type("Dots", (Lasso,), {"key": "points"}))


@pytest.mark.parametrize("key", list(kinds._KINDS))
def test_each_kind_has_the_key_that_it_is_listed_under(key: str) -> None:
    kind = kinds.kind_of_key(key)
    assert kind.key == key
    assert kind.example.startswith(f'{{"{key}": ')


def test_the_list_of_kinds_loads_no_library() -> None:
    code = (
        "import sys, fastsam_deploy.runtime.prompts.kinds\n"
        "print({'cv2', 'PIL', 'tokenizers', 'onnxruntime', 'pycocotools'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_command_line_has_the_modes_of_points() -> None:
    """It states them again, as OpenCV would be imported for `--help` otherwise."""
    assert [mode.value for mode in PointsMode] == list(POINT_MODES)


def test_one_prompt_several_or_none() -> None:
    point, everything = Points([[1, 1]]), Everything()
    assert listed(None) == ()
    assert listed(point) == (point,)
    assert listed([point, everything]) == (point, everything)
    assert not looks_at_image([point, everything, Largest()])
    blind = SimpleNamespace(looks_at_image=True)
    assert not looks_at_image(blind)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda: PointMarks(np.zeros((2, 3)), np.ones(2, np.bool_)),
        lambda: PointMarks(np.zeros((2, 2)), np.ones(3, np.bool_)),
        lambda: BoxMarks(np.zeros((1, 2))),
        lambda: LineMark(np.zeros(2)),
    ],
)
def test_marks_of_another_shape_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()

"""The application without its page: what users do and what they get, on the shipped model."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastsam_deploy.runtime import Boxes, ModelError, ParameterError, Points, Segments, load_image
from fastsam_deploy.runtime.app.application import Application, Look, NetworkChoice
from fastsam_deploy.runtime.app.downloads import KINDS
from fastsam_deploy.runtime.app.models import SizedModel
from fastsam_deploy.runtime.app.prompt_state import MAX_PROMPTS, MODES
from fastsam_deploy.runtime.app.session import Sessions
from fastsam_deploy.runtime.app.view import View
from fastsam_deploy.runtime.drawing.overlay import draw_segments
from fastsam_deploy.runtime.opening import ModelSettings
from fastsam_deploy.runtime.spec import METADATA_KEY
from fastsam_deploy.runtime.stages.isolated import IsolatedLoader

CUP, SPOON, BESIDE = [285.0, 150.0], [365.0, 280.0], [20.0, 20.0]


@pytest.fixture(scope="module")
def model() -> Iterator[SizedModel]:
    with SizedModel(None, ModelSettings.from_keywords(imgsz=320)) as opened:
        yield opened


@pytest.fixture(scope="module")
def loader() -> Iterator[IsolatedLoader]:
    with IsolatedLoader() as opened:
        yield opened


@pytest.fixture
def application(model: SizedModel, loader: IsolatedLoader) -> Application:
    return Application(model, loader, sessions=Sessions(most=4), max_pixels=1_000_000)


@pytest.fixture(scope="module")
def everything(model: SizedModel, coffee: Path) -> Segments:
    return model.usual.segment(coffee)


def opened(application: Application, user: str, path: Path) -> View:
    *_, (view, photo) = application.open(user, path.name, path.read_bytes())
    assert photo is not None and photo.startswith("data:image/jpeg;base64,")
    return view


def layer_of(view: View) -> NDArray[np.uint8]:
    """(h, w, 4) RGBA."""
    assert view.layer is not None
    return np.asarray(Image.open(BytesIO(base64.b64decode(view.layer.partition(",")[2]))).convert("RGBA"))


def test_opening_says_what_it_does_and_shows_everything(
    application: Application, coffee: Path, everything: Segments
) -> None:
    views = [view for view, _ in application.open("a", "coffee.jpg", coffee.read_bytes())]
    assert [view.busy for view in views] == [True, True, False]
    assert views[0].status == "Reading coffee.jpg …"
    assert views[1].status == "Looking for everything in coffee.jpg, 600 × 400 pixels …"
    assert views[2].status.startswith(f"{len(everything)} objects found. The network took ")
    assert views[2].image == {"number": 1, "name": "coffee.jpg", "width": 600, "height": 400}
    assert [view.revision for view in views] == sorted({view.revision for view in views})


def test_the_layer_over_the_image_is_the_overlay(application: Application, coffee: Path, everything: Segments) -> None:
    layer, image = layer_of(opened(application, "a", coffee)).astype(float), load_image(coffee)
    opacity = layer[..., 3:] / 255
    over = image * (1 - opacity) + layer[..., :3] * opacity
    assert np.abs(over - draw_segments(image, everything)).max() <= 1.5  # rounding


def test_points_give_the_mask_of_the_python_call(application: Application, coffee: Path, everything: Segments) -> None:
    opened(application, "a", coffee)
    for point, label in ((CUP, True), (SPOON, True), (BESIDE, False)):
        view = application.act("a", {"point": point, "foreground": label, "image": view_number(application)})
    expected = everything.select(Points([CUP, SPOON, BESIDE], [1, 1, 0]))
    assert view.asked.mode == "points" and len(view.asked.points) == 3
    np.testing.assert_array_equal(layer_of(view)[..., 3] > 0, expected.masks.dense().any(0))
    assert view.status.startswith(f"1 object, {int(expected.areas[0]):,} pixels. Answered in ")


def view_number(application: Application) -> int:
    image = application.sessions.of("a").image
    assert image is not None
    return image.number


def test_boxes_give_the_masks_of_the_python_call(application: Application, coffee: Path, everything: Segments) -> None:
    opened(application, "a", coffee)
    application.act("a", {"box": [410, 327, 325, 235]})  # dragged from its lower right corner
    view = application.act("a", {"box": [195, 230, 255, 310]})
    expected = everything.select(Boxes([[325, 235, 410, 327], [195, 230, 255, 310]]))
    np.testing.assert_array_equal(layer_of(view)[..., 3] > 0, expected.masks.dense().any(0))


def test_modes_keep_their_prompts_and_undo_takes_steps_back(application: Application, coffee: Path) -> None:
    first = opened(application, "a", coffee)
    cup = application.act("a", {"point": CUP})
    application.act("a", {"box": [325, 235, 410, 327]})
    assert application.act("a", {"mode": "points"}).layer == cup.layer
    assert application.act("a", {"mode": "everything"}).layer == first.layer
    assert application.act("a", {"mode": "text"}).layer == ""
    assert application.act("a", {"undo": True}).layer == cup.layer
    back = application.act("a", {"undo": True})
    assert (back.asked.mode, back.layer) == ("everything", first.layer)
    assert application.act("a", {"undo": True}).layer == first.layer  # nothing is left to take back
    application.act("a", {"point": CUP})
    assert application.act("a", {"clear": True}).layer == first.layer
    assert application.act("a", {"undo": True}).layer == cup.layer


def test_the_network_runs_once_for_an_image(
    application: Application, coffee: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(application, "a", coffee)
    monkeypatch.setattr(Application, "_segmented", None)
    for action in ({"point": CUP}, {"box": [325, 235, 410, 327]}, {"undo": True}, {"mode": "everything"}):
        assert not application.act("a", action).failed
    assert application.download("a", "coco").download is not None


@pytest.mark.parametrize(
    "action",
    [
        {"point": [700, 20]},
        {"point": [1]},
        {"point": "ab"},
        {"point": [float("nan"), 3]},
        {"point": {"x": 3}},
        {"point": [10**400, 3]},
        {"box": [10, 10, 10, 20]},
        {"box": [1, 2, 3]},
        {"mode": "lasso"},
        {"text": 7},
        {"text": "x" * 5000},
        {"text": "a cup"},  # there is no CLIP
    ],
    ids=str,
)
def test_a_wrong_action_gives_a_message_and_changes_nothing(
    application: Application, coffee: Path, action: dict[str, object]
) -> None:
    opened(application, "a", coffee)
    before = application.act("a", {"point": CUP})
    failed = application.act("a", action)
    assert failed.failed and failed.status and failed.layer is None and failed.asked == before.asked
    after = application.act("a", {})
    assert (after.layer, after.asked) == (before.layer, before.asked)


def test_prompts_are_limited(application: Application, coffee: Path) -> None:
    opened(application, "a", coffee)
    session = application.sessions.of("a")
    session.asked = session.asked.with_point([3, 4], foreground=True)
    session.asked = type(session.asked)("points", session.asked.points * MAX_PROMPTS)
    assert application.act("a", {"point": CUP}).status == (
        f"{MAX_PROMPTS + 1} points, boxes or texts, expected at most {MAX_PROMPTS}; clear them first."
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xd8\xff and no more", "header cannot be read"), (b"hello", "photo.jpg"), (b"", "is empty")],
)
def test_a_broken_file_gives_a_message_and_the_image_stays(
    application: Application, coffee: Path, content: bytes, words: str
) -> None:
    opened(application, "a", coffee)
    before = application.act("a", {"point": CUP})
    *_, (view, photo) = application.open("a", "photo.jpg", content)
    assert view.failed and words in view.status and photo is None and view.image == before.image
    assert application.act("a", {}).layer == before.layer


def test_a_large_image_is_refused_by_its_header(application: Application) -> None:
    content = BytesIO()
    Image.new("1", (4000, 3000)).save(content, "PNG")
    *_, (view, _) = application.open("a", "large.png", content.getvalue())
    assert view.failed and "4000×3000 are 12,000,000 pixels, the limit is 1,000,000" in view.status


def test_users_do_not_see_each_other(application: Application, coffee: Path, cat: Path) -> None:
    """Many users at once, each with another image and other points, in threads."""
    expected = {
        user: (application.model.usual.segment(path), path)
        for user, path in (("a", coffee), ("b", cat), ("c", coffee), ("d", cat))
    }
    points = {"a": CUP, "b": [200.0, 150.0], "c": SPOON, "d": [300.0, 80.0]}
    layers: dict[str, NDArray[np.uint8]] = {}

    def use(user: str) -> None:
        opened(application, user, expected[user][1])
        for _ in range(5):
            application.act(user, {"point": points[user]})
            application.act(user, {"undo": True})
        layers[user] = layer_of(application.act(user, {"point": points[user]}))

    threads = [Thread(target=use, args=(user,)) for user in points]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for user, point in points.items():
        mask = expected[user][0].select(Points([point])).masks.dense().any(0)
        np.testing.assert_array_equal(layers[user][..., 3] > 0, mask)


def test_a_click_on_an_image_that_was_replaced_does_not_count(
    application: Application, coffee: Path, cat: Path
) -> None:
    number = (opened(application, "a", coffee).image or {})["number"]
    opened(application, "a", cat)
    assert application.act("a", {"point": CUP, "image": number}).asked.points == ()


def test_an_image_that_is_no_longer_kept_is_said(application: Application, coffee: Path) -> None:
    number = (opened(application, "a", coffee).image or {})["number"]
    for user in "bcde":
        application.sessions.of(user)
    assert len(application.sessions) == 4
    view = application.act("a", {"point": CUP, "image": number})
    assert view.failed and view.status == "this image is no longer kept on the server; open it again."


def test_sessions_end_with_time() -> None:
    now = [0.0]
    sessions = Sessions(most=9, seconds=60, clock=lambda: now[0])
    first, second = sessions.of("a"), sessions.of("b")
    now[0] = 50
    assert sessions.of("b") is second
    now[0] = 100
    assert sessions.of("b") is second and len(sessions) == 1 and sessions.of("a") is not first
    sessions.drop("a")
    assert len(sessions) == 1
    with pytest.raises(ParameterError, match="sessions is 0"):
        Sessions(most=0)


def test_settings_of_the_network_run_it_again(application: Application, coffee: Path) -> None:
    opened(application, "a", coffee)
    application.act("a", {"point": CUP})
    views = list(application.rerun("a", NetworkChoice(conf=0.1, iou=0.7, imgsz=448)))
    assert [view.busy for view in views] == [True, False] and len(views[-1].asked.points) == 1
    expected = application.model.at(448).segment(coffee, thresholds=type(application.model.usual.thresholds)(0.1, 0.7))
    image = application.sessions.of("a").image
    assert image is not None and image.everything == expected
    (*_, failed) = application.rerun("a", NetworkChoice(imgsz=333))
    assert failed.failed and "multiple of the network's stride" in failed.status
    assert application.sessions.of("a").image is image


def test_better_quality_and_contours(application: Application, coffee: Path, everything: Segments) -> None:
    opened(application, "a", coffee)
    view = application.act("a", {}, Look(better_quality=True, contours=False))
    layer = layer_of(view)
    np.testing.assert_array_equal(layer[..., 3] > 0, everything.masks.cleaned().dense().any(0))
    assert set(np.unique(layer[..., 3])) == {0, 128}  # tints alone


def test_files_to_take_away(application: Application, coffee: Path, everything: Segments) -> None:
    opened(application, "a", coffee)
    application.act("a", {"box": [325, 235, 410, 327]})
    expected = everything.select(Boxes([[325, 235, 410, 327]]))
    files = {}
    for kind in KINDS:
        view = application.download("a", kind)
        assert view.download is not None and view.status.startswith(f"Saved {view.download.name}, ")
        files[view.download.name] = view.download.content
    overlay = cv2.imdecode(np.frombuffer(files["coffee.overlay.jpg"], np.uint8), cv2.IMREAD_COLOR)
    assert overlay.shape == (400, 600, 3)
    cut = cv2.imdecode(np.frombuffer(files["coffee.cutout.png"], np.uint8), cv2.IMREAD_UNCHANGED)
    assert int((cut[..., 3] > 0).sum()) == int(expected.areas[0])
    document = json.loads(files["coffee.coco.json"])
    assert document["images"][0]["file_name"] == "coffee.jpg"
    assert [annotation["area"] for annotation in document["annotations"]] == expected.areas.tolist()
    assert len(files["coffee.txt"].splitlines()) == 1
    labels = cv2.imdecode(np.frombuffer(files["coffee.labelmap.png"], np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(labels > 0, expected.masks.full(0))


def test_what_cannot_be_saved_is_said(application: Application, coffee: Path) -> None:
    assert application.download("a", "coco").status == "nothing to save yet; open an image first."
    opened(application, "a", coffee)
    application.act("a", {"mode": "points"})
    assert application.download("a", "cutout").failed
    assert application.download("a", "exe").failed


def test_texts_are_answered_where_there_is_a_clip(loader: IsolatedLoader, coffee: Path) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra [clip]")
    clip = Path(__file__).resolve().parents[2] / "data/clip-tiny"
    with SizedModel(None, ModelSettings.from_keywords(imgsz=320), clip) as model:
        application = Application(model, loader)
        opened(application, "a", coffee)
        view = application.act("a", {"text": "a cup, a spoon, "})
        assert model.answers_texts and view.asked.mode == "text" and view.asked.texts == ("a cup", "a spoon")
        assert view.status.startswith("2 objects, ")
        assert model.at(448).clip is model.usual.clip


def test_a_model_of_fixed_size_has_one_size(demo_onnx: Path, tmp_path: Path, loader: IsolatedLoader, cat: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra [direct]")
    network = onnx.load(demo_onnx)
    for dimension in network.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_value = 320
    (spec,) = (entry for entry in network.metadata_props if entry.key == METADATA_KEY)
    spec.value = json.dumps({**json.loads(spec.value), "size_hw": [320, 320]})
    onnx.save(network, tmp_path / "fixed.onnx")
    with SizedModel(tmp_path / "fixed.onnx", ModelSettings()) as fixed:
        assert fixed.sizes is None and fixed.at(640) is fixed.usual
        assert opened(Application(fixed, loader), "a", cat).image is not None


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_any_engine(engine: str, loader: IsolatedLoader, cat: Path) -> None:
    pytest.importorskip(engine, reason=f"needs the extra of {engine}")
    with SizedModel(None, ModelSettings.from_keywords(imgsz=320, engine=engine, precision="fp32")) as model:
        view = opened(Application(model, loader), "a", cat)
        assert model.usual.description["engine"] == engine
        assert view.status.startswith(f"{len(model.usual.segment(cat))} object")


def test_a_model_has_the_sizes_that_the_network_takes(model: SizedModel) -> None:
    assert model.sizes is not None and model.sizes.usual == 320 and 640 % model.sizes.step == 0
    assert model.at(None) is model.at(320) is model.usual and model.at(640).imgsz == 640
    with pytest.raises(ModelError, match="no such"):
        SizedModel("missing.onnx", ModelSettings())


def test_the_modes_are_those_of_the_page() -> None:
    page = pytest.importorskip("fastsam_deploy.runtime.app.page", reason="needs the extra [app]")
    assert [mode for _, mode in page._MODES] == list(MODES)

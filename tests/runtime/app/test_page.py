"""The page in a real Chromium, driven as people use it, on a server of its own."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastsam_deploy.runtime import Boxes, Points, Segments, Thresholds
from fastsam_deploy.runtime.app.models import SizedModel
from fastsam_deploy.runtime.app.serve import ServerSettings, served
from fastsam_deploy.runtime.opening import ModelSettings

pytest.importorskip("gradio", reason="needs the extra [app]")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium on PATH: apt-get install chromium", allow_module_level=True)

CLIP = Path(__file__).resolve().parents[2] / "data/clip-tiny"
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-default-apps", "--disable-extensions"),
    *("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
"""The last ones keep Chromium from looking anything up itself."""
CUP, SPOON, BESIDE = (285, 150), (365, 280), (20, 20)
MAX_UPLOAD_BYTES = 3_000_000


@pytest.fixture(scope="module")
def model() -> Iterator[SizedModel]:
    pytest.importorskip("tokenizers", reason="needs the extra [clip]")
    with SizedModel(None, ModelSettings.from_keywords(imgsz=320), CLIP) as opened:
        yield opened


@pytest.fixture(scope="module")
def url(model: SizedModel) -> Iterator[str]:
    with served(model, ServerSettings(max_upload_bytes=MAX_UPLOAD_BYTES, max_pixels=4_000_000)) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def everything(model: SizedModel, coffee: Path) -> Segments:
    return model.usual.segment(coffee)


class User:
    """Somebody with the page open."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **context})
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.faults: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.page.goto(url)
        self.page.wait_for_selector("#fastsam-canvas .frame")

    def after(self, action: Callable[[], object]) -> User:
        """Do something and wait for the answer of the server."""
        state = "document.querySelector('#fastsam-canvas [data-revision]')?.dataset.revision ?? '0'"
        before = int(self.page.evaluate(state))
        action()
        self.page.wait_for_function(f"Number({state}) > {before} && !document.querySelector('.status.busy')")
        return self

    def open(self, path: Path) -> User:
        return self.after(lambda: self.page.set_input_files("#fastsam-open ~ input[type=file], input[type=file]", path))

    def at(self, xy: tuple[float, float], hw: tuple[int, int] = (400, 600)) -> tuple[float, float]:
        """Where a pixel of the image is in the window."""
        box = self.page.locator(".stage").bounding_box()
        return box["x"] + box["width"] * (xy[0] + 0.5) / hw[1], box["y"] + box["height"] * (xy[1] + 0.5) / hw[0]

    def click(self, xy: tuple[float, float], button: str = "left", hw: tuple[int, int] = (400, 600)) -> User:
        return self.after(lambda: self.page.mouse.click(*self.at(xy, hw), button=button))

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> User:
        def move() -> None:
            self.page.mouse.move(*self.at(start))
            self.page.mouse.down()
            self.page.mouse.move(*self.at(end), steps=4)
            self.page.mouse.up()

        return self.after(move)

    def press(self, name: str) -> User:
        return self.after(lambda: self.page.click(f"#fastsam-{name}"))

    def mode(self, label: str) -> User:
        return self.after(lambda: self.page.get_by_label(label, exact=True).check())

    @property
    def status(self) -> str:
        return str(self.page.text_content(".status"))

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(h, w), where the layer is not transparent."""
        source = self.page.get_attribute(".layer", "src") or ""
        picture = Image.open(BytesIO(base64.b64decode(source.partition(",")[2])))
        return np.asarray(picture.convert("RGBA"))[..., 3] > 0

    @property
    def points(self) -> list[list[float]]:
        """x and y of the marks, as they were sent."""
        marks: list[list[float]] = self.page.eval_on_selector_all(
            ".mark", "nodes => nodes.map(node => [Number(node.dataset.x), Number(node.dataset.y)])"
        )
        return marks

    def save(self, kind: str) -> tuple[str, bytes]:
        with self.page.expect_download() as waiting:
            self.page.click(f"#fastsam-{kind}")
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


@pytest.fixture
def user(browser: Any, url: str) -> Iterator[User]:
    opened = User(browser, url)
    yield opened
    opened.context.close()
    assert opened.faults == []
    assert opened.hosts == {url.split("/")[2]}, "the page asked another host"


def expected(segments: Segments) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = segments.masks.dense().any(0)
    return mask


def test_clicks_give_the_mask_of_the_python_call(user: User, coffee: Path, everything: Segments) -> None:
    user.open(coffee)
    assert user.status.startswith(f"{len(everything)} objects found.")
    np.testing.assert_array_equal(user.mask, expected(everything))
    user.click(CUP).click(SPOON).click(BESIDE, "right")
    np.testing.assert_allclose(user.points, [CUP, SPOON, BESIDE], atol=1)
    np.testing.assert_array_equal(user.mask, expected(everything.select(Points(user.points, [1, 1, 0]))))
    assert "without the network" in user.status and user.page.is_checked("input[value=points]")
    user.press("undo")
    np.testing.assert_array_equal(user.mask, expected(everything.select(Points(user.points))))
    user.page.get_by_label("Clicks mark background").check()
    user.click(SPOON)
    np.testing.assert_array_equal(user.mask, expected(everything.select(Points(user.points, [1, 1, 0]))))
    user.press("clear")
    np.testing.assert_array_equal(user.mask, expected(everything))


def test_boxes_modes_and_undo(user: User, coffee: Path, everything: Segments) -> None:
    user.open(coffee).drag((410, 327), (325, 235))
    assert user.page.is_checked("input[value=boxes]")
    (box,) = user.page.eval_on_selector_all(".rectangle", "nodes => nodes.map(node => node.dataset.box.split(','))")
    boxes = Boxes(np.array([box], float))
    np.testing.assert_allclose(boxes.xyxy, [[325, 235, 410, 327]], atol=1)
    np.testing.assert_array_equal(user.mask, expected(everything.select(boxes)))
    user.page.mouse.click(*user.at((195, 230)))  # the first corner
    user.click((255, 310))
    assert user.page.locator(".rectangle").count() == 2 and user.status.startswith("2 objects, ")
    both = user.mask
    user.mode("Everything")
    np.testing.assert_array_equal(user.mask, expected(everything))
    user.mode("Boxes")
    np.testing.assert_array_equal(user.mask, both)
    user.press("undo")
    np.testing.assert_array_equal(user.mask, expected(everything.select(boxes)))


def test_keys_do_what_the_mouse_does(user: User, coffee: Path, everything: Segments) -> None:
    keys = user.open(coffee).page.keyboard
    user.page.focus("#fastsam-open")
    while user.page.evaluate("document.activeElement.className") != "stage":
        keys.press("Shift+Tab")
    assert user.page.locator(".cross:not([hidden])").count() == 1
    for key in ("ArrowUp", "ArrowUp", "Shift+ArrowUp", "ArrowLeft"):
        keys.press(key)
    user.after(lambda: keys.press("Enter"))
    np.testing.assert_allclose(user.points, [[294, 158]], atol=0.1)
    np.testing.assert_array_equal(user.mask, expected(everything.select(Points(user.points))))
    keys.press("ArrowDown")
    user.after(lambda: keys.press("b"))
    assert user.page.locator(".mark.background").count() == 1
    user.after(lambda: keys.press("Control+z"))
    assert user.page.locator(".mark.background").count() == 0
    user.after(lambda: keys.press("c"))
    np.testing.assert_array_equal(user.mask, expected(everything))


def test_two_users_at_once(user: User, browser: Any, url: str, coffee: Path, cat: Path, model: SizedModel) -> None:
    other = User(browser, url)
    user.open(coffee)
    other.open(cat)
    cats = model.usual.segment(cat)
    user.click(CUP)
    other.click((200, 150), hw=(300, 451))
    user.click(SPOON)
    np.testing.assert_array_equal(user.mask, expected(model.usual.segment(coffee).select(Points(user.points))))
    np.testing.assert_array_equal(other.mask, expected(cats.select(Points(other.points))))
    other.context.close()
    assert other.faults == []


def test_files_that_cannot_be_opened_lose_nothing(user: User, coffee: Path, tmp_path: Path) -> None:
    user.open(coffee).click(CUP)
    before = user.mask
    (tmp_path / "broken.jpg").write_bytes(coffee.read_bytes()[:300])
    user.open(tmp_path / "broken.jpg")
    assert "broken.jpg" in user.status and user.page.locator(".status.failed").count() == 1
    np.testing.assert_array_equal(user.mask, before)
    with Image.new("1", (3000, 2000)) as picture:
        picture.save(tmp_path / "large.png")
    user.open(tmp_path / "large.png")
    assert "6,000,000 pixels, the limit is 4,000,000" in user.status
    (tmp_path / "heavy.bmp").write_bytes(bytes(MAX_UPLOAD_BYTES + 10))
    user.page.set_input_files("input[type=file]", tmp_path / "heavy.bmp")  # the browser does not send it
    user.page.wait_for_selector("text=/exceed the maximum allowed size/")
    user.click(SPOON)
    assert len(user.points) == 2


def test_the_server_has_the_limits_too(url: str) -> None:
    """Of requests that do not come from the page: they are refused by what they say, before they are read."""
    for path, size in (("upload", MAX_UPLOAD_BYTES + 100_000), ("run/predict", 2_000_000)):
        connection = http.client.HTTPConnection(url.split("/")[2], timeout=60)
        connection.putrequest("POST", f"/gradio_api/{path}")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        assert connection.getresponse().status == 413
        connection.close()


def test_a_file_can_be_dropped_and_pasted(user: User, coffee: Path, everything: Segments) -> None:
    content = base64.b64encode(coffee.read_bytes()).decode()
    send = f"""(kind) => {{
      const bytes = Uint8Array.from(atob("{content}"), (letter) => letter.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], kind + ".jpg", {{ type: "image/jpeg" }}));
      const frame = document.querySelector(".frame");
      if (kind === "drop") frame.dispatchEvent(new DragEvent("drop", {{ dataTransfer: data }}));
      else document.dispatchEvent(new ClipboardEvent("paste", {{ clipboardData: data }}));
    }}"""
    for kind in ("drop", "paste"):
        user.after(lambda kind=kind: user.page.evaluate(send, kind))
        user.page.wait_for_selector(f".photo[alt='{kind}.jpg']")
        np.testing.assert_array_equal(user.mask, expected(everything))


def test_settings_texts_and_files(user: User, model: SizedModel, coffee: Path) -> None:
    user.after(lambda: user.page.click(".example >> nth=0"))
    user.page.wait_for_selector(".photo[alt='coffee.jpg']")
    user.page.click("text=Settings")

    def change(name: str, value: str) -> None:
        user.page.fill(f"#fastsam-{name} input[type=number]", value)
        user.page.press(f"#fastsam-{name} input[type=number]", "Enter")

    user.after(lambda: change("conf", "0.2"))
    user.after(lambda: change("imgsz", "448"))
    segments = model.at(448).segment(coffee, thresholds=Thresholds(0.2, 0.9))
    user.page.wait_for_function(f"document.querySelector('.status').textContent.startsWith('{len(segments)} objects')")
    np.testing.assert_array_equal(user.mask, expected(segments))
    rough = user.page.get_attribute(".layer", "src")
    user.after(lambda: user.page.get_by_label("Better quality").check())
    assert user.page.get_attribute(".layer", "src") != rough
    user.after(lambda: user.page.get_by_label("Better quality").uncheck())
    assert user.page.get_attribute(".layer", "src") == rough
    user.drag((325, 235), (410, 327))
    (area,) = user.page.evaluate("[document.querySelector('.status').textContent.match(/([\\d,]+) pixels/)[1]]")
    pixels = int(area.replace(",", ""))
    files = dict(user.save(kind) for kind in ("overlay", "cutout", "coco", "yolo", "labelmap"))
    assert cv2.imdecode(np.frombuffer(files["coffee.overlay.jpg"], np.uint8), -1).shape == (400, 600, 3)
    cut = cv2.imdecode(np.frombuffer(files["coffee.cutout.png"], np.uint8), -1)
    labels = cv2.imdecode(np.frombuffer(files["coffee.labelmap.png"], np.uint8), -1)
    assert (cut[..., 3] > 0).sum() == (labels > 0).sum() == pixels
    (annotation,) = json.loads(files["coffee.coco.json"])["annotations"]
    assert annotation["area"] == pixels and len(files["coffee.txt"].splitlines()) == 1
    user.page.fill("#fastsam-text textarea, #fastsam-text input", "a cup, a spoon")
    user.after(lambda: user.page.press("#fastsam-text textarea, #fastsam-text input", "Enter"))
    assert user.status.startswith("2 objects, ") and user.page.is_checked("input[value=text]")


def test_a_phone(browser: Any, url: str, coffee: Path) -> None:
    user = User(browser, url, viewport={"width": 375, "height": 740}, has_touch=True, is_mobile=True)
    user.open(coffee)
    wide = user.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 375, "the page is wider than the screen"
    user.after(lambda: user.page.touchscreen.tap(*user.at(CUP)))
    assert len(user.points) == 1 and user.page.is_checked("input[value=points]")
    user.mode("Boxes")
    user.page.locator(".stage").scroll_into_view_if_needed()
    user.page.touchscreen.tap(*user.at((325, 235)))
    user.after(lambda: user.page.touchscreen.tap(*user.at((410, 327))))
    assert user.page.locator(".rectangle").count() == 1
    user.context.close()
    assert user.faults == []


def test_dark_mode_follows_the_system(browser: Any, url: str) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        user = User(browser, url, color_scheme=scheme)
        user.page.wait_for_selector("#fastsam-undo")
        colors = user.page.evaluate(
            "[['body', 'backgroundColor'], ['.status', 'color']]"
            ".map(([name, part]) => getComputedStyle(document.querySelector(name))[part])"
        )
        brightness[scheme] = [sum(map(float, color[4:-1].split(",")[:3])) / 3 for color in colors]
        user.context.close()
    (light_page, light_text), (dark_page, dark_text) = brightness["light"], brightness["dark"]
    assert light_page > 200 and light_text < 90 and dark_page < 60 and dark_text > 160, brightness

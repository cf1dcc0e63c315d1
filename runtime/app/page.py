"""The page in Gradio: a canvas, and the controls around it. What they do is in `application`."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr

from ..stages.reading.formats import HEIF_SUFFIXES, SUFFIXES
from . import downloads
from .application import WELCOME, Application, Look, NetworkChoice
from .view import View, data_url

EXAMPLES = ("coffee.jpg", "cat.jpg")
"""Photographs in `assets`, to try the page on."""

_ASSETS = files("fastsam_deploy.runtime.app.assets")
_MODES = [("Everything", "everything"), ("Points", "points"), ("Boxes", "boxes"), ("Text", "text")]
_NETWORK = "network"  # runs one at a time: each uses all processors


class Page:
    """The parts of the page, and what happens when they are used.

    The key of a user is Gradio's key of an open page, which no other page knows.

    Example:
        >>> page = Page(application)  # doctest: +SKIP
        >>> page.blocks.launch()  # doctest: +SKIP
    """

    def __init__(self, application: Application, title: str = "FastSAM") -> None:
        """
        Args:
            application: answers the actions.
            title: of the page.
        """
        self._application = application
        with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(60, 600), fill_width=True) as self.blocks:
            gr.HTML(f"<h1>{escape(title)}</h1> <span>{escape(_described(application))}</span>", elem_id="fastsam-title")
            with gr.Row(equal_height=False):
                with gr.Column(scale=4, min_width=320):
                    self._canvas = _canvas()
                with gr.Column(scale=1, min_width=320):
                    self._add_controls()
            self._connect()

    def _add_controls(self) -> None:
        model = self._application.model
        self._open = gr.UploadButton(
            "Open an image",
            type="filepath",
            file_types=["image", *sorted(SUFFIXES | HEIF_SUFFIXES)],
            variant="primary",
            elem_id="fastsam-open",
        )
        modes = _MODES if model.answers_texts else _MODES[:-1]
        self._mode = gr.Radio(modes, value="everything", label="Show", elem_id="fastsam-mode")
        self._background = gr.Checkbox(False, label="Clicks mark background", elem_id="fastsam-background")
        self._text = gr.Textbox(
            label="Text", placeholder="a cup, a spoon", visible=model.answers_texts, elem_id="fastsam-text"
        )
        with gr.Row():
            self._undo = gr.Button("Undo", size="sm", min_width=80, elem_id="fastsam-undo")
            self._clear = gr.Button("Clear", size="sm", min_width=80, elem_id="fastsam-clear")
        usual = model.usual.thresholds
        with gr.Accordion("Settings", open=False, elem_id="fastsam-settings"):
            self._confidence = gr.Slider(0.01, 0.95, usual.conf, step=0.01, label="Confidence", elem_id="fastsam-conf")
            self._iou = gr.Slider(0.05, 1, usual.iou, step=0.05, label="IoU", elem_id="fastsam-iou")
            self._imgsz = _size_slider(self._application)
            self._better = gr.Checkbox(False, label="Better quality (slower)", elem_id="fastsam-better")
            self._contours = gr.Checkbox(True, label="Contours", elem_id="fastsam-contours")
        gr.HTML("Save what is shown", elem_id="fastsam-save")
        self._downloads: dict[str, gr.Button] = {}
        with gr.Row(elem_id="fastsam-downloads"):
            for kind, (label, _) in downloads.KINDS.items():
                button = gr.Button(label, size="sm", min_width=60, elem_id=f"fastsam-{kind}")
                self._downloads[kind] = button

    def _connect(self) -> None:
        """Every action gives the canvas another value; those that may change the mode give it to the switch too."""
        network, look = [self._confidence, self._iou, self._imgsz], [self._better, self._contours]
        shown = [self._canvas, self._mode]
        slow: dict[str, Any] = {"concurrency_id": _NETWORK, "concurrency_limit": 1, "show_progress": "minimal"}
        fast: dict[str, Any] = {"queue": False, "show_progress": "hidden", "trigger_mode": "multiple"}
        slow["api_visibility"] = fast["api_visibility"] = "private"
        self._open.upload(self._opened, [self._open, *network, *look], shown, **slow)
        self._canvas.example(self._example, [*network, *look], shown, **slow)
        for setting in network:
            setting.input(self._rerun, [*network, *look], [self._canvas], trigger_mode="always_last", **slow)
        self._canvas.act(self._act, look, shown, **fast)
        self._mode.input(self._act_mode, [self._mode, *look], shown, **fast)
        self._text.submit(self._act_text, [self._text, *look], shown, show_progress="minimal", api_visibility="private")
        self._undo.click(self._act_undo, look, shown, **fast)
        self._clear.click(self._act_clear, look, shown, **fast)
        for choice in look:
            choice.input(self._act_look, look, shown, **fast)
        for kind, button in self._downloads.items():
            button.click(self._saver(kind), look, [self._canvas], **fast)
        self.blocks.unload(self._left)

    def _opened(
        self, path: str, conf: float, iou: float, imgsz: int, better: bool, contours: bool, request: gr.Request
    ) -> Iterator[tuple[Any, Any]]:
        file, choice = Path(path), NetworkChoice(conf, iou, imgsz)
        yield from self._open_file(file.name, file, choice, Look(better, contours), request)

    def _example(
        self,
        conf: float,
        iou: float,
        imgsz: int,
        better: bool,
        contours: bool,
        event: gr.EventData,
        request: gr.Request,
    ) -> Iterator[tuple[Any, Any]]:
        number = _sent(event).get("number")
        name = EXAMPLES[number] if isinstance(number, int) and 0 <= number < len(EXAMPLES) else EXAMPLES[0]
        content = (_ASSETS / name).read_bytes()
        yield from self._open_file(name, content, NetworkChoice(conf, iou, imgsz), Look(better, contours), request)

    def _open_file(
        self, name: str, source: Path | bytes, choice: NetworkChoice, look: Look, request: gr.Request
    ) -> Iterator[tuple[Any, Any]]:
        for view, photo in self._application.open(_user(request), name, source, choice, look):
            changed = {} if photo is None else {"photo": photo}
            yield gr.HTML(value=view.to_json(), **changed), view.asked.mode

    def _rerun(
        self, conf: float, iou: float, imgsz: int, better: bool, contours: bool, request: gr.Request
    ) -> Iterator[Any]:
        choice, look = NetworkChoice(conf, iou, imgsz), Look(better, contours)
        for view in self._application.rerun(_user(request), choice, look):
            yield view.to_json()

    def _act(self, better: bool, contours: bool, event: gr.EventData, request: gr.Request) -> tuple[Any, Any]:
        action = _sent(event).get("action")
        return self._answer(action if isinstance(action, dict) else {}, better, contours, request)

    def _act_mode(self, mode: str, better: bool, contours: bool, request: gr.Request) -> tuple[Any, Any]:
        return self._answer({"mode": mode}, better, contours, request)

    def _act_text(self, text: str, better: bool, contours: bool, request: gr.Request) -> tuple[Any, Any]:
        return self._answer({"text": text}, better, contours, request)

    def _act_undo(self, better: bool, contours: bool, request: gr.Request) -> tuple[Any, Any]:
        return self._answer({"undo": True}, better, contours, request)

    def _act_clear(self, better: bool, contours: bool, request: gr.Request) -> tuple[Any, Any]:
        return self._answer({"clear": True}, better, contours, request)

    def _act_look(self, better: bool, contours: bool, request: gr.Request) -> tuple[Any, Any]:
        return self._answer({}, better, contours, request)

    def _answer(
        self, action: dict[str, Any], better: bool, contours: bool, request: gr.Request
    ) -> tuple[dict[str, Any], str]:
        view: View = self._application.act(_user(request), action, Look(better, contours))
        return view.to_json(), view.asked.mode

    def _saver(self, kind: str) -> Any:
        def save(better: bool, contours: bool, request: gr.Request) -> dict[str, Any]:
            return self._application.download(_user(request), kind, Look(better, contours)).to_json()

        return save

    def _left(self, request: gr.Request) -> None:
        self._application.sessions.drop(_user(request))


def page_css() -> str:
    """The style of what lies around the canvas.

    Example:
        >>> "fastsam-title" in page_css()
        True
    """
    return _asset("page.css")


def _canvas() -> gr.HTML:
    thumbnails = "".join(
        f'<button type="button" class="example" data-number="{number}" title="{name}">'
        f'<img alt="example: {name}" src="{data_url("image/jpeg", (_ASSETS / name).read_bytes())}"></button>'
        for number, name in enumerate(EXAMPLES)
    )
    html = _asset("canvas.html").replace("@examples", thumbnails).replace("@welcome", WELCOME)
    return gr.HTML(
        value=None,
        html_template=html,
        css_template=_asset("canvas.css"),
        js_on_load=_asset("canvas.js"),
        apply_default_css=False,
        elem_id="fastsam-canvas",
        photo="",
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _size_slider(application: Application) -> gr.Slider:
    """Of a model of one size it can be seen, and not moved."""
    usual, sizes = application.model.usual.imgsz, application.model.sizes
    lowest, highest, step = (usual, usual + 1, 1) if sizes is None else (sizes.lowest, sizes.highest, sizes.step)
    label = "Input size (pixels of the longest side)" if sizes else "Input size (fixed by the model)"
    return gr.Slider(
        lowest, highest, usual, step=step, label=label, interactive=sizes is not None, elem_id="fastsam-imgsz"
    )


def _described(application: Application) -> str:
    model = application.model.usual
    known = model.description
    name = known.get("file") or known.get("address") or "model"
    return " · ".join(map(str, (Path(str(name)).name, known.get("engine", ""), model.device)))


def _sent(event: gr.EventData) -> dict[str, Any]:
    """What the canvas has sent with its event, or somebody in its name."""
    data = event._data
    return data if isinstance(data, dict) else {}


def _user(request: gr.Request) -> str:
    return str(request.session_hash)

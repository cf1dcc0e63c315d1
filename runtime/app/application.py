"""The application without its page: actions of users, and what each of them sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..drawing.layer import layer_png
from ..errors import FastSamError
from ..pipeline import FastSAM
from ..segments import Segments
from ..settings import Thresholds
from ..stages.image import ImageFile, ImageLoader
from ..stages.reading.opening import EncodedSource
from .downloads import Shown, download
from .models import SizedModel
from .prompt_state import PromptState
from .session import OpenImage, Session, Sessions
from .view import LONGEST_PX, View, data_url, described, photo_url

MAX_PIXELS = 25_000_000
"""Default limit of an image: 75 MB as RGB, which each session keeps."""

WELCOME = "Open an image, drop one here, or try an example."


@dataclass(frozen=True)
class NetworkChoice:
    """How the network runs. Another value makes it run again.

    Attributes:
        conf, iou: see `FastSAM`.
        imgsz: longest side of the network's input, pixels; None: that of the model.

    Example:
        >>> NetworkChoice().conf
        0.4
    """

    conf: float = 0.4
    iou: float = 0.9
    imgsz: int | None = None


@dataclass(frozen=True)
class Look:
    """How segments are shown, on the page and in files.

    Attributes:
        better_quality: close gaps in masks and remove specks.
        contours: outline the segments.

    Example:
        >>> Look(contours=False).better_quality
        False
    """

    better_quality: bool = False
    contours: bool = True


class Application:
    """Answers the actions of any number of users at once, each with a session of its own.

    An action that fails changes nothing but the status: image, prompts and segments stay.

    Example:
        >>> application = Application(SizedModel(None, ModelSettings()), IsolatedLoader())  # doctest: +SKIP
        >>> *progress, view = application.open("me", "cat.jpg", content)  # doctest: +SKIP
        >>> application.act("me", {"point": [120, 80]}).status  # doctest: +SKIP
        '1 object, 9,876 pixels. Answered in 6 ms from the segments, without the network.'
    """

    def __init__(
        self, model: SizedModel, loader: ImageLoader, *, sessions: Sessions | None = None, max_pixels: int = MAX_PIXELS
    ) -> None:
        """
        Args:
            model: open; it is not closed with this object.
            loader: reads the files of users.
            sessions: of the users; None: with the default limits.
            max_pixels: limit of width × height of an image.
        """
        self.model, self.sessions = model, Sessions() if sessions is None else sessions
        self._loader, self._max_pixels = loader, max_pixels
        self._revisions, self._numbers = count(1), count(1)

    def open(
        self,
        user: str,
        name: str,
        source: EncodedSource,
        choice: NetworkChoice = NetworkChoice(),
        look: Look = Look(),
    ) -> Iterator[tuple[View, str | None]]:
        """Read an image, run the network and show everything; says what it does meanwhile.

        Args:
            user: key of the session.
            name: of the file.
            source: the file, not decoded.
            choice: how the network runs.
            look: how segments are shown.

        Yields:
            What to show, and the image as a `data:` URL where it is another one.
        """
        start, session = perf_counter(), self.sessions.of(user)
        yield self._progress(session, f"Reading {name} …"), None
        try:
            pixels = self._loader.load_image(ImageFile(source), max_pixels=self._max_pixels, name=name)
            height, width = pixels.shape[:2]
            yield self._progress(session, f"Looking for everything in {name}, {width} × {height} pixels …"), None
            image = self._segmented(name, pixels, choice)
        except FastSamError as error:
            yield self._failure(session, error), None
            return
        session = self.sessions.of(user)
        with session.lock:
            session.show(image)
        yield self._view(session, look, start), photo_url(pixels)

    def rerun(self, user: str, choice: NetworkChoice, look: Look = Look()) -> Iterator[View]:
        """Run the network on the open image with other settings. The prompts stay.

        Yields:
            What to show.
        """
        start, session = perf_counter(), self.sessions.of(user)
        image = session.image
        if image is None:
            yield self._progress(session, WELCOME, busy=False)
            return
        yield self._progress(session, f"Looking for everything in {image.name} with these settings …")
        try:
            other = self._segmented(image.name, image.pixels, choice)
        except FastSamError as error:
            yield self._failure(session, error)
            return
        with session.lock:
            if session.image is image:  # not another one, opened meanwhile
                session.image = replace(other, number=image.number)
        yield self._view(session, look, start)

    def act(self, user: str, action: Mapping[str, Any], look: Look = Look()) -> View:
        """Answer an action from the segments; the network does not run.

        Args:
            user: key of the session.
            action: see `PromptState.after`; {"undo": True}; or {} to show the same in another way. "image" is the
                number of the image that it is about.
            look: how segments are shown.
        """
        start, session = perf_counter(), self.sessions.of(user)
        with session.lock:
            if session.image is None:
                return self._without_image(session, action)
            if action.get("image") not in (None, session.image.number):
                return self._view(session, look, start)  # a click on the image before
            before, earlier = session.asked, session.earlier
            try:
                _apply(session, action)
                return self._view(session, look, start)
            except FastSamError as error:
                session.asked, session.earlier = before, earlier
                return self._failure(session, error)

    def download(self, user: str, kind: str, look: Look = Look()) -> View:
        """What is shown, as a file.

        Args:
            user: key of the session.
            kind: one of `downloads.KINDS`.
            look: how segments are shown.
        """
        session = self.sessions.of(user)
        with session.lock:
            image, asked = session.image, session.asked
        if image is None:
            return self._failure(session, "nothing to save yet; open an image first")
        try:
            segments = _selected(image, asked, look)
            file = download(kind, Shown(image.name, image.pixels, segments, asked.prompt(), look.contours))
        except FastSamError as error:
            return self._failure(session, error)
        status = f"Saved {file.name}, {_bytes(len(file.content))}."
        return replace(self._view(session, look, perf_counter()), status=status, download=file)

    def _segmented(self, name: str, pixels: NDArray[np.uint8], choice: NetworkChoice) -> OpenImage:
        model: FastSAM = self.model.at(choice.imgsz)
        thresholds = Thresholds(choice.conf, choice.iou, model.thresholds.max_det)
        start = perf_counter()
        everything = model.segment(pixels, thresholds=thresholds)
        return OpenImage(next(self._numbers), name, pixels, everything, _ms_since(start))

    def _view(self, session: Session, look: Look, start: float) -> View:
        """What the session shows now. Raises FastSamError if the prompt cannot be answered."""
        with session.lock:
            image, asked = session.image, session.asked
        assert image is not None
        segments = _selected(image, asked, look)
        layer = data_url("image/png", layer_png(segments, LONGEST_PX, contours=look.contours)) if len(segments) else ""
        answer_ms = _ms_since(start)
        return View(
            next(self._revisions),
            _status(image, asked, segments, answer_ms),
            image=described(image),
            layer=layer,
            asked=asked,
            answer_ms=answer_ms,
        )

    def _progress(self, session: Session, status: str, *, busy: bool = True) -> View:
        """Another status over the same picture."""
        image = session.image
        return View(
            next(self._revisions),
            status,
            busy=busy,
            image=None if image is None else described(image),
            asked=session.asked,
        )

    def _failure(self, session: Session, error: FastSamError | str) -> View:
        return replace(self._progress(session, f"{error}.", busy=False), failed=True)

    def _without_image(self, session: Session, action: Mapping[str, Any]) -> View:
        if action.get("image") is None:
            return self._progress(session, WELCOME, busy=False)
        return self._failure(session, "this image is no longer kept on the server; open it again")


def _apply(session: Session, action: Mapping[str, Any]) -> None:
    """Raises PromptError, and leaves the session as it was, if the action does not fit."""
    if action.get("undo"):
        session.undo()
        return
    asked = session.asked.after(action)
    if "mode" in action:
        session.asked = asked  # nothing that undo would take back
    elif asked != session.asked:
        session.ask(asked)


def _selected(image: OpenImage, asked: PromptState, look: Look) -> Segments:
    """The segments that answer the prompt. Raises FastSamError."""
    prompt = asked.prompt()
    segments = image.everything[[]] if prompt is None else image.everything.select(prompt)
    return replace(segments, masks=segments.masks.cleaned()) if look.better_quality else segments


_HINTS = {
    "points": "Click on an object; with the right button, on what does not belong to it.",
    "boxes": "Drag a box around an object, or click on two of its corners.",
    "text": "Write what to look for: a cup, a spoon.",
}
"""Mode → what to do where nothing was asked for yet."""


def _status(image: OpenImage, asked: PromptState, segments: Segments, answer_ms: float) -> str:
    n = len(segments)
    counted = f"{n} object{'' if n == 1 else 's'}"
    if asked.mode == "everything":
        ran = f"The network took {image.network_ms:.0f} ms and does not run again for clicks."
        return f"{counted} found. {ran}" if n else f"Nothing found; a lower confidence finds more. {ran}"
    if asked.prompt() is None:
        return _HINTS[asked.mode]
    answered = f"Answered in {answer_ms:.0f} ms from the segments, without the network."
    if not n:
        return f"No object there; try another place, or a lower confidence. {answered}"
    return f"{counted}, {int(segments.areas.sum()):,} pixels. {answered}"


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} kB"


def _ms_since(start: float) -> float:
    return (perf_counter() - start) * 1000

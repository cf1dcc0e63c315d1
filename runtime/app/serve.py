"""The application as a server, from its start to its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ..errors import FastSamError, MissingDependencyError, ParameterError, pip_install
from ..stages.isolated import IsolatedLoader
from ..system.scratch import scratch_folder
from ..system.variables import variables
from .application import MAX_PIXELS, Application
from .guard import Guard
from .models import SizedModel
from .session import Sessions

_QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class ServerSettings:
    """Where the page is, and what it takes.

    Attributes:
        host: address to listen on; "0.0.0.0" for all of this machine.
        port: None: 7860, or the next one that is free.
        share: let others open the page through a server of Gradio.
        max_pixels: limit of width × height of an image.
        max_upload_bytes: limit of a file.
        sessions: users that are kept at once.
        session_seconds: that a user is kept without an action.

    Raises:
        ParameterError: a limit is not above 0, or the port is none.

    Example:
        >>> ServerSettings().host
        '127.0.0.1'
    """

    host: str = "127.0.0.1"
    port: int | None = None
    share: bool = False
    max_pixels: int = MAX_PIXELS
    max_upload_bytes: int = 50_000_000
    sessions: int = 32
    session_seconds: float = 1800.0

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_upload_bytes", "sessions", "session_seconds"):
            if not getattr(self, name) > 0:
                raise ParameterError(f"{name} is {getattr(self, name)}, expected a number above 0")
        if self.port is not None and not 1 <= self.port <= 65535:
            raise ParameterError(f"port is {self.port}, expected 1 to 65535, or none for the next one that is free")


@contextmanager
def served(
    model: SizedModel, settings: ServerSettings = ServerSettings(), *, opens_browser: bool = False
) -> Iterator[str]:
    """The page, while the block lasts.

    Files of users lie in a folder of this process, which is removed at the end, and no longer than ten minutes.

    Args:
        model: open; it is not closed.
        settings: of the server.
        opens_browser: open the page in the browser of this machine.

    Yields:
        The address of the page.

    Raises:
        MissingDependencyError: Gradio is not installed.
        FastSamError: the port is taken.

    Example:
        >>> with served(model) as url:  # doctest: +SKIP
        ...     print(url)
        http://127.0.0.1:7860/
    """
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        stack.enter_context(variables({**_QUIET, "GRADIO_TEMP_DIR": str(folder)}))
        pages = _pages()
        loader = stack.enter_context(IsolatedLoader())
        loader.start()
        sessions = Sessions(settings.sessions, settings.session_seconds)
        application = Application(model, loader, sessions=sessions, max_pixels=settings.max_pixels)
        blocks = pages.Page(application).blocks
        blocks.queue(max_size=4 * settings.sessions)
        stack.callback(blocks.close, verbose=False)
        yield _launched(pages, blocks, settings, opens_browser)


def until_interrupted() -> None:
    """Wait for Ctrl-C, or for the signal that ends the process.

    Example:
        >>> until_interrupted()  # doctest: +SKIP
    """
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def _pages() -> Any:
    try:
        from . import page
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"the web page: {error}; run: {pip_install('app')}") from error
    return page


def _launched(pages: Any, blocks: Any, settings: ServerSettings, opens_browser: bool) -> str:
    from starlette.middleware import Middleware

    try:
        _, local, public = blocks.launch(
            server_name=settings.host,
            server_port=settings.port,
            share=settings.share,
            inbrowser=opens_browser,
            prevent_thread_lock=True,
            quiet=True,
            max_file_size=settings.max_upload_bytes,
            allowed_paths=[],
            state_session_capacity=4 * settings.sessions,
            app_kwargs={"middleware": [Middleware(Guard, max_bytes=settings.max_upload_bytes)]},
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            pwa=False,
            footer_links=[],
            theme=_theme(),
            css=pages.page_css(),
        )
    except OSError as error:
        raise FastSamError(f"{settings.host}:{settings.port or 7860}: {error}; choose another --port") from error
    return str(public or local)


def _theme() -> Any:
    """Fonts of the system: none is loaded from anywhere. White text on the usual teal is hard to read."""
    import gradio

    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]
    theme = gradio.themes.Default(primary_hue="teal", font=fonts, font_mono=["ui-monospace", "monospace"])
    darker = {"button_primary_background_fill": "*primary_700", "button_primary_background_fill_hover": "*primary_800"}
    return theme.set(**darker, **{f"{name}_dark": value for name, value in darker.items()})

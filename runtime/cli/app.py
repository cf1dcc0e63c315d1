"""`fastsam app`: the web page. Gradio and what runs models are imported by the command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from .config import with_config
from .groups import with_groups
from .options import ModelOption, NetworkOptions, network_option, option

if TYPE_CHECKING:
    from ..app.serve import ServerSettings


@dataclass(frozen=True)
class PageOptions:
    """Where the page is, and what it takes from its users.

    Example:
        >>> PageOptions(max_upload=8).settings().max_upload_bytes
        8000000
    """

    host: Annotated[
        str, option("Address to listen on; 0.0.0.0 lets other machines in, without a password.", panel="Page")
    ] = "127.0.0.1"
    port: Annotated[int | None, option("Port. Default: 7860, or the next one that is free.", panel="Page")] = None
    open_browser: Annotated[bool, option("Open the page in the browser of this machine.", "--open", panel="Page")] = (
        False
    )
    share: Annotated[
        bool, option("Also give an address that anybody can open, through a server of Gradio.", "--share", panel="Page")
    ] = False
    max_upload: Annotated[float, option("Largest file, in megabytes.", metavar="MB", panel="Page")] = 50.0
    max_pixels: Annotated[float, option("Largest image, in megapixels.", metavar="MP", panel="Page")] = 25.0
    sessions: Annotated[
        int, option("Users whose images are kept at once; one more, and the oldest is dropped.", panel="Page")
    ] = 32
    minutes: Annotated[float, option("How long an image is kept after the last click.", panel="Page")] = 30.0

    def settings(self) -> ServerSettings:
        """The settings of the server. Raises ParameterError if a value is out of range."""
        from ..app.serve import ServerSettings

        return ServerSettings(
            host=self.host,
            port=self.port,
            share=self.share,
            max_pixels=int(self.max_pixels * 1e6),
            max_upload_bytes=int(self.max_upload * 1e6),
            sessions=self.sessions,
            session_seconds=60 * self.minutes,
        )


@with_config
@with_groups
def app(
    *,
    model: ModelOption = None,
    clip: Annotated[
        Path | None,
        network_option("CLIP model for texts, made by: fastsam-export clip.", "--clip", metavar="FOLDER"),
    ] = None,
    network: NetworkOptions,
    page: PageOptions,
) -> None:
    """Serve a web page: open an image, then click on objects. Only this machine can reach it, unless you say otherwise.

    Ends with Ctrl-C. Needs the extra named app, which brings Gradio.

    Example: fastsam app --model FastSAM-s --open
    """
    from ..app.models import SizedModel
    from ..app.serve import served, until_interrupted
    from ..batch.console import open_console, say

    settings, console = page.settings(), open_console(stderr=True)
    with (
        SizedModel(model, network.settings(), clip) as opened,
        served(opened, settings, opens_browser=page.open_browser) as url,
    ):
        say(console, f"fastsam: {url}  (Ctrl-C ends it)")
        until_interrupted()

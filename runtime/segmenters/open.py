"""Opening the segmenter for a model: its stages run in this process, on a server, or on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..clip.encoders import Clip
from ..connection import Connection, is_address, is_serve_address
from ..documents import quoted
from ..engines import network_on_server, open_client, open_device_network, open_engine, tried
from ..engines.interface import Engine
from ..engines.segmentation import SegmentationEngine
from ..errors import ParameterError
from ..settings import EngineSettings, refuse_settings
from .host import LocalSegmenter
from .interface import Segmenter
from .remote import RemoteSegmenter, segments_images

if TYPE_CHECKING:
    from ..cuda.network import DeviceNetwork
    from ..engines.triton.client import TritonClient
    from .device import DeviceSegmenter


def open_segmenter(
    model: str | Path | Engine,
    settings: EngineSettings,
    connection: Connection | None = None,
    *,
    imgsz: int | None = None,
    rect: bool | None = None,
    clip: Clip | None = None,
) -> Segmenter:
    """Open a segmenter whose stages run in this process or on a server.

    Example:
        >>> segmenter = open_segmenter("FastSAM-s.onnx", EngineSettings(threads=2))  # doctest: +SKIP
        >>> (segments,) = segmenter.segment_batch(["photo.jpg"], None, [Thresholds()], "RGB")  # doctest: +SKIP

    Args:
        model: path or address, see `open_network`; or an open engine, which is not closed with the segmenter.
        settings: of the engine. An open engine has its own: device and threads are ignored, all others refused.
        connection: settings for a server.
        imgsz, rect: see `FastSAM`.
        clip: for text prompts; it is not closed with the segmenter.

    Raises:
        See `FastSAM`.
    """
    _check_rect(rect)
    if is_serve_address(model):
        from .served import open_served

        return open_served(str(model), settings, connection, imgsz=imgsz, rect=rect, clip=clip)
    if is_address(model):
        return _on_server(open_client(str(model), settings, connection), imgsz, rect, clip)
    if connection is not None:
        raise ParameterError(f"connection is given, but {model} is not on a server; leave connection out")
    if isinstance(model, (str, Path)):
        engine, opened = open_engine(model, tried(Path(model), settings, imgsz)), True
    else:
        refuse_settings(settings, "an open engine", "it has its own:", {"device", "threads"})
        engine, opened = model, False
    return LocalSegmenter(engine, imgsz, rect is not False, owns_engine=opened, clip=clip)


def _on_server(client: TritonClient, imgsz: int | None, rect: bool | None, clip: Clip | None) -> Segmenter:
    """Open a segmenter whose stages all run on the server, or only the network."""
    if segments_images(client):
        return RemoteSegmenter(client, imgsz, rect, clip=clip)
    engine = SegmentationEngine(network_on_server(client))
    return LocalSegmenter(engine, imgsz, rect is not False, owns_engine=True, clip=clip, runs_at_once=client.in_flight)


def open_device_segmenter(
    model: str | Path | DeviceNetwork,
    settings: EngineSettings,
    *,
    imgsz: int | None = None,
    rect: bool | None = None,
    graphs: int = 8,
    clip: Clip | None = None,
    decoder: str | None = None,
) -> DeviceSegmenter:
    """Open a segmenter whose stages all run on a GPU.

    Example:
        >>> segmenter = open_device_segmenter("FastSAM-s.plan", EngineSettings("cuda"))  # doctest: +SKIP

    Args:
        model: path, see `open_device_network`; or an open network, which is not closed with the segmenter.
        settings: of the engine. An open network has its own: the device is ignored, all others are refused.
        imgsz, rect, graphs, decoder: see `TRTFastSAM`.
        clip: for text prompts; it is not closed with the segmenter.

    Raises:
        See `TRTFastSAM`.
    """
    _check_rect(rect)
    from .device import DeviceSegmenter

    if isinstance(model, (str, Path)):
        network, opened = open_device_network(model, settings), True
    else:
        refuse_settings(settings, model.name, "an open network has its own:", {"device"})
        network, opened = model, False
    more: dict[str, Any] = {"owns_network": opened, "clip": clip, "decoder": decoder}
    return DeviceSegmenter(network, imgsz, rect is not False, graphs=graphs, **more)


def _check_rect(rect: object) -> None:
    """Texts such as "no" would count as true."""
    if rect is not None and not isinstance(rect, bool):
        raise ParameterError(f"rect is {quoted(rect)}, expected True, False or None for the default")

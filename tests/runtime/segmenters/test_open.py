"""Which segmenter a model gets, what is opened for it, and that all of it is closed again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastsam_deploy.runtime import Clip, FastSAM, ModelError, ParameterError
from fastsam_deploy.runtime.engines import registry
from fastsam_deploy.runtime.segmenters.host import LocalSegmenter
from fastsam_deploy.runtime.segmenters.remote import RemoteSegmenter

TINY_CLIP = Path(__file__).resolve().parents[2] / "data/clip-tiny"
NETWORK = {
    "max_batch_size": 4,
    "input": [{"name": "images", "data_type": "TYPE_FP32", "dims": ["3", "-1", "-1"]}],
    "output": [
        {"name": "output0", "data_type": "TYPE_FP32", "dims": ["37", "-1"]},
        {"name": "output1", "data_type": "TYPE_FP32", "dims": ["32", "-1", "-1"]},
    ],
}
WHOLE = {
    "input": [{"name": "IMAGE"}],
    "parameters": {
        name: {"string_value": value}
        for name, value in {"fastsam_deploy": "{}", "imgsz": "640", "rect": "true"}.items()
    },
}


class Clients:
    """Stands in for `TritonClient`, and counts."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.opened = self.closed = 0
        self.in_flight = 5

    def __call__(self, address: Any, _: Any) -> Clients:
        self.address = address
        self.opened += 1
        return self

    def close(self) -> None:
        self.closed += 1


def served(monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]) -> Clients:
    clients = Clients(config)
    monkeypatch.setattr(registry, "import_module", lambda *_: SimpleNamespace(TritonClient=clients))
    return clients


def test_a_network_on_a_server_is_connected_to_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tritonclient")
    clients = served(monkeypatch, NETWORK)
    with FastSAM("grpc://there:8001/fastsam_engine") as model:
        assert isinstance(model._segmenter, LocalSegmenter)
        assert model._segmenter.for_stream()[1] == 5 + 2, "as many runs at once as the connection has under way"
        assert model.device == "there:8001"
    assert (clients.opened, clients.closed) == (1, 1)


def test_a_model_on_a_server_does_everything_there(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = served(monkeypatch, WHOLE)
    with FastSAM("http://there/fastsam") as model:
        assert isinstance(model._segmenter, RemoteSegmenter) and model.imgsz == 640
    assert (clients.opened, clients.closed) == (1, 1)


@pytest.mark.parametrize(
    "config",
    [{"input": [{"name": "x", "data_type": "TYPE_FP32", "dims": []}]}, {**NETWORK, "output": []}],
    ids=["no network", "another network"],
)
def test_what_is_no_model_of_ours_leaves_no_connection(monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]) -> None:
    pytest.importorskip("tritonclient")
    clients = served(monkeypatch, config)
    with pytest.raises((ModelError, KeyError)):
        FastSAM("grpc://there/other")
    assert (clients.opened, clients.closed) == (1, 1)


def test_a_connection_needs_a_server(demo_onnx: Path) -> None:
    from fastsam_deploy.runtime import Connection

    with pytest.raises(ParameterError, match=r"connection is given, but .* is not on a server"):
        FastSAM(demo_onnx, connection=Connection())


@pytest.fixture
def clips(monkeypatch: pytest.MonkeyPatch) -> list[Clip]:
    """Every CLIP that is opened."""
    opened: list[Clip] = []
    real = Clip.open

    def recorded(*arguments: Any) -> Clip:
        opened.append(real(*arguments))
        return opened[-1]

    monkeypatch.setattr(Clip, "open", recorded)
    return opened


def is_closed(clip: Clip) -> bool:
    try:
        clip.texts.encode(["a word"])
    except ModelError as error:
        return "closed" in str(error)
    return False


def test_the_clip_is_closed_where_the_network_cannot_be(
    demo_onnx: Path, monkeypatch: pytest.MonkeyPatch, clips: list[Clip]
) -> None:
    model = FastSAM(demo_onnx, clip=TINY_CLIP)

    def broken(_: Any) -> None:
        raise OSError("the engine does not end")

    monkeypatch.setattr(type(model._segmenter.engine), "close", broken)  # type: ignore[attr-defined]
    assert not is_closed(clips[0])
    with pytest.raises(OSError, match="the engine does not end"):
        model.close()
    assert is_closed(clips[0])


def test_the_clip_is_closed_where_the_network_cannot_be_opened(tmp_path: Path, clips: list[Clip]) -> None:
    with pytest.raises(ModelError, match="no such file"):
        FastSAM(tmp_path / "m.onnx", clip=TINY_CLIP)
    assert is_closed(clips[0])


def test_both_encoders_are_closed_where_one_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Clip.open(TINY_CLIP)
    first, second = clip._owned
    closed = []
    for network, fails in ((first, True), (second, True)):

        def close(network: Any = network, fails: bool = fails) -> None:
            closed.append(network)
            if fails:
                raise OSError(f"{network.name} does not end")

        monkeypatch.setattr(network, "close", close)
    with pytest.raises(OSError, match="does not end"):
        clip.close()
    assert set(closed) == {first, second}


def test_an_open_clip_stays_open(demo_onnx: Path) -> None:
    with Clip.open(TINY_CLIP) as clip:
        FastSAM(demo_onnx, clip=clip).close()
        assert not is_closed(clip)

"""Whatever an engine raises or gives is an error of this project, or an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastsam_deploy.runtime.engines import open_engine, open_network, registry
from fastsam_deploy.runtime.errors import ModelError, ParameterError
from fastsam_deploy.runtime.pipeline import FastSAM
from fastsam_deploy.runtime.settings import EngineSettings

from .toy import ENTRY, ToyNetwork

Outputs = tuple[NDArray[Any], NDArray[Any]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., FastSAM]:
    """A model whose network gives what a function makes of a right answer."""
    monkeypatch.setattr(registry, "ENGINES", (*registry.ENGINES, ENTRY))
    path = tmp_path / "square.toy"
    path.write_bytes(b"")

    def model(change: Callable[[NDArray[Any], NDArray[Any]], Outputs]) -> FastSAM:
        right = ToyNetwork.run

        def run(self: ToyNetwork, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
            return list(change(*right(self, feed, outputs)))

        monkeypatch.setattr(ToyNetwork, "run", run)
        return FastSAM(path, imgsz=64)

    return model


IMAGE = np.zeros((48, 64, 3), np.uint8)


def test_a_right_answer_passes(opened: Callable[..., FastSAM]) -> None:
    with opened(lambda detections, prototypes: (detections, prototypes)) as model:
        assert len(model.segment(IMAGE)) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda d, p: (d, p[:, :, ::2]), r"prototypes \(1, 32, 8, 16\)", id="half the prototypes"),
        pytest.param(lambda d, p: (d, p[:, :8]), r"prototypes \(1, 8, ", id="too few prototypes"),
        pytest.param(lambda d, p: (d[:, :36], p), r"detections \(1, 36, 8\)", id="too few rows"),
        pytest.param(lambda d, p: (d[0], p), r"detections \(37, 8\)", id="no batch"),
        pytest.param(lambda d, p: (d[:0], p[:0]), r"detections \(0, 37, 8\)", id="empty batch"),
        pytest.param(lambda d, p: (d.astype(np.int32), p), "int32", id="integers"),
        pytest.param(lambda d, p: (d, p.astype(np.uint8)), "uint8", id="integer prototypes"),
        pytest.param(lambda d, p: (d * 5, p), "scores are from 0 to 4.5; expected 0 to 1", id="scores above 1"),
        pytest.param(lambda d, p: (d - 3, p), "scores are from -3 ", id="logits"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(
    opened: Callable[..., FastSAM], change: Callable[..., Outputs], says: str
) -> None:
    with opened(change) as model, pytest.raises(ModelError, match=says):
        model.segment(IMAGE)


@pytest.mark.parametrize("kind", [RuntimeError, IndexError, MemoryError, UnicodeError, Exception])
def test_whatever_an_engine_raises_is_a_model_error(opened: Callable[..., FastSAM], kind: type[Exception]) -> None:
    def fail(*_: NDArray[Any]) -> Outputs:
        raise kind("out of\nmemory")

    with opened(fail) as model, pytest.raises(ModelError, match=rf"square.toy: .*{kind.__name__}: out of memory"):
        model.segment(IMAGE)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_what_an_engine_does_not_take_is_a_model_error(demo_onnx: Path, engine: str) -> None:
    pytest.importorskip(engine)
    image = np.zeros((1, 3, 64, 64), np.float32)
    with open_network(demo_onnx, EngineSettings(engine=engine)) as network:  # type: ignore[attr-defined]
        for feed, output in (({"other": image}, "output0"), ({"images": image}, "other"), ({"images": "x"}, "output0")):
            with pytest.raises(ModelError, match=r"fastsam-demo\.onnx: .*failed to run"):
                network.run(feed, [output])


def test_shapes_and_types_that_onnx_runtime_does_not_take_are_model_errors(demo_onnx: Path) -> None:
    with open_network(demo_onnx, EngineSettings(engine="onnxruntime")) as network:  # type: ignore[attr-defined]
        for image in (np.zeros((1, 3, 33, 47), np.float32), np.zeros((1, 3, 64, 64), np.float64)):
            with pytest.raises(ModelError, match=r"fastsam-demo\.onnx: failed to run"):
                network.run({"images": image}, ["output0"])


def test_an_empty_batch_is_refused(demo_onnx: Path) -> None:
    engine = open_engine(demo_onnx)
    with pytest.raises(ParameterError, match=r"network input is \(0, 3, 64, 64\)"):
        engine.run(np.zeros((0, 3, 64, 64), np.float32))
    engine.close()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_metadata_that_is_no_text_is_a_model_error(demo_onnx: Path, tmp_path: Path, engine: str) -> None:
    pytest.importorskip(engine)
    content = demo_onnx.read_bytes()
    path = tmp_path / "bytes.onnx"
    assert content.count(b"class_names") == 1
    path.write_bytes(content.replace(b"class_names", b"\xff\xfe\xfdss_names"))
    with pytest.raises(ModelError, match=r"bytes.onnx"):
        open_engine(path, EngineSettings(engine=engine))

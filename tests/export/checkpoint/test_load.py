"""Loading a `.pt`: what is good loads, what could run code is refused by name, what is broken says so."""

from __future__ import annotations

import collections
import os
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [export]: torch is not installed")
pytest.importorskip("ultralytics", reason="needs the extra [export]: ultralytics is not installed")

import torch
from torch import nn
from ultralytics.nn import modules
from ultralytics.nn.tasks import DetectionModel, SegmentationModel

from fastsam_deploy.export.checkpoint.find import find_checkpoint
from fastsam_deploy.export.checkpoint.load import load_checkpoint
from fastsam_deploy.export.errors import ExportError

pytestmark = pytest.mark.export


class Payload:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def test_the_demo_checkpoint_loads_and_is_the_network_that_torch_loads(
    demo_checkpoint: Path, photo_batch: np.ndarray
) -> None:
    found = load_checkpoint(demo_checkpoint)
    trusted = torch.load(demo_checkpoint, weights_only=False)
    network = (trusted.get("ema") or trusted["model"]).float().eval()
    assert type(found.network) is SegmentationModel
    assert [type(layer) for layer in found.network.modules()] == [type(layer) for layer in network.modules()]
    assert (found.stride, found.mask_dim, len(found.class_names)) == (32, 32, 1)
    assert found.license and "AGPL" in found.license
    with torch.no_grad():
        detections, prototypes = network(torch.from_numpy(photo_batch))[0]
    ours = found.run(photo_batch)
    np.testing.assert_array_equal(ours[0], detections.numpy())
    np.testing.assert_array_equal(ours[1], prototypes.numpy())


def test_a_restored_layer_can_be_made_anew(demo_checkpoint: Path) -> None:
    """The stand-ins without constructors are gone once the file is loaded."""
    found = load_checkpoint(demo_checkpoint)
    for layer in found.network.modules():
        assert type(layer).__module__.startswith(("torch.nn.", "ultralytics.nn.")), type(layer)


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        pytest.param(lambda mark: Payload(os.system, f"touch {mark}"), f"{os.name}.system", id="os.system"),
        pytest.param(lambda mark: Payload(eval, f"open({str(mark)!r}, 'w')"), "builtins.eval", id="eval"),
        pytest.param(lambda mark: Payload(exec, f"open({str(mark)!r}, 'w')"), "builtins.exec", id="exec"),
        pytest.param(lambda mark: Payload(getattr, nn.Conv2d, "__init__"), "getattr", id="getattr of a layer"),
        pytest.param(lambda mark: Payload(collections.deque, [1]), "collections.deque", id="harmless but unknown"),
        pytest.param(
            lambda mark: Payload(SegmentationModel, {"activation": f"open({str(mark)!r}, 'w')", "nc": 1}),
            "calls SegmentationModel",
            id="a network whose constructor evaluates text",
        ),
        pytest.param(lambda mark: Payload(nn.Conv2d, 3, 8, 1), "calls Conv2d", id="a layer that is called"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("archive", [True, False], ids=["zip", "bare pickle"])
def test_a_checkpoint_that_calls_something_is_refused_by_name_and_not_run(
    payload: Callable[[Path], Payload], named: str, protocol: int, archive: bool, tmp_path: Path
) -> None:
    mark, path = tmp_path / "was-run", tmp_path / "evil.pt"
    content = {"model": payload(mark)}
    if archive:
        torch.save(content, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(ExportError) as caught:
        load_checkpoint(path)
    assert not mark.exists()
    assert "evil.pt" in str(caught.value)
    # torch's loader reads protocol 2 only; of others, what is not allowed is still named.
    if (protocol == 2 and archive) or "." in named:
        assert named in str(caught.value)


def test_what_others_allowed_in_this_process_does_not_count(tmp_path: Path) -> None:
    """torch keeps one list of allowed globals; another library's entry must not become ours."""
    mark, path = tmp_path / "was-run", tmp_path / "evil.pt"
    torch.save({"model": Payload(SegmentationModel, {"activation": f"open({str(mark)!r}, 'w')", "nc": 1})}, path)
    with torch.serialization.safe_globals([SegmentationModel]), pytest.raises(ExportError, match="SegmentationModel"):
        load_checkpoint(path)
    assert not mark.exists()


def test_trust_loads_what_is_refused_without(demo_checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(demo_checkpoint, weights_only=False)
    content["notes"] = collections.deque(["anything"])
    path = tmp_path / "noted.pt"
    torch.save(content, path)
    with pytest.raises(ExportError, match=r"collections\.deque.*--trust"):
        load_checkpoint(path)
    assert load_checkpoint(path, trust=True).class_names == load_checkpoint(demo_checkpoint).class_names


def test_a_checkpoint_of_2023_loads(checkpoint_of_2023: tuple[Path, list[np.ndarray]], photo_batch: np.ndarray) -> None:
    path, expected = checkpoint_of_2023
    with zipfile.ZipFile(path) as archive:
        raw = archive.read("FastSAM-old/data.pkl")
    assert b"ultralytics.nn.modules\nConv\n" in raw  # it is indeed of the old kind
    assert b"getattr" in raw
    assert b"ultralytics.yolo.utils\nIterableSimpleNamespace" in raw
    found = load_checkpoint(path)
    assert type(found.network.model[0]) is modules.Conv
    for ours, reference in zip(found.run(photo_batch), expected, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda good, path: path.write_bytes(b""), "0 bytes", id="empty"),
        pytest.param(lambda good, path: path.write_bytes(good[: len(good) // 2]), "not a readable", id="cut short"),
        pytest.param(lambda good, path: path.write_bytes(good[:-40]), "not a readable", id="end missing"),
        pytest.param(lambda good, path: path.write_bytes(b"<html>404</html>" * 99), "not a readable", id="web page"),
        pytest.param(lambda good, path: path.write_bytes(os.urandom(5000)), "not a readable", id="noise"),
        # A number that no registry of pickle knows: ValueError, once met in the noise above.
        pytest.param(
            lambda good, path: path.write_bytes(b"\x84\xec\x80\x00\x00."), "not a readable", id="extension code"
        ),
        pytest.param(lambda good, path: zipfile.ZipFile(path, "w").close(), "data.pkl", id="empty zip"),
        pytest.param(lambda good, path: torch.save([1, 2], path), "holds a list", id="a list"),
        pytest.param(lambda good, path: torch.save({"epoch": 3}, path), "holds epoch", id="no network"),
        pytest.param(
            lambda good, path: torch.save(nn.Conv2d(3, 8, 1).state_dict(), path), "only weights", id="state dict"
        ),
        pytest.param(
            lambda good, path: torch.save({"model": nn.Conv2d(3, 8, 1).state_dict()}, path),
            "only weights",
            id="state dict under model",
        ),
        pytest.param(lambda good, path: torch.save({"model": nn.Conv2d(3, 8, 1)}, path), "Conv2d", id="one layer"),
        pytest.param(
            lambda good, path: torch.jit.trace(nn.ReLU(), torch.zeros(1)).save(path), "TorchScript", id="TorchScript"
        ),
    ],
)
@pytest.mark.parametrize("trust", [False, True])
def test_a_file_that_is_no_checkpoint_says_so(
    make: Callable[[bytes, Path], object], said: str, trust: bool, demo_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bad.pt"
    make(demo_checkpoint.read_bytes(), path)
    with pytest.raises(ExportError, match=r"bad\.pt") as caught:
        load_checkpoint(path, trust=trust)
    if not (trust and said in ("data.pkl", "TorchScript")):
        assert said in str(caught.value)


@pytest.mark.parametrize("trust", [False, True])
def test_a_detection_checkpoint_is_refused(save: Callable[..., Path], trust: bool) -> None:
    path = save(DetectionModel("yolov8n.yaml", nc=2, verbose=False))
    with pytest.raises(ExportError, match=r"DetectionModel.*have masks"):
        load_checkpoint(path, trust=trust)


def test_weights_that_are_not_numbers_are_refused(
    random_network: Callable[..., Any], save: Callable[..., Path]
) -> None:
    network = random_network("yolov8n-seg.yaml")
    network.model[3].conv.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ExportError, match=r"model\.3\.conv\.weight holds NaN"):
        load_checkpoint(save(network))


def test_names_that_do_not_fit_the_head_are_refused(
    random_network: Callable[..., Any], save: Callable[..., Path]
) -> None:
    network = random_network("yolov8n-seg.yaml", nc=3)
    network.names = {0: "one", 1: "two"}
    with pytest.raises(ExportError, match="names 2 classes, its head has 3"):
        load_checkpoint(save(network))


def test_the_averaged_network_is_taken_where_there_is_one(
    random_network: Callable[..., Any], save: Callable[..., Path]
) -> None:
    network, averaged = random_network("yolov8n-seg.yaml"), random_network("yolov8n-seg.yaml")
    averaged.names = {0: "averaged"}
    assert load_checkpoint(save(network, ema=averaged.half())).class_names == ("averaged",)


def test_a_missing_file_and_a_folder_say_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no such file.*FastSAM-s\.pt"):
        find_checkpoint(tmp_path / "mine.pt")
    with pytest.raises(ExportError, match="is a folder"):
        find_checkpoint(tmp_path)


def test_official_weights_without_a_connection_say_where_to_put_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there: no connection, on any machine
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    start = time.monotonic()
    with pytest.raises(ExportError) as caught:
        find_checkpoint("FastSAM-s.pt")
    assert time.monotonic() - start < 20
    assert str(tmp_path / "FastSAM-s.pt") in str(caught.value)
    assert "github.com/ultralytics/assets/releases" in str(caught.value)
    assert list(tmp_path.iterdir()) == []

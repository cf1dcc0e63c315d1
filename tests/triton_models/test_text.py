"""Text prompts on a real server: the models clip_image and clip_text, asked by fastsam and fastsam_device."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fastsam_deploy.runtime import Boxes, FastSAM, Points, PromptError, Segments, Text, load_image
from fastsam_deploy.runtime.cli.main import app

pytest.importorskip("tritonclient.grpc", reason="needs the extra [triton]")
pytest.importorskip("tokenizers", reason="needs the extra [clip]")
pytestmark = pytest.mark.triton

CLIP = Path(__file__).resolve().parents[1] / "data/clip-tiny"
MODELS = ("fastsam", "fastsam_device")


@pytest.fixture(scope="module")
def server(environment, demo_onnx, tmp_path_factory):
    from fastsam_deploy.export.triton.to_triton import build_repository
    from scripts.triton_server import Server

    folder = tmp_path_factory.mktemp("text")
    built = build_repository(demo_onnx, folder / "repository", clip=CLIP)
    assert {"clip_image", "clip_text"} <= set(built.models)
    models = (*MODELS, "clip_image", "clip_text")
    with Server(environment, built.path, models, log=folder / "log") as running:
        yield running


@pytest.fixture(scope="module")
def local() -> Iterator[FastSAM]:
    with FastSAM(clip=CLIP) as model:
        yield model


@pytest.fixture(scope="module", params=[(t, m) for t in ("grpc", "http") for m in MODELS], ids="-".join)
def remote(request, server) -> Iterator[FastSAM]:
    transport, model = request.param
    with FastSAM(f"{transport}://{getattr(server, transport)}/{model}") as opened:
        yield opened


@pytest.fixture
def plain(built, start):
    """A server without encoders."""
    return start(built)


def _same(found: Segments, wanted: Segments) -> None:
    assert len(found) == len(wanted) > 0
    np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=1e-3)
    np.testing.assert_array_equal(found.prompts, wanted.prompts)
    np.testing.assert_allclose(found.fits, wanted.fits, atol=1e-4)
    np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-3)
    assert ((found.masks.dense() ^ wanted.masks.dense()).sum((1, 2)) <= 1e-3 * wanted.areas + 1).all()


@pytest.mark.parametrize(
    "prompt",
    [
        Text("a cup of coffee"),
        Text(["a spoon", "the table", "a cup"], background="black", resize="reference", duplicate_iou=None),
        Text("a cup", mode="dense"),
        Text(["a cup", "a spoon"], max_masks=5, min_area_px=50),
        [Boxes([200, 60, 420, 260]), Text(["a cup", "a spoon"]), Points([[285, 150]], mode="each")],
    ],
    ids=["one", "several", "dense", "bounded", "joined"],
)
def test_same_answer_as_local(remote, local, coffee, prompt):
    _same(remote.segment(coffee, prompt), local.segment(coffee, prompt))


def test_the_command_line_asks_the_clip_of_the_server(server, coffee, tmp_path):
    address = f"grpc://{server.grpc}/fastsam"
    target = tmp_path / "found.jsonl"
    done = CliRunner().invoke(
        app, ["segment", str(coffee), "--model", address, "--text", "a cup", "--json", str(target)]
    )
    assert done.exit_code == 0, done.output
    (row,) = json.loads(target.read_text())["segments"]
    assert row["prompt"] == 0


def test_pixels_too(remote, local, coffee):
    image = load_image(coffee)
    _same(remote.segment(image, Text("a cup")), local.segment(image, Text("a cup")))


def test_without_text_nothing_changes(remote, local, coffee):
    found = remote.segment(coffee)
    assert np.isnan(found.probabilities).all()
    np.testing.assert_allclose(found.boxes_xyxy, local.segment(coffee).boxes_xyxy, atol=1e-3)


def test_errors(remote, coffee):
    with pytest.raises(PromptError, match="tokens"):
        remote.segment(coffee, Text("a very long text " * 40))
    assert len(remote.segment(coffee, Text("a very long text " * 40, truncate=True))) == 1


def test_a_server_without_encoders_says_so(plain, coffee):
    for model in MODELS:
        with FastSAM(f"grpc://{plain.grpc}/{model}") as remote, pytest.raises(PromptError, match="--clip"):
            remote.segment(coffee, Text("a cup"))


def test_encoders_of_the_client(plain, local, coffee):
    """Text prompts are answered by the client where it has the encoders; the server needs none."""
    with FastSAM(f"grpc://{plain.grpc}/fastsam", clip=CLIP) as remote:
        _same(remote.segment(coffee, Text("a cup")), local.segment(coffee, Text("a cup")))
        _same(remote.segment(coffee).select(Text("a spoon")), local.segment(coffee, Text("a spoon")))


def test_the_encoders_batch_crops(server, local, coffee):
    from tritonclient.grpc import InferenceServerClient

    statistics = InferenceServerClient(server.grpc).get_inference_statistics

    def counts() -> tuple[int, int]:
        (found,) = statistics("clip_image").model_stats
        return found.inference_count, found.execution_count

    with FastSAM(f"grpc://{server.grpc}/fastsam") as remote:
        before = counts()
        remote.segment(coffee, Text("a cup", duplicate_iou=None))
    crops, runs = (after - start for after, start in zip(counts(), before, strict=True))
    compared = int((local.segment(coffee).areas > 100).sum())
    assert crops == compared and runs <= -(-compared // 32)

"""`FastSAM("grpc://…")` and `http://`: the same answers as in this process, from a real server."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastsam_deploy.runtime import (
    Boxes,
    Connection,
    Everything,
    FastSAM,
    ImageError,
    ModelError,
    ParameterError,
    Points,
    PromptError,
    Segments,
    ServerError,
    Thresholds,
    Tiles,
    load_image,
)
from fastsam_deploy.runtime.app.application import Application
from fastsam_deploy.runtime.app.models import SizedModel
from fastsam_deploy.runtime.opening import ModelSettings
from fastsam_deploy.runtime.stages.isolated import IsolatedLoader

pytest.importorskip("tritonclient.grpc", reason="needs the extra [triton]")
pytestmark = pytest.mark.triton

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("fastsam", "fastsam_device", "fastsam_engine")


@pytest.fixture(scope="module")
def local() -> Iterator[FastSAM]:
    with FastSAM() as model:
        yield model


def _address(server, transport: str, model: str) -> str:
    return f"{transport}://{getattr(server, transport)}/{model}"


@pytest.fixture(scope="module", params=[(t, m) for t in ("grpc", "http") for m in MODELS], ids="-".join)
def remote(request, server) -> Iterator[FastSAM]:
    with FastSAM(_address(server, *request.param)) as model:
        yield model


def _same(found: Segments, wanted: Segments) -> None:
    np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=1e-3)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
    for name in ("classes", "prompts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    np.testing.assert_allclose(found.fits, wanted.fits, atol=1e-5)
    assert found.class_names == wanted.class_names
    assert found.image_hw == wanted.image_hw
    # Batches sum in another order: a pixel at the edge of a mask may fall to the other side.
    difference = (found.masks.dense() ^ wanted.masks.dense()).sum((1, 2))
    assert (difference <= 1e-3 * wanted.areas + 1).all(), difference


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        Points([[285, 150]]),
        Points([[285, 150], [60, 60], [5, 5]], [1, 1, 0], mode="each"),
        Points([[285, 150], [60, 60]], mode="all", clean=False),
        Boxes([[200, 60, 420, 260], [320, 230, 420, 330], [200, 60, 420, 260]]),
        [Boxes([200, 60, 420, 260]), Points([[285, 150]], mode="each"), Everything(), Boxes([320, 230, 420, 330])],
    ],
    ids=["everything", "merge", "each", "all", "boxes", "joined"],
)
def test_same_answer_as_local(remote, local, coffee, prompt):
    _same(remote.segment(coffee, prompt), local.segment(coffee, prompt))


def test_tiles_are_merged_as_locally(remote, local, coffee):
    for prompt in (None, Points([[285, 150], [60, 60]], mode="each")):
        _same(remote.segment(coffee, prompt, tiles=Tiles(320)), local.segment(coffee, prompt, tiles=Tiles(320)))


def test_every_kind_of_image(remote, local, cat):
    rgb = load_image(cat)
    wanted = local.segment(rgb)
    for image in (rgb, Image.fromarray(rgb), rgb[..., ::-1]):
        color = "BGR" if image is not rgb and isinstance(image, np.ndarray) else "RGB"
        _same(remote.segment(image, color=color), wanted)
    for image in (cat, str(cat), cat.read_bytes()):
        _same(remote.segment(image), local.segment(cat))
    gray = rgb[..., 0]
    _same(remote.segment(gray), local.segment(gray))


def test_an_upside_down_photograph(remote, local, cat):
    stream = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(cat).save(stream, "JPEG", exif=exif)
    found = remote.segment(stream.getvalue())
    assert found.image_hw == load_image(stream.getvalue()).shape[:2] != load_image(cat).shape[:2]
    _same(found, local.segment(stream.getvalue()))


def test_thresholds_travel(server, local, coffee):
    for model in MODELS:
        with FastSAM(_address(server, "grpc", model), conf=0.2, iou=0.5, max_det=7) as remote:
            wanted = local.segment(coffee, thresholds=Thresholds(0.2, 0.5, 7))
            assert len(wanted) == 7
            _same(remote.segment(coffee), wanted)
            _same(remote.segment(coffee, thresholds=Thresholds()), local.segment(coffee))


def test_a_batch_of_many_shapes_keeps_its_order(remote, local, coffee, cat):
    images = [load_image(coffee), load_image(cat), load_image(coffee)[:, :200], load_image(cat)[:31, :33]] * 5
    found = remote.segment_batch(images)
    for one, wanted in zip(found, local.segment_batch(images[:4]) * 5, strict=True):
        _same(one, wanted)


def test_a_prompt_of_ones_own(remote, local, coffee):
    """A kind that no server knows is answered by the client, from everything."""

    class Largest:
        prompt_count = 1

        def select_from(self, segments: Segments) -> Segments:
            row = segments[int(segments.areas.argmax())]
            return row.answering([0], [1.0])

    _same(
        remote.segment(coffee, [Largest(), Boxes([200, 60, 420, 260])]),
        local.segment(coffee, [Largest(), Boxes([200, 60, 420, 260])]),
    )


def test_errors_are_those_of_local_use(remote, local, coffee, tmp_path):
    cases = [
        (b"not an image", None, ImageError),
        (coffee.read_bytes()[:5000], None, ImageError),
        (tmp_path / "absent.jpg", None, ImageError),
        (np.zeros((4, 5, 7), np.uint8), None, ImageError),
        (coffee, Points([[601, 10]]), PromptError),
        (coffee, Points([[-1, 10]]), PromptError),
        (coffee, Boxes([0, 0, 601, 100]), PromptError),
        (coffee, [], PromptError),
    ]
    for image, prompt, kind in cases:
        with pytest.raises(kind) as there:
            remote.segment(image, prompt)
        with pytest.raises(kind) as here:
            local.segment(image, prompt)
        said_there, said_here = (str(error.value).split(";")[-1].replace("HEIF, ", "") for error in (there, here))
        assert said_there == said_here  # whether HEIF files are read depends on each environment
    with pytest.raises(ImageError, match="image 1 of 3"):
        remote.segment_batch([coffee, b"not an image", coffee])
    assert len(remote.segment(coffee)) > 0


def test_many_threads(remote, local, coffee, cat):
    images = [load_image(coffee), load_image(cat)] * 8
    wanted = [local.segment(images[0]), local.segment(images[1])] * 8
    with ThreadPoolExecutor(8) as pool:
        for found, one in zip(pool.map(remote.segment, images), wanted, strict=True):
            _same(found, one)


@pytest.mark.parametrize("transport", ["grpc", "http"])
@pytest.mark.parametrize("model", ["fastsam_device", "fastsam_engine"])
def test_shared_memory_is_used_and_given_back(server, local, coffee, transport, model):
    image = np.tile(load_image(coffee), (2, 2, 1))
    before = set(Path("/dev/shm").glob("fastsam_*"))
    with FastSAM(_address(server, transport, model), connection=Connection(shared_memory=True)) as remote:
        wanted = local.segment(image)
        for _ in range(3):
            _same(remote.segment(image), wanted)
        small = image[:300, :300]  # a smaller one in the same piece
        _same(remote.segment(small), local.segment(small))
        regions = (
            remote._segmenter._client._session.get()._regions
            if model != "fastsam_engine"
            else (remote._segmenter.engine._network._network._client._session.get()._regions)
        )
        assert sum(region.is_registered for region in regions._all) >= 1
        held = set(Path("/dev/shm").glob(f"fastsam_client_{os.getpid()}_*")) - before
        assert held
    assert not held & set(Path("/dev/shm").glob("fastsam_*"))


def test_without_shared_memory(server, local, coffee):
    image = np.tile(load_image(coffee), (2, 2, 1))
    with FastSAM(_address(server, "grpc", "fastsam_device"), connection=Connection(shared_memory=False)) as remote:
        _same(remote.segment(image), local.segment(image))
        assert remote._segmenter._client._session.get()._regions is None


def test_settings_that_are_the_servers_own(server):
    address = _address(server, "grpc", "fastsam")
    for settings, says in (
        ({"device": "cuda"}, "the server has its own"),
        ({"threads": 2}, "the server has its own"),
        ({"imgsz": 320}, "imgsz is 320, the server"),
        ({"rect": False}, "rect is False"),
    ):
        with pytest.raises(ParameterError, match=says):
            FastSAM(address, **settings)
    with FastSAM(address, imgsz=640, rect=True) as model:
        assert model.imgsz == 640 and model.spec.class_names == ("object",) and model.device == server.grpc


def test_addresses_that_lead_nowhere(server):
    quick = Connection(retries=1, backoff_s=0.01)
    with pytest.raises(ModelError, match="no such model"):
        FastSAM(_address(server, "grpc", "slowsam"))
    with pytest.raises(ModelError, match="no such model"):
        FastSAM(_address(server, "http", "fastsam") + "/99")
    for transport in ("grpc", "http"):
        with pytest.raises(ServerError, match="asked 2 times"):
            FastSAM(f"{transport}://127.0.0.1:9/fastsam", connection=quick)
    with pytest.raises(ParameterError, match="is not the address of a model"):
        FastSAM("grpc://host:8001")
    with pytest.raises(ParameterError, match="is not on a server"):
        FastSAM(connection=quick)


def test_a_closed_connection_says_so(server, coffee):
    model = FastSAM(_address(server, "grpc", "fastsam"))
    model.close()
    model.close()
    with pytest.raises(ModelError, match="closed"):
        model.segment(coffee)


def test_the_command_line(server, coffee, tmp_path):
    command = [sys.executable, "-m", "fastsam_deploy.runtime.cli.main", "segment", str(coffee), "--json", "-"]
    texts = []
    for more in ([], ["--model", _address(server, "grpc", "fastsam")]):
        done = subprocess.run([*command, *more], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        assert ("(server " if more else "(network ") in done.stderr
        texts.append(json.loads(done.stdout))
    assert [row["segmentation"] for row in texts[0]["segments"]] == [
        row["segmentation"] for row in texts[1]["segments"]
    ]
    assert texts[1]["model"]["engine"] == "triton"


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_a_server_that_comes_back(start, built, local, coffee, transport):
    """Killed and started again on the same ports: the client goes on, with its shared memory told anew."""
    server = start(built, ("fastsam_device",))
    ports = (server.http_port, server.grpc_port, server.metrics_port)
    image = np.tile(load_image(coffee), (2, 2, 1))
    wanted = local.segment(image)
    patient = Connection(retries=12, backoff_s=0.05)
    with FastSAM(_address(server, transport, "fastsam_device"), connection=patient) as remote:
        _same(remote.segment(image), wanted)
        server.kill()
        with pytest.raises(ServerError, match="away or too busy"):
            FastSAM(_address(server, transport, "fastsam_device"), connection=replace(patient, retries=0))
        again: list[object] = []
        restart = threading.Thread(target=lambda: again.append(start(built, ("fastsam_device",), ports=ports)))
        restart.start()
        _same(remote.segment(image), wanted)
        restart.join()
        assert again


def test_a_full_queue_is_waited_for(start, tmp_path, demo_onnx, local, coffee):
    from fastsam_deploy.export.triton.to_triton import build_repository

    small = build_repository(demo_onnx, tmp_path / "small", queue=1, max_batch=1).path
    server = start(small, ("fastsam_device",))
    image = load_image(coffee)
    hasty = Connection(retries=0, in_flight=12)
    with (
        FastSAM(_address(server, "grpc", "fastsam_device"), connection=hasty) as remote,
        pytest.raises(ServerError, match="Exceeds maximum queue size"),
    ):
        remote.segment_batch([image] * 12)
    patient = Connection(retries=10, in_flight=12)
    with FastSAM(_address(server, "grpc", "fastsam_device"), connection=patient) as remote:
        found = remote.segment_batch([image] * 12)
    for one in found:
        _same(one, local.segment(image))


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_no_answer_in_time(server, coffee, transport):
    image = np.tile(load_image(coffee), (3, 3, 1))
    start = time.perf_counter()
    with (
        FastSAM(
            _address(server, transport, "fastsam_device"), connection=Connection(timeout_s=0.02, retries=0)
        ) as hasty,
        pytest.raises(ServerError, match=r"no answer within 0.02 s|away or too busy"),
    ):
        hasty.segment(image)
    assert time.perf_counter() - start < 10


def test_headers_travel(start, built, coffee):
    """Triton can ask for a header before it answers; here, for what describes models."""
    guard = "--http-restricted-api=model-config:authorization=secret"
    server = start(built, ("fastsam_device",), arguments=[guard])
    address = _address(server, "http", "fastsam_device")
    with pytest.raises(ServerError, match=r"restricted|not allowed|forbidden|403"):
        FastSAM(address, connection=Connection(retries=0))
    with FastSAM(address, connection=Connection(headers={"authorization": "secret"})) as model:
        assert len(model.segment(coffee)) > 0


def test_tls(server, coffee, tmp_path):
    """Through a proxy that ends TLS, as in production: Triton's own HTTP has none."""
    openssl = contextlib.suppress(FileNotFoundError)
    with openssl:
        subprocess.run(["openssl", "version"], check=True, capture_output=True)
        _make_certificate(tmp_path)
        with _tls_proxy(server.http_port, tmp_path) as port:
            address = f"https://localhost:{port}/fastsam_device"
            trusted = Connection(root_certificates=tmp_path / "cert.pem", retries=0, shared_memory=False)
            with FastSAM(address, connection=trusted) as model:
                assert len(model.segment(coffee)) > 0
            with pytest.raises(ServerError):
                FastSAM(address, connection=Connection(retries=0))
        with _tls_proxy(server.grpc_port, tmp_path, "h2") as port:
            with FastSAM(f"grpcs://localhost:{port}/fastsam_device", connection=trusted) as model:
                assert len(model.segment(coffee)) > 0
            with pytest.raises(ServerError):
                FastSAM(f"grpcs://localhost:{port}/fastsam_device", connection=Connection(retries=0))
        return
    pytest.skip("openssl is not installed: no certificate can be made")


def _make_certificate(folder: Path) -> None:
    names = "subjectAltName=DNS:localhost"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         names, "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        check=True, capture_output=True,
    )  # fmt: skip


@contextlib.contextmanager
def _tls_proxy(port: int, folder: Path, protocol: str = "http/1.1") -> Iterator[int]:
    """Ends TLS and passes the bytes on; its port."""
    import asyncio
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.set_alpn_protocols([protocol])
    loop = asyncio.new_event_loop()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while content := await reader.read(1 << 16):
                writer.write(content)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    proxy = loop.run_until_complete(asyncio.start_server(serve, "localhost", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield proxy.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_further_prompts_come_from_the_cache(start, environment, tmp_path, demo_onnx, local, coffee):
    """Triton's response cache in front of the network: its key must not mix up prompts."""
    from fastsam_deploy.export.triton.to_triton import build_repository

    cached = build_repository(demo_onnx, tmp_path / "cached", cache=True).path
    caches = environment.packages / "pytriton/tritonserver/caches"
    server = start(
        cached, ("fastsam",), arguments=[f"--cache-directory={caches}", "--cache-config=local,size=500000000"]
    )
    with FastSAM(_address(server, "grpc", "fastsam")) as remote:
        for prompt in (None, Points([[285, 150]]), Points([[100, 100]]), None, Boxes([200, 60, 420, 260])):
            _same(remote.segment(coffee, prompt), local.segment(coffee, prompt))
        _same(remote.segment(coffee, thresholds=Thresholds(0.2)), local.segment(coffee, thresholds=Thresholds(0.2)))
    hits = [line for line in server.metrics().splitlines() if line.startswith("nv_cache_num_hits_per_model")]
    assert any('model="fastsam_engine"' in line and line.split()[-1] == "5" for line in hits), hits


def test_the_lines_of_the_documentation(server):
    """docs/triton.md shows a client of a server on the usual port."""
    text = (ROOT / "docs/triton.md").read_text(encoding="utf-8")
    (code,) = [block for block in text.split("```python\n")[1:] if "grpc://" in block]
    lines = code.split("```", maxsplit=1)[0].replace("localhost:8001", server.grpc)
    names: dict[str, object] = {"FastSAM": FastSAM}
    exec(lines.replace("examples/", f"{ROOT}/examples/"), names)
    assert isinstance(names["everything"], Segments) and len(names["everything"]) > 0
    names["model"].close()


@pytest.mark.parametrize("model", MODELS)
def test_the_web_page_shows_what_a_server_finds(server, local, coffee, model: str):
    """Clicks are answered from the segments, without another request."""
    with SizedModel(_address(server, "grpc", model), ModelSettings()) as remote, IsolatedLoader() as loader:
        page = Application(remote, loader)
        *_, (view, _) = page.open("user", "coffee.jpg", coffee.read_bytes())
        expected = local.segment(coffee)
        assert view.status.startswith(f"{len(expected)} objects found.") and remote.sizes is None
        remote.close()
        answer = page.act("user", {"point": [285, 150]})
    area = int(expected.select(Points([[285, 150]])).areas[0])
    assert abs(int(answer.status.split(" pixels")[0].split()[-1].replace(",", "")) - area) <= 0.01 * area

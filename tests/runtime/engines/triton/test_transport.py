"""What stands in a Triton server's place: proxies, other servers, names of several servers. All of them local."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

grpc = pytest.importorskip("grpc", reason="needs the extra [triton]")
pytest.importorskip("tritonclient.grpc", reason="needs the extra [triton]")

from tritonclient.grpc import service_pb2 as protocol  # noqa: E402 after the checks
from tritonclient.grpc import service_pb2_grpc  # noqa: E402

from fastsam_deploy.runtime import Connection, FastSAM, ParameterError, ServerError  # noqa: E402
from fastsam_deploy.runtime.connection import Address  # noqa: E402
from fastsam_deploy.runtime.engines.triton import over_http  # noqa: E402
from fastsam_deploy.runtime.engines.triton.client import TritonClient  # noqa: E402

CONFIG = {
    "name": "m",
    "max_batch_size": 8,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["4"]}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": ["4"]}],
}
PAGE = b"<html><body>Please log in</body></html>"
QUICK = Connection(retries=0, timeout_s=2)
X = np.ones((1, 4), np.float32)

Answer = tuple[int, bytes] | Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def http_server(answers: dict[str, Answer]) -> Iterator[str]:
    """Answers paths with a status and a body, or as a function likes; its host and port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = answers.get(self.path, (404, b"{}"))
            if callable(answer):
                answer(self)
                return
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        do_POST = do_GET  # noqa: N815 the library's name

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def config(path: str = "/v2", **changes: Any) -> dict[str, Answer]:
    described = json.dumps({**CONFIG, **changes}).encode()
    return {f"{path}/models/m/config": (200, described), path: (200, b'{"extensions": []}')}


def answer_of(*outputs: dict[str, Any]) -> Answer:
    return 200, json.dumps({"model_name": "m", "outputs": outputs}).encode()


@contextmanager
def opened(address: str, connection: Connection = QUICK) -> Iterator[TritonClient]:
    client = TritonClient(Address.from_text(address), connection)
    try:
        yield client
    finally:
        client.close()


@pytest.mark.parametrize(
    "body",
    [
        PAGE,
        b"[]",
        b"null",
        b"{}",
        b'{"input": {}, "output": []}',
        b'{"input": [1], "output": []}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
    ids=lambda body: body[:12].decode("latin-1"),
)
def test_a_page_in_place_of_the_configuration(body: bytes) -> None:
    with http_server({"/v2/models/m/config": (200, body)}) as host, pytest.raises(ServerError) as caught:
        FastSAM(f"http://{host}/m", connection=QUICK)
    assert "Triton" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, PAGE), "the answer is none of Triton's"),
        ((200, b"null"), "the answer is none of Triton's"),
        ((200, b'{"outputs": 5}'), "the answer is none of Triton's"),
        (answer_of({"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [1, 2]}), "none of Triton's"),
        (answer_of(), "no output 'y', expected y"),
        (answer_of({"name": "z", "datatype": "FP32", "shape": [1, 1], "data": [1]}), "no output 'y'"),
    ],
)
def test_a_page_in_place_of_an_answer(answer: Answer, says: str) -> None:
    with http_server({**config(), "/v2/models/m/infer": answer}) as host, opened(f"http://{host}/m") as client:
        for _ in range(2):  # the connection is good for another request
            with pytest.raises(ServerError, match=says):
                client.infer({"x": X}, ["y"])


def _endless(handler: BaseHTTPRequestHandler, pause_s: float = 0, *, chunked: bool = True) -> None:
    handler.send_response(200)
    handler.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Connection", "close")))
    handler.end_headers()
    part = b"x" * (1 if pause_s else 1 << 16)
    piece = b"%x\r\n%s\r\n" % (len(part), part) if chunked else part
    try:
        while True:
            handler.wfile.write(piece)
            time.sleep(pause_s)
    except OSError:
        handler.close_connection = True


@pytest.mark.parametrize("chunked", [True, False])
def test_an_endless_page(monkeypatch: pytest.MonkeyPatch, chunked: bool) -> None:
    def fast(handler: BaseHTTPRequestHandler) -> None:
        _endless(handler, chunked=chunked)

    def slow(handler: BaseHTTPRequestHandler) -> None:
        _endless(handler, 0.02, chunked=chunked)

    monkeypatch.setattr(over_http, "_LONGEST_ANSWER_BYTES", 1 << 22)
    with http_server({"/v2/models/m/config": fast}) as host, pytest.raises(ServerError, match="more than 16,777,216 b"):
        FastSAM(f"http://{host}/m", connection=QUICK)
    with (
        http_server({**config(), "/v2/models/m/infer": fast}) as host,
        opened(f"http://{host}/m") as client,
        pytest.raises(ServerError, match="more than 4,194,304 bytes"),
    ):
        client.infer({"x": X}, ["y"])
    begin = time.monotonic()
    with (
        http_server({**config(), "/v2/models/m/infer": slow}) as host,
        opened(f"http://{host}/m", Connection(retries=0, timeout_s=0.5)) as client,
        pytest.raises(ServerError, match=r"no answer within 0\.5 s"),
    ):
        client.infer({"x": X}, ["y"])
    assert time.monotonic() - begin < 5


def test_a_length_that_is_too_much_and_one_that_is_not_kept() -> None:
    def says(length: int) -> Answer:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(length))
            handler.end_headers()
            handler.wfile.write(b"{}")
            handler.close_connection = True

        return answer

    with http_server({"/v2/models/m/config": says(1 << 40)}) as host, pytest.raises(ServerError, match="has more than"):
        FastSAM(f"http://{host}/m", connection=QUICK)
    with http_server({"/v2/models/m/config": says(100)}) as host, pytest.raises(ServerError, match="IncompleteRead"):
        FastSAM(f"http://{host}/m", connection=QUICK)


def test_a_path_of_a_gateway() -> None:
    answer = answer_of({"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]})
    there = {**config("/vision/a%20b/v2"), "/vision/a%20b/v2/models/m/infer": answer}
    with http_server(there) as host, opened(f"http://{host}/vision/a%20b/m") as client:
        assert client.infer({"x": X}, ["y"])["y"].tolist() == [[1, 2, 3, 4]]


class Pod(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A server with the model `m`, which counts its requests and leaves outputs out where it is told to."""

    def __init__(self, outputs: tuple[str, ...] = ("y",)) -> None:
        self.asked = 0
        self._outputs = outputs

    def ModelConfig(self, _request: Any, _context: Any) -> Any:  # noqa: N802 the protocol's name
        answer = protocol.ModelConfigResponse()
        for tensors, name in ((answer.config.input, "x"), (answer.config.output, "y")):
            tensors.add(name=name, data_type="TYPE_FP32", dims=[4])
        return answer

    def ModelInfer(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        self.asked += 1
        answer = protocol.ModelInferResponse()
        for name in self._outputs:
            answer.outputs.add(name=name, datatype="FP32", shape=[1, 4])
            answer.raw_output_contents.append(X.tobytes())
        return answer


@contextmanager
def pods(*pods: Pod) -> Iterator[int]:
    """Each on an address of its own, 127.0.0.1, 127.0.0.2, …; the port of all."""
    port = 0
    servers = []
    for number, pod in enumerate(pods, 1):
        server = grpc.server(ThreadPoolExecutor(4))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(pod, server)
        port = server.add_insecure_port(f"127.0.0.{number}:{port}")
        server.start()
        servers.append(server)
    yield port
    for server in servers:
        server.stop(0)


@contextmanager
def resolver(count: int) -> Iterator[int]:
    """A DNS server on this host that knows 127.0.0.1, 127.0.0.2, … for every name; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.bind(("127.0.0.1", 0))
        over = threading.Event()

        def serve() -> None:
            asked.settimeout(0.1)
            while not over.is_set():
                try:
                    question, client = asked.recvfrom(512)
                except TimeoutError:
                    continue
                end = question.index(b"\0", 12) + 5  # behind the name, the type and the class
                is_a = question[end - 4 : end - 2] == b"\0\1"
                records = [b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([127, 0, 0, n + 1]) for n in range(count)]
                head = question[:2] + b"\x81\x80\0\1" + bytes([0, count if is_a else 0]) + bytes(4)
                asked.sendto(head + question[12:end] + b"".join(records if is_a else []), client)

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked.getsockname()[1]
        over.set()
        thread.join()


def test_requests_are_spread_over_all_servers_of_a_name() -> None:
    """Three pods behind a headless Service: without round robin the first had all of the requests."""
    three = (Pod(), Pod(), Pod())
    with (
        pods(*three) as port,
        resolver(3) as dns,
        opened(f"grpc://dns://127.0.0.1:{dns}/pods.test:{port}/m", Connection(retries=3)) as client,
    ):
        for _ in range(24):
            client.infer({"x": X}, ["y"])
    assert sum(pod.asked for pod in three) == 24
    assert min(pod.asked for pod in three) >= 5


def test_an_output_that_is_missing_over_grpc() -> None:
    with (
        pods(Pod(outputs=())) as port,
        opened(f"grpc://127.0.0.1:{port}/m") as client,
        pytest.raises(ServerError, match="no output 'y'"),
    ):
        client.infer({"x": X}, ["y"])


def test_a_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY", "no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    with pods(Pod()) as port:
        with pytest.raises(ServerError) as caught:
            TritonClient(Address.from_text(f"grpc://127.0.0.1:{port}/m"), QUICK)
        said = f"gRPC goes through the proxy http://127.0.0.1:9 unless no_proxy (not set) names 127.0.0.1:{port}"
        assert said in str(caught.value)
        assert "secret" not in str(caught.value)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with opened(f"grpc://127.0.0.1:{port}/m") as client:
            client.infer({"x": X}, ["y"])
    with pytest.raises(ServerError, match="do not go through a proxy"):
        FastSAM("http://127.0.0.1:9/m", connection=QUICK)
    monkeypatch.delenv("http_proxy")
    with pytest.raises(ServerError) as caught:
        FastSAM("http://127.0.0.1:9/m", connection=QUICK)
    assert "proxy" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_certificate_that_cannot_be_read(tmp_path: Path, scheme: str, content: bytes | None) -> None:
    if content is not None and scheme == "grpcs":
        pytest.skip("gRPC reads certificates when it connects")
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(ParameterError, match="expected PEM files"):
        FastSAM(f"{scheme}://127.0.0.1:9/m", connection=Connection(root_certificates=tmp_path / "ca.pem", retries=0))

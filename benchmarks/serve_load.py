"""Load on `fastsam serve` against Triton's `fastsam_device`, on the CPU, taken in turn.

    python -m benchmarks.serve_load                      # measures, writes results/serve_load.{json,md}
    python -m benchmarks.serve_load --requests 1 --rounds 1   # does it still work?

The work: a JPEG file comes in, COCO RLE of every mask goes out. Both servers run at once, with the same engine, model
and threads, in the same arrangements: one run of the network with all processors, or one for each. The load comes from
one program: so many threads, each of which sends again when it has its answer; over gRPC to Triton, over HTTP to
`fastsam serve`. They take turns, slice by slice, since other programs may disturb: the figures to read are the ratios,
medians of those of each pair of slices. Answers are compared with those of the library before anything is timed. Needs
the environment of scripts/triton_server.py (made where it is not there).

Versions of OpenCV differ in speed: --python names an interpreter for `fastsam serve` whose environment has the packages
of triton_models/requirements.txt besides this project and the extra [serve].
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from fastsam_deploy.export.triton.to_triton import build_repository
from fastsam_deploy.runtime import FastSAM, Segments
from scripts.triton_server import DEFAULT_ENVIRONMENT, Environment, Server, make_environment

from .photographs import write_report
from .triton_load import Arrangement, jpeg, load_environment, load_parser

MODEL = "fastsam_device"
CONTENDERS = ("fastsam_device", "fastsam serve")
_BOUNDARY = "the-boundary-of-the-form"

Ask = Callable[[], bytes]
"""Sends one request and waits for its answer."""


def main() -> None:
    arguments = _arguments()
    cpus = len(os.sched_getaffinity(0))
    arrangements = sorted({Arrangement(1, cpus), Arrangement(cpus, 1)}, key=str)
    given = os.environ.get("FASTSAM_TRITON_ENV")
    environment = Environment(Path(given)) if given else make_environment(DEFAULT_ENVIRONMENT)
    images = {f"{size:g} MP": jpeg(arguments.image, size) for size in arguments.megapixels}
    rows: list[dict[str, Any]] = []
    for arrangement in arrangements:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            triton = stack.enter_context(_triton(arguments, environment, arrangement, folder))
            port = stack.enter_context(_served(arguments, arrangement))
            for label, content in images.items():
                makers = _askers(triton, port, content)
                _compare(arguments, makers, content)
                for concurrency in arguments.concurrency:
                    row = {"image": label, "arrangement": str(arrangement), "concurrency": concurrency}
                    rows += _pairs(arguments, makers, row)
    report = {"environment": _environment(arguments, environment), "rows": rows}
    write_report(arguments.output, "serve_load", report, markdown(report))


def _arguments() -> argparse.Namespace:
    parser = load_parser("Load on fastsam serve against Triton.")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--requests", type=int, default=3, help="of each client, in each slice")
    parser.add_argument("--rounds", type=int, default=5, help="slices of each server")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="interpreter that runs fastsam serve")
    return parser.parse_args()


@contextmanager
def _triton(
    arguments: argparse.Namespace, environment: Environment, arrangement: Arrangement, folder: Path
) -> Iterator[Server]:
    built = build_repository(
        arguments.model,
        folder / "repository",
        imgsz=arguments.imgsz,
        instances=arrangement.instances,
        threads=arrangement.threads,
    )
    with Server(environment, built.path, (MODEL,), log=folder / "server.log") as server:
        yield server


@contextmanager
def _served(arguments: argparse.Namespace, arrangement: Arrangement) -> Iterator[int]:
    """The port of a `fastsam serve`."""
    command = [arguments.python, "-m", "fastsam_deploy.runtime.cli", "serve", "--port", "0", "--model", arguments.model]
    command += ["--imgsz", arguments.imgsz, "--threads", arrangement.threads, "--parallel", arrangement.instances]
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            match = re.search(r"serving on http://127\.0\.0\.1:(\d+)", line)
            if match is None:
                sys.exit(f"fastsam serve did not start: {line}{process.stderr.read()}")
            yield int(match[1])
        finally:
            process.terminate()


def _askers(triton: Server, port: int, content: bytes) -> dict[str, Callable[[], Ask]]:
    """For each server, what makes a client with a connection of its own."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="x.jpg"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{_BOUNDARY}--\r\n".encode()

    def to_serve() -> Ask:
        connection = http.client.HTTPConnection("127.0.0.1", port)

        def ask() -> bytes:
            kind = f"multipart/form-data; boundary={_BOUNDARY}"
            connection.request("POST", "/v1/segment", body, {"Content-Type": kind})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                sys.exit(f"fastsam serve answered {answer.status}: {text[:500]!r}")
            return text

        return ask

    return {CONTENDERS[0]: lambda: _to_triton(triton, content), CONTENDERS[1]: to_serve}


def _to_triton(triton: Server, content: bytes) -> Ask:
    from tritonclient import grpc

    client = grpc.InferenceServerClient(triton.grpc)
    inputs = []
    for name, value in (("IMAGE", content), ("PROMPT", b"{}")):
        tensor = grpc.InferInput(name, [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[value]], np.object_))
        inputs.append(tensor)

    def ask() -> bytes:
        answer = client.infer(MODEL, inputs)
        return json.dumps([text.decode() for text in answer.as_numpy("MASKS")[0]]).encode()

    return ask


def _compare(arguments: argparse.Namespace, makers: dict[str, Callable[[], Ask]], content: bytes) -> None:
    with FastSAM(arguments.model, imgsz=arguments.imgsz) as local:
        wanted = local.segment(content)
    triton = json.loads(makers[CONTENDERS[0]]()())
    served = Segments.from_json(json.loads(makers[CONTENDERS[1]]()()))
    overlap = [(a & b).sum() / (a | b).sum() for a, b in zip(served.masks.dense(), wanted.masks.dense(), strict=True)]
    if not len(wanted) or min(overlap) < 0.99 or len(triton) != len(wanted):
        sys.exit(f"the answers differ: {len(wanted)} local, {len(served)} and {len(triton)} masks; nothing is timed")


def _pairs(
    arguments: argparse.Namespace, makers: dict[str, Callable[[], Ask]], row: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """A row for each server: medians of its slices, and of the ratios of each pair of slices."""
    slices: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for turn in range(arguments.rounds):
        for name in CONTENDERS if turn % 2 else reversed(CONTENDERS):
            slices[name].append(_slice(makers[name], row["concurrency"], arguments.requests))
    for name, figures in slices.items():
        ratios = [own["per_s"] / other["per_s"] for own, other in zip(figures, slices[CONTENDERS[0]], strict=True)]
        medians = {key: round(median(figure[key] for figure in figures), 3) for key in figures[0]}
        yield {**row, "contender": name, **medians, "of_triton": round(median(ratios), 3)}


def _slice(make: Callable[[], Ask], clients: int, requests: int) -> dict[str, float]:
    """Each client asks so many times. The throughput is that of the answers while all clients are busy."""
    times: list[float] = []
    askers = [make() for _ in range(clients)]

    def work(ask: Ask) -> None:
        for _ in range(requests):
            start = perf_counter()
            ask()
            times.append(perf_counter() - start)

    threads = [threading.Thread(target=work, args=(ask,)) for ask in askers]
    start = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = perf_counter() - start
    p50, p95 = np.percentile(times, [50, 95]) * 1000
    return {"per_s": len(times) / elapsed, "p50_ms": float(p50), "p95_ms": float(p95)}


def _environment(arguments: argparse.Namespace, environment: Environment) -> dict[str, Any]:
    packages = {"fastsam_device": _versions(environment.python), "fastsam serve": _versions(arguments.python)}
    return {**load_environment(arguments), "packages": packages}


def _versions(python: Path) -> str:
    """Of the packages that the stages around the network run on."""
    code = "import cv2, numpy, onnxruntime as o; print(f'ONNX Runtime {o.__version__}, NumPy {numpy.__version__}, '"
    code += " f'OpenCV {cv2.__version__}')"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def markdown(report: dict[str, Any]) -> str:
    """The table of a report."""
    lines = [
        "| image | network | clients | fastsam_device | fastsam serve | **serve / Triton** | p50 | p95 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = report["rows"]
    for triton, served in zip(rows[::2], rows[1::2], strict=True):
        lines.append(
            f"| {served['image']} | {served['arrangement']} | {served['concurrency']} | {triton['per_s']:.2f} images/s "
            f"| {served['per_s']:.2f} images/s | **{served['of_triton']:.2f}** "
            f"| {triton['p50_ms']:.0f}, {served['p50_ms']:.0f} ms | {triton['p95_ms']:.0f}, {served['p95_ms']:.0f} ms |"
        )
    env = report["environment"]
    made = (
        f"{env['rounds']} slices of each, in turn, with {env['requests']} requests of each client; medians, and of the "
        f"ratio that of the pairs. Latencies: Triton, serve. {env['cpu']}, {env['threads']} threads, which both "
        f"servers and their clients share with other programs; {env['model']} at imgsz {env['imgsz']}; "
        f"{env['server']}. Triton: {env['packages']['fastsam_device']}; serve: {env['packages']['fastsam serve']}."
    )
    return "\n".join([*lines, "", made]) + "\n"


if __name__ == "__main__":
    main()

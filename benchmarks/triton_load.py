"""Load on a Triton server against the same work in one process, on the CPU, taken in turn.

    python -m benchmarks.triton_load                      # measures, writes results/triton_load.{json,md}
    python -m benchmarks.triton_load --requests 1 --rounds 1   # does it still work?

The work: a JPEG file comes in, COCO RLE of every mask goes out. Contenders, at each concurrency:

    in process       FastSAM.segment called by one thread (the network has all processors), or by one thread for each
                     processor (the network has one each); the better of the two is what the ratios are taken to
    fastsam_device   the whole pipeline as one model, gRPC
    fastsam          the ensemble, gRPC

Both models are served in the same two arrangements as in process: one instance with all processors, one instance for
each. The load comes from perf_analyzer, on the same machine. Answers are compared with the local ones before anything
is timed. Needs the environment of scripts/triton_server.py (made where it is not there).
"""

from __future__ import annotations

import argparse
import base64
import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from fastsam_deploy.export.triton.to_triton import build_repository
from fastsam_deploy.runtime import FastSAM
from scripts.triton_server import DEFAULT_ENVIRONMENT, SERVER_VERSION, Environment, Server, make_environment

from .photographs import RESULTS, ROOT, processor, write_report

MODELS = ("fastsam_device", "fastsam")


@dataclass(frozen=True)
class Arrangement:
    """How many times the network is open, and with how many threads each."""

    instances: int
    threads: int

    def __str__(self) -> str:
        return f"{self.instances} × {self.threads} threads"


def main() -> None:
    arguments = _arguments()
    cpus = len(os.sched_getaffinity(0))
    arrangements = sorted({Arrangement(1, cpus), Arrangement(cpus, 1)}, key=str)
    given = os.environ.get("FASTSAM_TRITON_ENV")
    environment = Environment(Path(given)) if given else make_environment(DEFAULT_ENVIRONMENT)
    images = {f"{size:g} MP": jpeg(arguments.image, size) for size in arguments.megapixels}
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {}
        for i, arrangement in enumerate(arrangements):
            built = build_repository(
                arguments.model,
                folder / f"repository{i}",
                imgsz=arguments.imgsz,
                instances=arrangement.instances,
                threads=arrangement.threads,
            )
            servers[arrangement] = stack.enter_context(
                Server(environment, built.path, MODELS, log=folder / f"server{i}.log")
            )
        for label, content in images.items():
            _compare(arguments, servers, content)
            for _ in range(arguments.rounds):
                rows += _round(arguments, environment, servers, label, content, folder)
    report = {"environment": _environment(arguments), "rows": _medians(rows)}
    table = markdown(report)
    write_report(arguments.output, "triton_load", report, table)


def load_parser(description: str) -> argparse.ArgumentParser:
    """The options of a load: what is asked, and where the results go."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", type=Path, default=ROOT / "models/fastsam-demo.onnx")
    parser.add_argument("--image", type=Path, default=ROOT / "examples/images/coffee.jpg")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.65, 3.0], help="the image is resized to")
    parser.add_argument("--imgsz", type=int, default=1024)
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser


def _arguments() -> argparse.Namespace:
    parser = load_parser("Load on a Triton server against the same work in one process.")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=30, help="for each of three windows, and in process for all")
    parser.add_argument("--rounds", type=int, default=2, help="how often each is measured; medians are shown")
    return parser.parse_args()


def jpeg(path: Path, megapixels: float) -> bytes:
    """A JPEG file of a photograph, resized to so many megapixels."""
    image = Image.open(path)
    scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
    stream = io.BytesIO()
    image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC).save(
        stream, "JPEG", quality=90
    )
    return stream.getvalue()


def _compare(arguments: argparse.Namespace, servers: dict[Arrangement, Server], content: bytes) -> None:
    with FastSAM(arguments.model, imgsz=arguments.imgsz) as local:
        wanted = local.segment(content)
    for server in servers.values():
        for model in MODELS:
            with FastSAM(f"grpc://{server.grpc}/{model}") as remote:
                found = remote.segment(content)
            overlap = [
                (a & b).sum() / (a | b).sum() for a, b in zip(found.masks.dense(), wanted.masks.dense(), strict=True)
            ]
            if not len(wanted) or min(overlap) < 0.99:
                sys.exit(f"{model}: its masks are not the local ones (least IoU {min(overlap, default=0)}); not timed")


def _round(
    arguments: argparse.Namespace,
    environment: Environment,
    servers: dict[Arrangement, Server],
    label: str,
    content: bytes,
    folder: Path,
) -> Iterator[dict[str, Any]]:
    for arrangement, server in servers.items():
        common = {"image": label, "arrangement": str(arrangement)}
        yield {**common, "contender": "in process", **_in_process(arguments, arrangement, content)}
        for model in MODELS:
            for concurrency in arguments.concurrency:
                found = _loaded(arguments, environment, server, model, concurrency, content, folder)
                yield {**common, "contender": model, "concurrency": concurrency, **found}


def _in_process(arguments: argparse.Namespace, arrangement: Arrangement, content: bytes) -> dict[str, Any]:
    """As many callers as instances, each calling again when it has its answer."""
    times: list[float] = []
    with FastSAM(arguments.model, imgsz=arguments.imgsz, threads=arrangement.threads) as model:
        model.segment(content).masks.rle()

        def call() -> None:
            for _ in range(3 * arguments.requests // arrangement.instances):
                start = perf_counter()
                model.segment(content).masks.rle()
                times.append(perf_counter() - start)

        callers = [threading.Thread(target=call) for _ in range(arrangement.instances)]
        start = perf_counter()
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        elapsed = perf_counter() - start
    p50, p95, p99 = np.percentile(times, [50, 95, 99]) * 1000
    return {
        "concurrency": arrangement.instances,
        "per_s": len(times) / elapsed,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "batch": 1.0,
    }


def _loaded(
    arguments: argparse.Namespace,
    environment: Environment,
    server: Server,
    model: str,
    concurrency: int,
    content: bytes,
    folder: Path,
) -> dict[str, Any]:
    """One run of perf_analyzer; the batches are those of the model that runs the network."""
    element = base64.b64encode(len(content).to_bytes(4, "little") + content).decode()
    request = {"IMAGE": {"content": {"b64": element}, "shape": [1]}, "PROMPT": {"content": ["{}"], "shape": [1]}}
    data, table = folder / "input.json", folder / "table.csv"
    data.write_text(json.dumps({"data": [request]}))
    network = "fastsam_engine" if model == "fastsam" else model
    before = _counts(server, network)
    command = [str(environment.perf_analyzer), "-m", model, "-u", server.grpc, "-i", "grpc"]
    command += ["--input-data", str(data), "--concurrency-range", str(concurrency)]
    # Three windows of so many requests, whatever their spread: perf_analyzer gives no figures at all where it calls
    # that too large.
    count = max(arguments.requests, 3 * concurrency)
    command += ["--measurement-mode", "count_windows", "--measurement-request-count", str(count), "-s", "999"]
    command += ["--percentile", "95"]
    done = subprocess.run(
        [*command, "-f", str(table)], env=environment.variables(), capture_output=True, text=True, check=False
    )
    if not table.is_file():
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    (row,) = csv.DictReader(table.read_text().splitlines())
    table.unlink()
    images, runs = (b - a for a, b in zip(before, _counts(server, network), strict=True))
    return {
        "per_s": float(row["Inferences/Second"]),
        **{f"p{p}_ms": float(row[f"p{p} latency"]) / 1000 for p in (50, 95, 99)},
        "batch": images / max(1, runs),
    }


def _counts(server: Server, model: str) -> tuple[int, int]:
    """Images, and runs of the network, since the server started."""
    from tritonclient.grpc import InferenceServerClient

    (found,) = InferenceServerClient(server.grpc).get_inference_statistics(model).model_stats
    return found.inference_count, found.execution_count


def _medians(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each contender, and its throughput in parts of the best in process."""
    keys = ("image", "contender", "arrangement", "concurrency")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    figures = ("per_s", "p50_ms", "p95_ms", "p99_ms", "batch")
    found = [
        {**dict(zip(keys, key, strict=True)), **{f: round(median(row[f] for row in group), 3) for f in figures}}
        for key, group in groups.items()
    ]
    for row in found:
        best = max(r["per_s"] for r in found if r["contender"] == "in process" and r["image"] == row["image"])
        row["of_in_process"] = round(row["per_s"] / best, 3)
    return found


def _environment(arguments: argparse.Namespace) -> dict[str, Any]:
    import onnxruntime

    return {**load_environment(arguments), "onnxruntime": onnxruntime.__version__}


def load_environment(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a load was measured on, and how."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "cpu": processor(),
        "threads": len(os.sched_getaffinity(0)),
        "server": f"Triton {SERVER_VERSION}, ONNX Runtime in a Python backend",
        "model": arguments.model.name,
        "imgsz": arguments.imgsz,
        "rounds": arguments.rounds,
        "requests": arguments.requests,
    }


def markdown(report: dict[str, Any]) -> str:
    """The table of a report."""
    lines = [
        "| image | | network | clients | images/s | **of the best in process** | p50 | p95 | p99 | batch |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        lines.append(
            f"| {row['image']} | {row['contender']} | {row['arrangement']} | {row['concurrency']} | {row['per_s']:.2f} "
            f"| **{row['of_in_process']:.2f}** | {row['p50_ms']:.0f} | {row['p95_ms']:.0f} | {row['p99_ms']:.0f} "
            f"| {row['batch']:.1f} |"
        )
    return "\n".join([*lines, "", _made_with(report)]) + "\n"


def summary(report: dict[str, Any]) -> str:
    """The best throughput of each contender, for docs/performance.md."""
    contenders = ("in process", *MODELS)
    lines = ["| image | " + " | ".join(contenders) + " |", "|---" * (len(contenders) + 1) + "|"]
    for image in dict.fromkeys(row["image"] for row in report["rows"]):
        rows = [row for row in report["rows"] if row["image"] == image]
        best = [max((r for r in rows if r["contender"] == one), key=lambda r: r["per_s"]) for one in contenders]
        cells = [f"{row['per_s']:.2f} images/s, **{row['of_in_process']:.2f}**" for row in best]
        lines.append(f"| {image} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _made_with(report)]) + "\n"


def _made_with(report: dict[str, Any]) -> str:
    env = report["environment"]
    return (
        f"At least {3 * env['requests']} requests for each row, {env['rounds']} × in turn; latencies in milliseconds. "
        f"{env['cpu']}, {env['threads']} threads, which server, load generator and network share; "
        f"{env['model']} at imgsz {env['imgsz']}; {env['server']} ({env['onnxruntime']})."
    )


if __name__ == "__main__":
    main()

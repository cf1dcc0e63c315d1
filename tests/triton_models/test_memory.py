"""Ten thousand requests leave the server as large as two thousand did."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastsam_deploy.export.triton.to_triton import build_repository
from scripts.triton_server import Server
from tests.triton_models.plain_client import PlainClient

pytestmark = [pytest.mark.triton, pytest.mark.slow]

IMGSZ = 64
AT_ONCE = 8


def _resident_mb(server: Server) -> float:
    """Of the server and its Python processes; pages that several of them share count in each."""
    total = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if server.pid in (parent, int(folder.name)):
                found = re.search(r"VmRSS:\s+(\d+) kB", (folder / "status").read_text())
                total += int(found[1]) if found else 0
        except OSError:
            continue
    return total / 1024


@pytest.mark.parametrize(("model", "first", "last"), [("fastsam_device", 2000, 10_000), ("fastsam", 1000, 3000)])
def test_memory_stays(
    demo_onnx: Path, coffee: Path, tmp_path: Path, start: Callable[..., Server], model: str, first: int, last: int
):
    built = build_repository(demo_onnx, tmp_path / "repository", imgsz=IMGSZ, threads=1)
    server = start(built.path, (model,))
    with Image.open(coffee) as image:
        sizes = [np.asarray(image.resize((60 + 9 * i, 90 - 7 * i)))[None] for i in range(5)]
    prompts = [{"conf": 0.1}, {"prompts": [{"points": [[30, 30]]}]}, {"prompts": [{"points": [[9000, 1]]}]}]
    refused = 0

    def ask(count: int) -> int:
        failed = 0
        with PlainClient(server, "grpc") as client:
            for i in range(count):
                try:
                    client.ask(model, pixels=sizes[i % 5], prompt=prompts[i % 3])
                except Exception:  # noqa: BLE001 counted, and compared with what must fail
                    failed += 1
        return failed

    resident = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for count in (first, last - first):
            refused += sum(pool.map(ask, [count // AT_ONCE] * AT_ONCE))
            resident.append(_resident_mb(server))
    shares = [count // AT_ONCE for count in (first, last - first)]
    assert refused == AT_ONCE * sum(share // 3 for share in shares), "every third asks for a point outside"
    assert resident[0] > 100, "the processes were found"
    assert resident[1] < 1.05 * resident[0], (
        f"{resident[0]:.0f} MB after {first} requests, {resident[1]:.0f} after {last}"
    )

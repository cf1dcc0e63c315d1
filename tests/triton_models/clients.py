"""Programs that are clients of a real server, and what they leave behind."""

from __future__ import annotations

import os
from pathlib import Path

from tritonclient.grpc import InferenceServerClient

from fastsam_deploy.runtime.system.shared_memory import is_abandoned
from scripts.triton_server import Server
from tests.processes import FORKED

OPENED = (
    FORKED
    + """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
import numpy as np
from fastsam_deploy.runtime import Connection, FastSAM, FastSamError
address, shared = sys.argv[1], sys.argv[2] == "True"
PIXELS = np.random.default_rng(0).integers(0, 255, (2, 30, 40, 3), np.uint8)
IMAGES = [np.kron(PIXELS[i][: 30 - 4 * i], np.ones((12, 12, 1), np.uint8)) for i in (0, 1)]
"Of more than 200 KB, which go through shared memory, and of different sizes."
def opened(**settings):
    return FastSAM(address, conf=0.05, connection=Connection(shared_memory=shared, **settings))
def answer(model, i):
    found = model.segment(IMAGES[i % 2])
    return found.image_hw, found.boxes_xyxy.tolist()
def told(work):
    try:
        return work()
    except FastSamError as error:
        return f"{type(error).__name__}: {error}"
"""
)
"""How programs begin; their arguments are those of `arguments`."""


def arguments(server: Server, way: str) -> tuple[str, str]:
    """Of a program: an address, and whether it uses shared memory.

    Args:
        way: "grpc", "http", "grpc-shared" or "http-shared".
    """
    transport, _, shared = way.partition("-")
    return f"{transport}://{getattr(server, transport)}/fastsam_device", str(bool(shared))


class LeftBehind:
    """Shared memory of clients, in the server and in memory."""

    def __init__(self, client: InferenceServerClient) -> None:
        self._client = client

    def registered(self) -> list[str]:
        """Names that the server knows."""
        return [name for name in self._client.get_system_shared_memory_status().regions if "fastsam" in name]

    def bytes(self) -> int:
        """In memory, of clients that are dead or here; tests beside this one have their own."""
        return sum(
            path.stat().st_size
            for path in Path("/dev/shm").glob("fastsam_client_*")
            if is_abandoned(path) or path.name.startswith(f"fastsam_client_{os.getpid()}_")
        )

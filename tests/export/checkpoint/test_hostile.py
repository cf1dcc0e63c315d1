"""Checkpoints made to take all time or memory: each is an error, in a bounded time and memory."""

from __future__ import annotations

import copy
import io
import resource
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra [export]: torch is not installed")
pytest.importorskip("ultralytics", reason="needs the extra [export]: ultralytics is not installed")

import torch
from torch import nn

from fastsam_deploy.export.checkpoint import load
from fastsam_deploy.export.checkpoint.rehearsal import rehearse
from fastsam_deploy.export.errors import ExportError
from fastsam_deploy.runtime.isolation.limits import Limits
from fastsam_deploy.runtime.system.locks import open_locked

pytestmark = pytest.mark.export

GB = 10**9


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.fixture(scope="module")
def good(demo_checkpoint: Path) -> Any:
    return torch.load(demo_checkpoint, weights_only=False)


@pytest.fixture
def network(good: Any) -> Any:
    """A network that loads; tests change a part of it."""
    return copy.deepcopy(good.get("ema") or good["model"])


def saved(network: Any, folder: Path) -> Path:
    torch.save({"model": network}, folder / "evil.pt")
    return folder / "evil.pt"


def archive_of(pickled: bytes, folder: Path, how: int = zipfile.ZIP_STORED) -> Path:
    """A checkpoint whose data.pkl is given byte by byte."""
    with zipfile.ZipFile(folder / "evil.pt", "w", how) as archive:
        archive.writestr("evil/data.pkl", pickled)
        archive.writestr("evil/version", b"3\n")
        archive.writestr("evil/byteorder", b"little")
    return folder / "evil.pt"


def refused(path: Path, said: str = "", seconds: float = 15.0) -> None:
    """The file is refused soon, and neither this process nor its children take much memory for that."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with pytest.raises(ExportError, match=r"evil\.pt") as caught:
        load.load_checkpoint(path)
    assert said in str(caught.value), caught.value
    assert len(str(caught.value)) < 1000
    assert time.monotonic() - start < seconds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < GB / 2
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < 4 * GB


def test_a_pickle_that_unpacks_to_much(tmp_path: Path) -> None:
    path = archive_of(b"\x80\x02" + b"N" * 65_000_000 + b".", tmp_path, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    refused(path, "bytes that unpack to 650000", seconds=5)


def test_weights_that_unpack_to_much(tmp_path: Path, network: Any) -> None:
    content = io.BytesIO()
    network.model[0].conv.weight = nn.Parameter(torch.zeros(16, 3, 3, 1_000_000))
    torch.save({"model": network}, content)
    with (
        zipfile.ZipFile(content) as plain,
        zipfile.ZipFile(tmp_path / "evil.pt", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    refused(tmp_path / "evil.pt", "bytes that unpack to 5", seconds=5)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        pytest.param(lambda: torch.zeros(1).expand(2**34), "elements, of which the file holds 1", id="expanded"),
        pytest.param(lambda: torch.zeros(9).expand(2**20, 9), "elements, of which the file holds 9", id="repeated"),
        pytest.param(lambda: torch.eye(3).to_sparse(), "", id="sparse"),
        pytest.param(
            lambda: torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), torch.ones(1), (2**31, 2**31)),
            "",
            id="sparse and huge",
        ),
        pytest.param(lambda: torch.zeros(2**40, device="meta"), "", id="meta"),
        pytest.param(lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "", id="quantized"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_that_are_more_than_the_file_holds(
    tensor: Callable[[], torch.Tensor], said: str, network: Any, tmp_path: Path
) -> None:
    network.model[0].register_buffer("extra", tensor())
    network.model[0].conv.weight = nn.Parameter(network.model[0].conv.weight.float())
    refused(saved(network, tmp_path), said)


@pytest.mark.parametrize(
    ("size", "stride"),
    [
        pytest.param((2**62, 2**62), (0, 0), id="a product that wraps around"),
        pytest.param((-5,), (1,), id="negative size"),
        pytest.param((3,), (-1,), id="negative stride"),
        pytest.param((3,), (2**40,), id="huge stride"),
        pytest.param((2**63 - 1,), (1,), id="huge size"),
        pytest.param((10**30,), (1,), id="size beyond 64 bits"),
        pytest.param(("a",), ("b",), id="size as text"),
    ],
)
def test_sizes_and_strides_that_cannot_be(size: Any, stride: Any, network: Any, tmp_path: Path) -> None:
    storage = torch.ones(4).storage()
    network.extra = Call(torch._utils._rebuild_tensor_v2, storage, 0, size, stride, False, {})
    refused(saved(network, tmp_path))


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: Call(bytearray, 2**40), id="bytearray"),
        pytest.param(lambda: Call(torch.UntypedStorage, 2**40), id="storage"),
        pytest.param(lambda: Call(torch.FloatTensor, 2**36), id="old tensor"),
        pytest.param(lambda: Call(torch.Tensor, 2**20, 2**20), id="tensor"),
        pytest.param(lambda: Call(set, list(range(10))), id="a set, which is no network"),
    ],
)
def test_calls_that_ask_for_memory(call: Callable[[], Any], tmp_path: Path) -> None:
    torch.save({"model": None, "more": call()}, tmp_path / "evil.pt")
    refused(tmp_path / "evil.pt")


def nested(count: int) -> bytes:
    """A tuple of two, each of two, …, as a key: its hash takes 2 to the power of `count` steps."""
    return b"\x80\x02}(N" + b"q\x00h\x00\x86" * count + b"Nu."


def colliding(count: int) -> bytes:
    """Numbers with the same hash, as keys: the time grows with their square."""
    numbers = [k * (2**61 - 1) for k in range(1, count + 1)]
    return b"\x80\x02}(" + b"".join(b"\x8a\x0b" + n.to_bytes(11, "little") + b"N" for n in numbers) + b"u."


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        pytest.param(nested(40), "takes more than 3 s", id="nested tuples as a key"),
        pytest.param(colliding(60_000), "takes more than 3 s", id="keys with one hash"),
        pytest.param(b"\x80\x02" + b"N" * 20_000_000 + b".", "takes more than 3 s", id="a long pickle"),
        pytest.param(b"\x80\x02" + b"]q\x00h\x00a" + b".", "", id="a list in itself"),
        pytest.param(b"\x80\x02" + b"(" * 1_000_000 + b".", "", id="marks"),
        pytest.param(b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"1.", "", id="a long number that is not there"),
        pytest.param(b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"x.", "", id="a long text that is not there"),
        pytest.param(b"\x80\x02r" + struct.pack("<I", 2**32 - 1) + b".", "", id="a place of the memo far away"),
        pytest.param(b"L" + b"9" * 3_000_000 + b"L\n.", "", id="a number of three million digits"),
    ],
)
def test_pickles_that_take_long(pickled: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "limits_for", lambda _: Limits(seconds=3.0, memory_bytes=2 * GB))
    refused(archive_of(pickled, tmp_path), said, seconds=8)


def circle(network: Any) -> None:
    network.model[1].add_module("again", network.model)


def nest(network: Any, depth: int = 3000) -> None:
    inner: nn.Module = nn.ReLU()
    for _ in range(depth):
        outer = nn.Module.__new__(nn.Sequential)
        nn.Module.__init__(outer)
        outer._modules["0"] = inner
        inner = outer
    network.model[1].add_module("deep", inner)


def share(network: Any) -> None:
    inner: nn.Module = nn.ReLU()
    for _ in range(60):
        inner = nn.Sequential(nn.Sequential(inner), nn.Sequential(inner))
    network.model[1].add_module("wide", inner)


def test_layers_in_a_circle(network: Any, tmp_path: Path) -> None:
    circle(network)
    refused(saved(network, tmp_path), "form a circle")


def test_layers_nested_deeply(network: Any, tmp_path: Path) -> None:
    import sys

    nest(network)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        saved(network, tmp_path)
    finally:
        sys.setrecursionlimit(before)
    refused(tmp_path / "evil.pt")


def test_layers_shared_in_very_many_ways(network: Any, tmp_path: Path) -> None:
    share(network)
    refused(saved(network, tmp_path), "are shared in")


CHANGES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "names are a number": (lambda n: n, {"names": 5}),
    "names are None": (lambda n: n, {"names": None}),
    "names are lists": (lambda n: n, {"names": {0: [[]]}}),
    "names have keys of two kinds": (lambda n: n, {"names": {0: "a", "b": "c"}}),
    "classes are text": (lambda n: n.model[-1], {"nc": "x"}),
    "classes are endless": (lambda n: n.model[-1], {"nc": 10**5000}),
    "classes are negative": (lambda n: n.model[-1], {"nc": -1}),
    "no classes": (lambda n: n.model[-1], {"nc": None}),
    "stride is a number": (lambda n: n.model[-1], {"stride": 5}),
    "stride is infinite": (lambda n: n.model[-1], {"stride": torch.tensor([float("inf")])}),
    "stride is empty": (lambda n: n.model[-1], {"stride": torch.zeros(0)}),
    "stride is huge": (lambda n: n.model[-1], {"stride": torch.tensor([1e9])}),
    "coefficients are text": (lambda n: n.model[-1], {"nm": "32"}),
    "coefficients are many": (lambda n: n.model[-1], {"nm": 2**40}),
    "a method is a number": (lambda n: n, {"float": 5}),
    "forward is a number": (lambda n: n.model[3], {"forward": 5}),
    "layers are a number": (lambda n: n.model[3], {"_modules": 5}),
    "parameters are a text": (lambda n: n.model[3].conv, {"_parameters": "abc"}),
    "buffers are a list": (lambda n: n.model[3].bn, {"_buffers": [1, 2]}),
    "hooks are numbers": (lambda n: n.model[3], {"_forward_hooks": {0: 5}}),
    "padding is huge": (lambda n: n.model[3].conv, {"padding": (10**6, 10**6)}),
    "padding is text": (lambda n: n.model[3].conv, {"padding": "x" * 1000}),
    "groups are 0": (lambda n: n.model[3].conv, {"groups": 0}),
    "inputs come from nowhere": (lambda n: n.model[3], {"f": 10**9}),
    "what is kept is a number": (lambda n: n, {"save": 5}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_attributes_of_any_type(change: str, network: Any, tmp_path: Path) -> None:
    where, attributes = CHANGES[change]
    vars(where(network)).update(attributes)
    refused(saved(network, tmp_path))


def test_an_upsampling_without_bounds(network: Any, tmp_path: Path) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Upsample):
            layer.scale_factor = 100_000.0
    refused(saved(network, tmp_path))


def test_what_ends_the_process_ends_a_child() -> None:
    import os

    with pytest.raises(ExportError, match=r"w\.pt: reading it ends the process"):
        rehearse(os.abort, Path("w.pt"), Limits(10, GB))
    with pytest.raises(ExportError, match=r"takes more than 1\.0 GB of memory"):
        rehearse(lambda: bytearray(20 * GB), Path("w.pt"), Limits(10, GB))
    with pytest.raises(ExportError, match="raises KeyError"):
        rehearse(lambda: {}["x"], Path("w.pt"), Limits(10, GB))


def test_names_of_a_trusted_file_are_checked_too(network: Any, tmp_path: Path) -> None:
    network.names = 5
    with pytest.raises(ExportError, match=r"evil\.pt: its names are a int"):
        load.load_checkpoint(saved(network, tmp_path), trust=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends it")
def test_a_child_ends_with_the_process_that_was_killed(tmp_path: Path) -> None:
    """It has inherited the locks on drafts: the next run took those of the killed process for alive."""
    code = "import os, time; from pathlib import Path\n"
    code += "from fastsam_deploy.export.checkpoint.rehearsal import rehearse\n"
    code += "from fastsam_deploy.runtime.isolation.limits import Limits\n"
    code += "from fastsam_deploy.runtime.system.locks import open_locked\n"
    code += f"held = open_locked(Path({str(tmp_path / 'held')!r}))\n"
    code += "def work(): print('up', flush=True); time.sleep(60)\n"
    code += "rehearse(work, Path('x.pt'), Limits(60, 1 << 30))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        process.kill()
        process.stdout.read()  # ends when the child has ended, which has the same output
    open_locked(tmp_path / "held").close()

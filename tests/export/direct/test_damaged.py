"""Checkpoints with damage at random places: a graph, or an error that says what is wrong; never another exception."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="needs the extra [direct]: onnx is not installed")

from fastsam_deploy.export.direct import network as module
from fastsam_deploy.export.direct.records import Global, Record, Storage, Tensor
from fastsam_deploy.export.errors import ExportError

STORAGE = Storage("6", "HalfStorage", 4608)  # that of model.1.conv.weight
JUNK: list[Any] = [
    *(None, -1, 0, 1, 2**40, 1.5, float("nan"), float("inf"), "text", b"bytes", True, [], {}, (), [1, 2], (0, 0), [[]]),
    *({0: 1}, {"a": None}, STORAGE, Global("torch.Size")),
    *(Tensor(STORAGE, 0, (4608,), (1,)), Tensor(STORAGE, 0, (), ()), Tensor(STORAGE, 0, (0,), (1,))),
    *(Record(Global("torch.nn.modules.conv.Conv2d")), Record(Global("ultralytics.nn.modules.block.C2f"))),
]


def read(path: Path) -> None:
    """Build the graph, or raise ExportError."""
    try:
        with module.open_network(path) as network:
            network.graph(18)
    except ExportError as error:
        assert path.name in str(error)  # noqa: PT017


def places_in(content: Any) -> list[tuple[Any, Any]]:
    """Every table or list in the content, with each of its keys."""
    found, seen, waiting = [], set(), [content]
    while waiting:
        value = waiting.pop()
        table = value.state if isinstance(value, Record) else value
        if id(table) in seen or not isinstance(table, (dict, list)):
            continue
        seen.add(id(table))
        keys = list(table) if isinstance(table, dict) else range(len(table))
        found += [(table, key) for key in keys]
        waiting += [table[key] for key in keys]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_bytes_of_the_pickle(seed: int, demo_checkpoint: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(demo_checkpoint) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen, path = random.Random(seed), tmp_path / "damaged.pt"
    pickle_name = next(name for name in members if name.endswith("/data.pkl"))
    for _ in range(15):
        data = bytearray(members[pickle_name])
        at = chosen.randrange(len(data))
        data[at : at + chosen.choice([0, 1, 1, 9])] = chosen.randbytes(chosen.choice([0, 1, 1, 4]))
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, bytes(data) if name == pickle_name else content)
        read(path)


@pytest.mark.parametrize("seed", range(3))
def test_attributes_of_the_layers(seed: int, demo_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, whole = random.Random(seed), module.unpickled

    def damaged(data: bytes) -> Any:
        content = whole(data)
        places = places_in(content["model"])
        for _ in range(chosen.choice([1, 1, 2, 5])):
            table, key = chosen.choice(places)
            table[key] = chosen.choice(JUNK)
        return content

    monkeypatch.setattr(module, "unpickled", damaged)
    for _ in range(15):
        read(demo_checkpoint)

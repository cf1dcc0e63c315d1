"""The archive of a checkpoint: sizes are checked before reading, and what torch.save does not write is refused."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastsam_deploy.export.direct import archive
from fastsam_deploy.export.direct.archive import CheckpointArchive
from fastsam_deploy.export.direct.records import Refused, Storage, Tensor
from fastsam_deploy.export.errors import ExportError


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Write an archive like one of torch.save."""

    def write(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
        path = tmp_path / "m.pt"
        with zipfile.ZipFile(path, "w", compression) as file:
            for name, data in members.items():
                file.writestr(name, data)
        return path

    return write


NUMBERS = np.arange(12, dtype="<f4")
MEMBERS = {"m/data.pkl": b"pickle", "m/data/0": NUMBERS.tobytes()}


def tensor(count: int = 12, kind: str = "FloatStorage", shape: tuple[int, ...] = (3, 4)) -> Tensor:
    strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    return Tensor(Storage("0", kind, count), 0, shape, strides)


def test_the_pickle_and_the_numbers_are_read(written: Callable[..., Path]) -> None:
    with CheckpointArchive(written(MEMBERS)) as opened:
        assert opened.pickle() == b"pickle"
        np.testing.assert_array_equal(opened.array(tensor()), NUMBERS.reshape(3, 4))
    turned = Tensor(Storage("0", "FloatStorage", 12), 0, (3, 4), (1, 3))
    with CheckpointArchive(written(MEMBERS)) as opened:
        np.testing.assert_array_equal(opened.array(turned), NUMBERS.reshape(4, 3).T)
    big = {**MEMBERS, "m/byteorder": b"big", "m/data/0": NUMBERS.astype(">f4").tobytes()}
    with CheckpointArchive(written(big)) as opened:
        np.testing.assert_array_equal(opened.array(tensor()), NUMBERS.reshape(3, 4))


def test_a_zip_bomb_is_refused_unread(written: Callable[..., Path]) -> None:
    bomb = written({"m/data.pkl": b"\0" * 10_000_000, "m/data/0": b"\0" * 10_000_000}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 30_000
    with CheckpointArchive(bomb) as opened:
        with pytest.raises(Refused, match="compressed"):
            opened.pickle()
        with pytest.raises(Refused, match="compressed"):
            opened.array(tensor(2_500_000, shape=(2_500_000,)))


def test_the_same_numbers_many_times_are_refused(written: Callable[..., Path]) -> None:
    large = tensor(25_000, shape=(25_000,))
    with CheckpointArchive(written({**MEMBERS, "m/data/0": bytes(100_000)})) as opened:
        opened.array(large)
        opened.array(large)
        with pytest.raises(Refused, match=r"100,000 bytes in data/0"):
            opened.array(large)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"m/data/0": b""}, "not one of torch.save"),
        ({"m/data.pkl": b"", "n/data.pkl": b""}, "not one of torch.save"),
        ({"m/data.pkl": b"", "m/constants.pkl": b""}, "not one of torch.save"),
    ],
    ids=["no pickle", "two pickles", "TorchScript"],
)
def test_another_archive_is_refused(members: dict[str, bytes], said: str, written: Callable[..., Path]) -> None:
    with pytest.raises(Refused, match=said):
        CheckpointArchive(written(members))


def test_numbers_that_do_not_fill_their_storage_are_refused(written: Callable[..., Path]) -> None:
    with CheckpointArchive(written(MEMBERS)) as opened:
        with pytest.raises(Refused, match="has 48 bytes in data/0, expected 24"):
            opened.array(tensor(kind="HalfStorage"))
        with pytest.raises(Refused, match="no member data/1"):
            opened.array(Tensor(Storage("1", "FloatStorage", 12), 0, (12,), (1,)))


def test_a_pickle_that_is_too_long_is_refused(written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_PICKLE_BYTES", 5)
    with CheckpointArchive(written(MEMBERS)) as opened, pytest.raises(Refused, match=r"6 bytes in data\.pkl"):
        opened.pickle()


def test_a_damaged_member_is_refused(written: Callable[..., Path]) -> None:
    path = written(MEMBERS)
    data = bytearray(path.read_bytes())
    data[data.index(NUMBERS.tobytes()) + 5] ^= 1
    path.write_bytes(data)
    with CheckpointArchive(path) as opened, pytest.raises(Refused, match="damaged member data/0"):
        opened.array(tensor())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no zip archive"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "before version 1.6"),
        (b"<html>not found</html>" * 20, "no zip archive"),
    ],
    ids=["empty", "torch before 1.6", "a web page"],
)
def test_a_file_that_is_no_archive_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(data)
    with pytest.raises(Refused, match=said):
        CheckpointArchive(path)


def test_a_large_table_of_contents_is_refused_unread(written: Callable[..., Path]) -> None:
    path = written(MEMBERS)
    data = bytearray(path.read_bytes())
    data[-10:-6] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    with pytest.raises(Refused, match="zip directory of"):
        CheckpointArchive(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(kept: float, demo_checkpoint: Path, tmp_path: Path) -> None:
    data = demo_checkpoint.read_bytes()
    path = tmp_path / "m.pt"
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(Refused, match="no zip archive"):
        CheckpointArchive(path)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"absent\.pt: cannot be read \(No such file"):
        CheckpointArchive(tmp_path / "absent.pt")

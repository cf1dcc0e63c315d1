"""The zip archive that `torch.save` writes: a pickle, and one uncompressed member for each storage of numbers."""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import ExportError
from .records import Refused, Tensor

MAX_FILE_BYTES = 4 * 2**30
"""FastSAM-x has 145 MB; the largest YOLO with the state of its optimizer has less than 1 GB."""

MAX_PICKLE_BYTES = 16 * 2**20
"""That of FastSAM-x has 0.4 MB."""

MAX_DIRECTORY_BYTES = 4 * 2**20
"""Of the archive's table of contents; 0.1 MB in FastSAM-x."""

_DTYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}

_END, _END64, _LOCATOR = b"PK\5\6", b"PK\6\6", b"PK\6\7"


class CheckpointArchive:
    """A `.pt` file, opened for reading.

    Members are read uncompressed only, each as long as its entry says, and all of them together at most twice as long
    as the file: so memory is bounded by the size of the file.

    Attributes:
        path: the file.

    Example:
        >>> with CheckpointArchive(Path("FastSAM-s.pt")) as archive:  # doctest: +SKIP
        ...     content = unpickled(archive.pickle())
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            ExportError: there is no such file, or it cannot be opened.
            Refused: it is no archive of torch.save.
        """
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise ExportError(f"{path}: cannot be read ({error.strerror or error})") from error
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            _check_end(self._file, self._size)
            self._zip = zipfile.ZipFile(self._file)
            self._members = {info.filename: info for info in self._zip.infolist()}
            if len(self._members) != len(self._zip.infolist()):
                raise Refused("has two members of the same name")
            pickles = [name for name in self._members if name.endswith("/data.pkl")]
            if len(pickles) != 1 or f"{pickles[0][:-8]}constants.pkl" in self._members:
                raise Refused("is a zip archive, but not one of torch.save with a single data.pkl")
            self._root = pickles[0].removesuffix("data.pkl")
            self._left = 2 * self._size
            self._big = self._optional("byteorder") == b"big"
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
            self._file.close()
            raise Refused(f"has a damaged zip archive ({error})") from error
        except Refused:
            self._file.close()
            raise

    def pickle(self) -> bytes:
        """The pickle.

        Raises:
            Refused: it is too long, compressed or damaged.
        """
        return self._read("data.pkl", MAX_PICKLE_BYTES)

    def array(self, tensor: Tensor) -> NDArray[np.generic]:
        """The numbers of a tensor; those of the type bfloat16 as float32.

        Raises:
            Refused: they are missing, compressed or damaged, or their size is not that of the storage.
        """
        storage = tensor.storage
        data = self._read(f"data/{storage.key}", self._size)
        if len(data) != storage.bytes:
            raise Refused(f"has {len(data)} bytes in data/{storage.key}, expected {storage.bytes} for its storage")
        values = np.frombuffer(data, np.dtype(_DTYPES[storage.kind]).newbyteorder(">" if self._big else "<"))
        values = values[tensor.offset : tensor.offset + tensor.count]
        if storage.kind == "BFloat16Storage":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        # By decreasing stride the elements lie in order; then the axes are put in the order of the shape.
        order = sorted(range(len(tensor.shape)), key=lambda axis: -tensor.strides[axis])
        dense = values.reshape([tensor.shape[axis] for axis in order])
        return dense.transpose(np.argsort(order)) if order else dense

    def sha256(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        digest = hashlib.sha256()
        self._file.seek(0)
        while block := self._file.read(2**20):
            digest.update(block)
        return digest.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> CheckpointArchive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _optional(self, name: str) -> bytes:
        return self._read(name, 64) if self._root + name in self._members else b""

    def _read(self, name: str, most: int) -> bytes:
        info = self._members.get(self._root + name)
        if info is None:
            raise Refused(f"has no member {name:.60}")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            raise Refused(f"has a compressed or encrypted member {name:.60}, which torch.save does not write")
        self._left -= info.file_size
        if info.file_size > most or self._left < 0:
            raise Refused(f"has {info.file_size:,} bytes in {name:.60}, expected {most:,} or fewer")
        try:
            with self._zip.open(info) as member:
                data = member.read()
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
            raise Refused(f"has a damaged member {name:.60} ({error})") from error
        if len(data) != info.file_size:
            raise Refused(f"has {len(data)} bytes in {name:.60}, its directory says {info.file_size}")
        return data


def _check_end(file: BinaryIO, size: int) -> None:
    """Check the size of the table of contents before zipfile reads it whole."""
    if size > MAX_FILE_BYTES:
        raise Refused(f"has {size:,} bytes, expected {MAX_FILE_BYTES:,} or fewer")
    file.seek(max(0, size - 98))
    tail = file.read(98).rjust(98, b"\0")
    locator, end = tail[56:76], tail[76:]
    if end[:4] != _END:
        file.seek(0)
        kind = "is a file that torch wrote before version 1.6" if _is_legacy(file.read(16)) else "is no zip archive"
        raise Refused(f"{kind}, expected one that torch.save wrote")
    (directory,) = struct.unpack("<I", end[12:16])
    if locator[:4] == _LOCATOR:
        (place,) = struct.unpack("<Q", locator[8:16])
        if tail[:4] != _END64 or place != size - 98:
            raise Refused("has a zip directory that is not where its end says")
        (directory,) = struct.unpack("<Q", tail[40:48])
    if directory > min(size, MAX_DIRECTORY_BYTES):
        raise Refused(f"has a zip directory of {directory:,} bytes, expected {MAX_DIRECTORY_BYTES:,} or fewer")


def _is_legacy(start: bytes) -> bool:
    """Whether a file begins as those of torch before 1.6 do: a pickle of the number 0x1950a86a20f9469cfc6c."""
    return start[:1] == b"\x80" and bytes.fromhex("6cfc9c46f9206aa85019") in start

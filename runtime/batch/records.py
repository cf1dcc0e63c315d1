"""Records: what a run did with each image, as plain JSON values. `resume` reads them again."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import FastSamError
from ..pipeline import FastSAM
from ..prompts.base import listed
from ..prompts.kinds import is_registered
from ..segments import Prompt, Segments
from ..stages.reading.decoded import Selection
from ..tiling.grid import Tiles
from .json_lines import JsonLines

OF_SEGMENTS = ("class_names", "segments")
"""Keys of a record that a record without segments does not have."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """Which file was read: if one of these values changes, it counts as another file.

    Attributes:
        path: absolute.
        bytes: its size.
        mtime_ns: when its content was last changed, nanoseconds since 1970.

    Example:
        >>> InputFile("/photos/cat.jpg", 37201, 1_700_000_000_000_000_000).to_json()["bytes"]
        37201
    """

    path: str
    bytes: int
    mtime_ns: int

    @classmethod
    def at(cls, path: Path) -> InputFile | None:
        """The file at a path; None for standard input, a pipe, or a file that cannot be examined."""
        try:
            status = path.stat()
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return cls(absolute(path), status.st_size, status.st_mtime_ns)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> InputFile:
        """Read it from a record. Raises KeyError."""
        return cls(plain["path"], plain["bytes"], plain["mtime_ns"])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def absolute(path: Path) -> str:
    """The path from the root of the file system; links are not followed.

    Example:
        >>> absolute(Path("/photos/old/../cat.jpg"))
        '/photos/cat.jpg'
    """
    return os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links


@dataclass(frozen=True)
class RunSettings:
    """What all images of a run have in common, for their records.

    Attributes:
        model: of `describe_model`.
        prompts: as JSON; empty for everything.
        reading: page, bands and range of values, where they are chosen.
        outputs: which files are written for each image.
        tiles: how images are cut; None: they are not.

    Example:
        >>> RunSettings({"conf": 0.4}).to_json()
        {'prompts': [], 'reading': {}, 'outputs': {}}
    """

    model: Mapping[str, Any]
    prompts: Sequence[Mapping[str, Any]] = ()
    reading: Mapping[str, Any] | None = None
    outputs: Mapping[str, Any] | None = None
    tiles: Tiles | None = None

    @classmethod
    def of(
        cls,
        model: FastSAM,
        prompt: Prompt | Sequence[Prompt] | None,
        selection: Selection,
        outputs: Mapping[str, Any] | None = None,
        *,
        file: Path | None = None,
        tiles: Tiles | None = None,
    ) -> RunSettings:
        """The settings of a run with an open model.

        Args:
            model: open.
            prompt, selection, outputs: of the run.
            file: of the model, which is hashed if it does not say of which checkpoint it is; None if there is no file.
            tiles: of the run.
        """
        described = describe_model(model)
        if described["checkpoint_sha256"] is None and file is not None and file.is_file():
            described["file_sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        prompts = [item.to_json() for item in listed(prompt) if is_registered(item)]
        return cls(described, prompts, selection.to_json(), outputs, tiles)

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the model, which records have under a key of its own."""
        cut = {} if self.tiles is None else {"tiles": asdict(self.tiles)}
        reading, outputs = dict(self.reading or {}), dict(self.outputs or {})
        return {"prompts": list(self.prompts), "reading": reading, **cut, "outputs": outputs}


class Records:
    """Where the records of a run are written: with segments, without them, or both.

    Example:
        >>> with Records([JsonLines("-")]) as records:
        ...     records.write({"image": {"path": "cat.jpg"}, "segments": []})
        {"image": {"path": "cat.jpg"}, "segments": []}
    """

    def __init__(self, full: Sequence[JsonLines] = (), short: JsonLines | None = None) -> None:
        """
        Args:
            full: each gets all of each record.
            short: gets it without `OF_SEGMENTS`; None for none.
        """
        self._full, self._short = tuple(full), short

    def write(self, record: Mapping[str, Any]) -> None:
        """Write a record. One of an image without segments does not replace the records of an earlier run.

        Raises:
            FastSamError: it cannot be written.
        """
        replaces = "segments" in record
        for lines in self._full:
            lines.write(record, replaces=replaces)
        if self._short is not None:
            short = {key: value for key, value in record.items() if key not in OF_SEGMENTS}
            self._short.write(short, replaces=replaces)

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        for lines in (*self._full, *([] if self._short is None else [self._short])):
            lines.close()


def segments_json(segments: Segments, path: Path | str, model: Mapping[str, Any]) -> dict[str, Any]:
    """`Segments.to_json` with the path of the image, the model and its settings, and the time by stage (milliseconds).

    Example:
        >>> segments_json(Segments.empty((4, 5)), Path("photo.jpg"), {"conf": 0.4})["image"]
        {'path': 'photo.jpg', 'height': 4, 'width': 5}
    """
    plain = segments.to_json()
    return {
        "image": {"path": str(path), **plain.pop("image")},
        "model": dict(model),
        "timing_ms": {stage: round(ms, 3) for stage, ms in segments.timing_ms.items()},
        **plain,
    }


def error_json(error: FastSamError) -> dict[str, str]:
    """An error as plain values.

    Example:
        >>> error_json(FastSamError("cat.jpg: no such file"))
        {'kind': 'FastSamError', 'message': 'cat.jpg: no such file'}
    """
    return {"kind": type(error).__name__, "message": str(error)}


def describe_model(model: FastSAM) -> dict[str, Any]:
    """The settings behind an answer: checkpoint, precision, engine, device, thresholds, and the CLIP if there is one.

    Example:
        >>> with FastSAM() as model:  # doctest: +SKIP
        ...     describe_model(model)["engine"]
        'onnxruntime'
    """
    return {
        "checkpoint_sha256": model.spec.checkpoint_sha256,
        "precision": model.spec.precision,
        "device": model.device,
        **model.description,
        "imgsz": model.imgsz,
        **asdict(model.thresholds),
        **({} if model.clip is None else {"clip": model.clip.description}),
    }

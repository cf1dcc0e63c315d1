"""Where an earlier run stopped: its records say which images are done, and with which settings."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..documents import parse
from ..errors import ParameterError
from ..system.lines import whole_lines
from .records import InputFile, RunSettings, absolute

_OF_MODEL = (
    *("file", "checkpoint_sha256", "file_sha256", "address", "engine", "precision", "device"),
    *("imgsz", "conf", "iou", "max_det"),
)
"""What makes two answers of a model different. Threads and versions of libraries are not asked for."""


@dataclass(frozen=True)
class EarlierRun:
    """The records of an earlier run that are still true.

    Attributes:
        path: of the records.
        done: image → the name of its outputs.
        lines: numbers of the lines to keep, from 0.

    Example:
        >>> EarlierRun(Path("none.jsonl")).done
        {}
    """

    path: Path
    done: Mapping[InputFile, Path] = field(default_factory=dict)
    lines: frozenset[int] = frozenset()

    def kept(self) -> Iterator[bytes]:
        """The lines to keep, read again from the file."""
        if self.lines:
            yield from (line for number, line in enumerate(whole_lines(self.path)) if number in self.lines)


def read_earlier(path: Path, settings: RunSettings, inputs: Iterable[Path], folder: Path | None) -> EarlierRun:
    """Read the records of an earlier run.

    An image is done if its record has no error, its file has not changed since or is gone, and the files that were
    written for it are still there. The records of other images of this run are dropped, as is a part of a line at the
    end of the file. Those of images that this run does not have are kept.

    Args:
        path: of the records; the file may be missing.
        settings: of this run.
        inputs: the images of this run.
        folder: for the outputs of this run; None for none.

    Raises:
        ParameterError: the file has other lines than records, or an image was done with other settings.

    Example:
        >>> read_earlier(Path("none.jsonl"), RunSettings({}), [], None).done
        {}
    """
    if not path.exists():
        return EarlierRun(path)
    wanted = compared_settings(settings)
    now = {absolute(source) for source in inputs}
    done: dict[InputFile, Path] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(whole_lines(path)):
        record = _parsed(path, number, line)
        try:
            source = absolute(Path(record["image"]["path"]))
            if "error" not in record and record["input"] is not None:
                image, name = InputFile.from_json(record["input"]), Path(record["name"])
                source = image.path
                _check_settings(path, _compared(record["model"], record["settings"]), wanted)
                if InputFile.at(Path(image.path)) in (image, None) and _has_files(record, folder):
                    done[image] = name
                    lines[source] = number
                    continue
        except (KeyError, TypeError, AttributeError) as error:
            raise _no_record(path, number) from error
        if source not in now:
            lines[source] = number
    return EarlierRun(path, done, frozenset(lines.values()))


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = parse(line)
    except ValueError as error:
        raise _no_record(path, number) from error
    if not isinstance(record, dict) or "image" not in record:
        raise _no_record(path, number)
    return record


def _no_record(path: Path, number: int) -> ParameterError:
    return ParameterError(
        f"{path}: line {number + 1} is no record of an image that can be continued; expected the file of an earlier "
        "`fastsam segment`; name that, or leave out --resume to begin anew"
    )


def compared_settings(settings: RunSettings) -> dict[str, Any]:
    """All that has to be equal in two runs, by name.

    Example:
        >>> compared_settings(RunSettings({"conf": 0.4}))["conf"]
        0.4
    """
    return _compared(settings.model, settings.to_json())


def _compared(model: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """All that has to be equal in two runs, flat."""
    outputs = {key: value for key, value in settings["outputs"].items() if key != "folder"}
    clip = model.get("clip")
    return {
        **{key: model.get(key) for key in _OF_MODEL},
        "clip": None if clip is None else clip.get("name"),
        "prompts": settings["prompts"],
        "reading": settings["reading"],
        "tiles": settings.get("tiles"),
        **outputs,
    }


def _check_settings(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if changes := changed_settings(before, now):
        raise ParameterError(
            f"{path}: images are done with other settings ({changes}); expected the same with --resume; leave it out "
            "to do all of them again, or choose another output"
        )


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between the settings of an earlier run, as they were read from its file, and those of this one.

    Args:
        before, now: plain JSON values by name.

    Returns:
        For a message; "" if nothing does.

    Example:
        >>> changed_settings({"conf": 0.4, "tiles": None}, {"conf": 0.3, "tiles": None})
        'conf was 0.4, now 0.3'
    """
    # Through JSON, as tuples become lists there and numbers may be rounded.
    now = json.loads(json.dumps(now))
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return "; ".join(f"{name} was {_short(before.get(name))}, now {_short(now.get(name))}" for name in names)


def _short(value: Any) -> str:
    return f"{json.dumps(value):.60}"


def _has_files(record: Mapping[str, Any], folder: Path | None) -> bool:
    """Whether all files of a record are in the folder of this run, which may have been moved since."""
    files = [Path(path) for paths in record.get("files", {}).values() for path in paths]
    if not files:
        return True
    before = Path(record["settings"]["outputs"]["folder"])
    return folder is not None and all((folder / os.path.relpath(path, before)).exists() for path in files)


def check_resumable(path: Path | None) -> Path:
    """The file of records of a run that shall be continued.

    Raises:
        ParameterError: there is none.

    Example:
        >>> check_resumable(Path("out.jsonl")).name
        'out.jsonl'
    """
    if path is None or (path.exists() and not path.is_file()):
        raise ParameterError(
            "--resume without records of an earlier run: expected --output FOLDER or --json FILE, the same as then"
        )
    return path

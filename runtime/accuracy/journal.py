"""What a long measurement has found so far, one line an image, so that it goes on where it was interrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..batch.resume import changed_settings
from ..documents import dump, parse
from ..errors import FastSamError, ParameterError
from ..system.atomic import os_errors_as
from ..system.lines import LineFile, whole_lines


class Journal:
    """Results by image in a file of JSON lines, the first of which has the settings of the measurement.

    Attributes:
        path: of the file.
        done: results by the name of the image.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Journal(Path(folder, "edges.jsonl"), {"thresholds": 99}) as journal:
        ...         journal.add("101085", {"matched": 7})
        ...     with Journal(Path(folder, "edges.jsonl"), {"thresholds": 99}) as journal:
        ...         journal.done
        {'101085': {'matched': 7}}
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """
        Args:
            path: of the file; made if it is missing, continued if it is of the same measurement.
            settings: plain JSON values, all that the results depend on.

        Raises:
            ParameterError: the file belongs to a measurement with other settings, or is something else.
            FastSamError: it cannot be written.
        """
        self.path = path
        with os_errors_as(FastSamError, path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        lines = list(whole_lines(path)) if path.exists() else []
        self.done = _results(path, lines, settings)
        self._file = LineFile(path)
        self._file.start(lines or [(dump({"settings": settings}) + "\n").encode()])

    def add(self, image: str, result: Mapping[str, Any]) -> None:
        """Write down the result of an image. Raises FastSamError if the disk is full."""
        self._file.write((dump({"image": image, "result": result}) + "\n").encode())
        self.done[image] = dict(result)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def digest(*paths: Path) -> str:
    """What tells whether files are the same as in an earlier run: the first half of the SHA-256 of their bytes.

    Raises:
        ParameterError: a file cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as empty:
        ...     digest(Path(empty.name))
        'e3b0c44298fc1c149afbf4c8996fb924'
    """
    total = hashlib.sha256()
    for path in paths:
        try:
            total.update(path.read_bytes())
        except OSError as error:
            raise ParameterError(f"{path}: {error.strerror or error}; expected a file that can be read") from error
    return total.hexdigest()[:32]


def _results(path: Path, lines: list[bytes], settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    if not lines:
        return {}
    try:
        first, *rest = [parse(line) for line in lines]
        before = dict(first["settings"])
        done = {row["image"]: dict(row["result"]) for row in rest}
    except (ValueError, KeyError, TypeError) as error:
        raise ParameterError(
            f"{path}: not the journal of a measurement ({error}); expected JSON lines; name another --output"
        ) from error
    if changes := changed_settings(before, settings):
        raise ParameterError(
            f"{path}: belongs to a measurement with other settings ({changes}); expected the same; repeat them to go "
            "on, or name another --output"
        )
    return done

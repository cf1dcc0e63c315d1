"""JSON Lines: written as they come, and what an earlier run wrote is not lost for nothing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from fastsam_deploy.runtime.batch.json_lines import JsonLines
from fastsam_deploy.runtime.errors import FastSamError


def test_a_line_is_in_the_file_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with JsonLines(str(path)) as lines:
        for i in range(3):
            lines.write({"a": i})
            assert [json.loads(line)["a"] for line in path.read_text().splitlines()] == list(range(i + 1))
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]


def test_an_item_that_is_no_json_leaves_all_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("earlier\n")
    with pytest.raises(TypeError), JsonLines(str(path)) as lines:
        lines.write({"a": object()})
    assert path.read_text() == "earlier\n"
    with JsonLines(str(path)) as lines:
        lines.write({"a": 1})
        with pytest.raises(TypeError):
            lines.write({"a": object()})
    assert path.read_text() == '{"a": 1}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]


def test_failures_alone_do_not_replace_an_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("earlier\n")
    with JsonLines(path) as lines:
        lines.write({"failed": 1}, replaces=False)
    assert path.read_text() == "earlier\n"
    with JsonLines(path) as lines:
        lines.write({"failed": 1}, replaces=False)
        assert path.read_text() == "earlier\n"
        lines.write({"a": 1})
        lines.write({"failed": 2}, replaces=False)
    assert path.read_text() == '{"failed": 1}\n{"a": 1}\n{"failed": 2}\n'
    with JsonLines(tmp_path / "new.jsonl") as lines:
        lines.write({"failed": 1}, replaces=False)
    assert (tmp_path / "new.jsonl").read_text() == '{"failed": 1}\n', "there is nothing to lose"


def test_json_lines_refuse_what_they_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FastSamError, match="cannot be written"):
        JsonLines("none/out.json")
    Path("folder").mkdir()
    with pytest.raises(FastSamError, match="it is a folder"):
        JsonLines("folder")


def test_json_lines_leave_the_umask_alone_and_take_the_longest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(mask: int) -> int:
        raise AssertionError("os.umask is for the whole process")

    monkeypatch.setattr(os, "umask", forbidden)
    path = tmp_path / ("n" * 250 + ".json")
    with JsonLines(str(path)) as lines:
        lines.write({"a": 1})
    assert path.read_text() == '{"a": 1}\n'


def test_json_lines_through_a_pipe_are_read_as_they_are_written(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with JsonLines(str(pipe)) as lines:
        for i in range(3):
            lines.write({"a": i})
            assert os.read(reader, 100) == f'{{"a": {i}}}\n'.encode()
    os.close(reader)
    assert pipe.is_fifo()


def test_a_full_disk_behind_json_lines_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(FastSamError, match=r"/dev/full: cannot be written \(No space left"),
        JsonLines("/dev/full") as lines,
    ):
        lines.write({"a": 1})
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(FastSamError, match="standard output is closed"), JsonLines("-") as lines:
        lines.write({"a": 1})

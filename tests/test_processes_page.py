"""The table of docs/processes.md: each cell says what a test shows, and that test is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCAL, CUDA = "tests/runtime/test_processes.py::", "tests/runtime/cuda/test_processes.py::"
CLIENT = "tests/triton_models/test_processes.py::TestForks::"
WAYS = ("grpc-shared", "grpc", "http-shared", "http")

WORKS = {
    "ONNX Runtime": [f"{LOCAL}test_workers_that_open_the_model_themselves[onnxruntime-{{method}}]"],
    "OpenVINO": [f"{LOCAL}test_workers_that_open_the_model_themselves[openvino-{{method}}]"],
    "TensorRT, CUDA": [
        f"{CUDA}test_workers_that_open_the_model_themselves[{engine}-{{method}}]"
        for engine in ("tensorrt", "onnxruntime")
    ],
    "client of a server": [f"{CLIENT}test_workers_that_open_the_client_themselves[{{method}}-{way}]" for way in WAYS],
}
INHERITED = {
    **{
        column: [
            f"{LOCAL}test_a_model_opened_before_a_fork_answers_in_the_child_which_ends[{engine}-2]",
            f"{LOCAL}test_gunicorn_with_preload_recycles_its_workers[{engine}]",
        ]
        for column, engine in (("ONNX Runtime", "onnxruntime"), ("OpenVINO", "openvino"))
    },
    "TensorRT, CUDA": [
        f"{CUDA}test_a_model_opened_before_a_fork_is_an_error_in_the_child_which_ends[{engine}]"
        for engine in ("tensorrt", "onnxruntime")
    ],
    "client of a server": [
        *(f"{CLIENT}test_workers_that_inherit_a_client_get_their_own_answers[{way}]" for way in WAYS),
        f"{CLIENT}test_gunicorn_with_preload_recycles_its_workers[grpc]",
    ],
}
PICKLED = {
    "ONNX Runtime": [f"{LOCAL}test_an_open_model_is_not_pickled[onnxruntime]"],
    "OpenVINO": [f"{LOCAL}test_an_open_model_is_not_pickled[openvino]"],
    "TensorRT, CUDA": [f"{CUDA}test_an_open_model_is_not_pickled"],
    "client of a server": [f"{CLIENT}test_an_open_client_is_not_pickled[grpc]"],
}
CELLS = {
    "`fork`, opened in the worker": ("fork", ["yes", "yes", "yes, if the parent has not used CUDA", "yes"], WORKS),
    "`fork`, opened before the fork": (
        "fork",
        [
            "yes: the worker opens the file again for its first image",
            "the same",
            "no: an error says to open it in the worker",
            "yes: the worker opens connections of its own",
        ],
        INHERITED,
    ),
    "`forkserver`, opened in the worker": ("forkserver", ["yes"] * 4, WORKS),
    "`spawn`, opened in the worker": ("spawn", ["yes"] * 4, WORKS),
    "a model as an argument of a worker (pickling)": (
        "",
        ["no: an error says to pass the path", *["the same"] * 3],
        PICKLED,
    ),
}
"""Row → start method, what its cells say, and the tests of each column that show it."""


def table() -> list[list[str]]:
    """Rows of cells, the heading first."""
    text = (ROOT / "docs/processes.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", text, re.M)]
    return [rows[0], *rows[2:]]


def test_the_table_says_what_is_tested() -> None:
    heading, *rows = table()
    assert heading[1:] == list(WORKS) == list(INHERITED) == list(PICKLED)
    assert {row[0]: row[1:] for row in rows} == {row: cells for row, (_, cells, _) in CELLS.items()}


def test_each_cell_has_its_tests() -> None:
    """They are collected, not run: tests of CUDA and of a server are for processes and environments of their own."""
    named = {
        name.format(method=method) for method, _, tests in CELLS.values() for names in tests.values() for name in names
    }
    files = sorted({name.partition("::")[0] for name in named})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    if "tritonclient" in done.stdout + done.stderr:
        pytest.skip("needs tritonclient to collect the tests of clients")
    assert not named - set(done.stdout.splitlines()), done.stdout[-2000:] + done.stderr[-2000:]

"""Names of files, and what servers say, are shown by a terminal and not obeyed."""

from __future__ import annotations

import ast
import logging
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from fastsam_deploy.runtime.batch.console import complain, open_console, printable, say, warnings_shown

ROOT = Path(__file__).resolve().parents[3]
EVIL = "a\x1b]0;owned\x07\x1b[2J\rb\u202egpj\nfastsam: all done: [/x] :bomb: \x9b31m"
COMMANDS = {"fastsam": "fastsam_deploy.runtime.cli", "fastsam-export": "fastsam_deploy.export.cli"}
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]")


def _run(command: str, *arguments: str | Path, cwd: Path) -> str:
    """What a command prints, on both streams; every line of its errors is its own."""
    run = subprocess.run(
        [sys.executable, "-B", "-m", COMMANDS[command], *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        timeout=300,
        check=False,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200", "NO_COLOR": "1"},
    )
    printed = (run.stdout + run.stderr).decode()
    assert "Traceback" not in printed, printed
    assert not UNSAFE.search(printed), repr(printed)
    assert not re.search("^fastsam: all done", printed, re.MULTILINE), printed
    return printed


@pytest.fixture
def folder(tmp_path: Path, coffee: Path, cat: Path) -> Path:
    for source, name in ((coffee, f"{EVIL}.jpg"), (cat, f"{EVIL}2.jpg")):
        (tmp_path / name.replace("/", "|")).write_bytes(source.read_bytes())
    (tmp_path / f"broken{EVIL.replace('/', '|')}.png").write_bytes(b"no image")
    (tmp_path / os.fsdecode(b"bytes-\xff\xfe.jpg")).write_bytes(cat.read_bytes())
    (tmp_path / f"skipped{EVIL.replace('/', '|')}.cr2").write_bytes(b"raw")
    return tmp_path


def test_segment_names_files_in_lines_of_their_own(folder: Path):
    printed = _run("fastsam", "segment", folder, "--imgsz", "160", "-o", folder / "out\x1b[31m", cwd=folder)
    assert "\\x1b]0;owned\\x07" in printed and "\\u202e" in printed and ":bomb:" in printed and "\\udcff" in printed
    assert "1 of 4 images failed" in printed and "skipped, of formats" in printed


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("fastsam", ("segment", f"{EVIL}.jpg")),
        ("fastsam", ("segment", f"--{EVIL}")),
        ("fastsam", (f"segment{EVIL}",)),
        ("fastsam", ("segment", "x.jpg", "--imgsz", EVIL)),
        ("fastsam", ("segment", "x.jpg", "--model", f"{EVIL}.onnx")),
        ("fastsam", ("segment", "x.jpg", "--prompt", EVIL)),
        ("fastsam", ("segment", "x.jpg", "--model", f"http://localhost:1/{EVIL}")),
        ("fastsam", ("video", f"{EVIL}.avi")),
        ("fastsam", ("doctor", "--model", f"{EVIL}.onnx")),
        ("fastsam", ("bench", "speed", "x.jpg", "--model", f"{EVIL}=x.onnx")),
        ("fastsam-export", ("onnx", f"{EVIL}.pt")),
        ("fastsam-export", ("triton", f"{EVIL}.onnx")),
        ("fastsam-export", (f"--{EVIL}",)),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0][:8],
)
def test_errors_quote_arguments(tmp_path: Path, command: str, arguments: tuple[str, ...]):
    if command == "fastsam-export":
        pytest.importorskip("torch")
    printed = _run(command, *arguments, cwd=tmp_path)
    assert "\\x1b" in printed or "valid integer" in printed


def test_tables_show_names(tmp_path: Path, coffee: Path, demo_onnx: Path):
    settings = ("--imgsz", "160", "--runs", "1", "--warmup", "0")
    printed = _run("fastsam", "bench", "speed", coffee, "--model", f"{EVIL}={demo_onnx}", *settings, cwd=tmp_path)
    assert "[/x]" in printed and ":bomb:" in printed


@pytest.fixture
def server() -> Iterator[str]:
    """A server whose every answer is an error that says what a terminal must not obey."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = ('{"error": "' + EVIL.encode("unicode_escape").decode().replace("\\x", "\\u00") + '"}').encode()
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/fastsam"
        http.shutdown()


def test_messages_of_a_server_are_quoted(tmp_path: Path, coffee: Path, server: str):
    pytest.importorskip("tritonclient")
    assert "owned" in _run("fastsam", "segment", coffee, "--model", server, cwd=tmp_path)


@given(st.text())
def test_printable_is_one_line_that_can_be_encoded_and_stays(text: str):
    shown = printable(text)
    assert shown.encode() and not UNSAFE.search(shown) and len(shown.splitlines()) == 1 if text else shown == ""
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text


def test_ordinary_names_stay(capsys: pytest.CaptureFixture[str]):
    text = "Hündin 犬 🐶 [1] a\\b 'c'.jpg: 3 segments → out/Hündin.overlay.jpg"
    say(open_console(), text)
    complain("fastsam", text)
    captured = capsys.readouterr()
    assert captured.out == f"{text}\n" and captured.err == f"fastsam: {text}\n"


def test_tables_and_warnings_go_the_same_way(capsys: pytest.CaptureFixture[str]):
    table = Table(EVIL)
    table.add_row(EVIL)
    open_console().print(table)
    with warnings_shown("fastsam"):
        logging.getLogger("fastsam_deploy").warning("%s", EVIL)
    captured = capsys.readouterr()
    assert not UNSAFE.search(captured.out + captured.err)
    assert len(captured.err.splitlines()) == 1


def test_colours_of_our_own_reach_a_terminal():
    """Only texts are shown as they are: what the console adds itself, a terminal obeys."""
    main, other = pty.openpty()
    code = "from fastsam_deploy.runtime.batch.console import open_console\n"
    code += "open_console().print('a\\x1b[31m', style='bold', highlight=False)"
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    subprocess.run([sys.executable, "-c", code], stdout=other, check=True, env={**kept, "TERM": "xterm-256color"})
    os.close(other)
    printed = os.read(main, 1000).decode()
    os.close(main)
    assert "\x1b[1ma\\x1b[31m\x1b[0m" in printed


def test_nothing_else_prints():
    """A new command that prints by itself would print control characters."""
    allowed = {"runtime/batch/console.py", "export/cli/scripts.py", "runtime/batch/json_lines.py"}
    for folder in ("runtime", "export"):
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                assert called not in {"print", "Console", "rich.print"} or name in allowed, f"{name}:{node.lineno}"
                if called == "typer.echo":
                    assert name in {"runtime/cli/doctor.py", "runtime/cli/results.py", "runtime/cli/batch.py"}, name


@pytest.mark.parametrize(
    "command", ["segment", "video", "serve", "tune", "batch run", "bench fidelity", "app", "download"]
)
def test_help_leaves_room_for_its_texts_in_80_columns(command: str):
    """In every panel, an option's description has 30 columns or more."""
    done = subprocess.run(
        [sys.executable, "-m", COMMANDS["fastsam"], *command.split(), "--help"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        env={**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"},
    )
    panels = re.findall(r"^╭─ (.*?) ─+╮\n(.*?)^╰", done.stdout, re.MULTILINE | re.DOTALL)
    assert panels
    for name, text in panels:
        starts = [re.match(r"│ +(?=[^ ])", line) for line in text.splitlines()]
        continued = [match.end() for match in starts if match is not None and match.end() > 12]
        assert all(78 - start >= 30 for start in continued), f"{name}:\n{text}"

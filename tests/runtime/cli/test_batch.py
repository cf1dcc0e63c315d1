"""The command `fastsam batch` and its sub-commands."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from tests.batch_runs import FAST, batch_command, files_of, run_batch, run_inline, started_batch, write_photographs
from tests.command_line import run_fastsam

pytest.importorskip("pyarrow", reason="the extra [batch]")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_photographs(tmp_path / "photos", 6)
    return tmp_path / "photos"


def test_run_need_not_be_named_and_processes_give_what_one_process_does(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run_inline(photos, "expected", chunk=2)
    for extra in ([], ["run"]):
        code = run_fastsam(monkeypatch, "batch", *extra, "photos", "-o", "out", *FAST, "--chunk", "2", "--workers", "2")
        assert code == 0
    assert files_of(Path("out")) == files_of(Path("expected"))
    err = capfd.readouterr().err
    assert "fastsam: 6 done, 0 failed, 0 were done before → out (" in err
    assert "fastsam: 6 of 6 images are done already\n" in err


def test_status_and_export(photos: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    (photos / "first/00001.jpg").write_bytes(b"")
    run_inline("photos", "out", chunk=2)
    assert run_fastsam(monkeypatch, "batch", "status", "out") == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "complete: 6 of 6 images done (100.0 %), 1 failed"
    assert lines[1].startswith("3 of 3 parts, ") and " images/s with 1 worker" in lines[2]
    Path("out/parts/000000002.parquet").unlink()
    assert run_fastsam(monkeypatch, "batch", "status", "out", "--json") == 0
    status = json.loads(capfd.readouterr().out)
    assert (status["images"], status["done"], status["failed"], status["parts"]) == (6, 4, 1, 2)
    assert run_fastsam(monkeypatch, "batch", "export", "out", "--format", "coco", "--output", "set") == 0
    assert len(json.loads(Path("set/annotations.json").read_text())["images"]) == 3
    assert run_fastsam(monkeypatch, "batch", "status", "photos") == 2
    assert "photos: has no plan.json; expected the output of `fastsam batch`" in capfd.readouterr().err


def test_status_while_it_runs_and_a_second_run_at_once_is_refused(
    photos: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photographs(photos / "more", 54)
    with started_batch(photos, "out", "--chunk", "2", "--workers", "1") as process:
        while not list(Path("out/parts").glob("*.parquet")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)  # so that it still runs when it is asked for
        try:
            assert run_fastsam(monkeypatch, "batch", "status", "out", "--json") == 0
            status = json.loads(capfd.readouterr().out)
            assert status["state"] == "running" and 0 < status["done"] < status["images"] == 60
            assert run_fastsam(monkeypatch, "batch", "photos", "-o", "out", *FAST) == 2
            assert "out: another run writes to it; wait for its end" in capfd.readouterr().err
        finally:
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
    state = Path("out/state.json")
    killed = json.loads(state.read_text())
    state.write_text(json.dumps({**killed, "updated_s": killed["updated_s"] - 100}))
    assert run_fastsam(monkeypatch, "batch", "status", "out") == 0
    assert capfd.readouterr().out.startswith("interrupted: ")


def test_damaged_images_do_not_stop_and_decoders_may_be_isolated(photos: Path) -> None:
    """One of them says that it has 1.6 gigapixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"0"))]
    png = [
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part)) for kind, part in chunks
    ]
    (photos / "first/00000-large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png))
    (photos / "first/00001.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    code, err = run_batch("photos", "out", "--isolate", "--workers", "1")
    assert code == 0 and "dead letters: out/failed" in err
    from fastsam_deploy.runtime.batch import read

    errors = {image.id: str(image.error) for image in read("out") if image.error}
    assert set(errors) == {"first/00000-large.png", "first/00001.jpg"}
    assert "40000×40000" in errors["first/00000-large.png"], errors


def test_lines_where_there_is_no_terminal(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from fastsam_deploy.runtime.cli import batch_run

    monkeypatch.setattr(batch_run, "LINE_EVERY_S", 0)
    assert run_fastsam(monkeypatch, "batch", "photos", "-o", "out", *FAST, "--chunk", "2", "--workers", "1") == 0
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition(" images, ")[0] for line in lines[:3]] == [f"fastsam: {n} of 6" for n in (2, 4, 6)]
    assert "0 failed, " in lines[0] and "/s, " in lines[0] and lines[0].endswith(" left")
    capfd.readouterr()
    assert run_fastsam(monkeypatch, "batch", "photos", "-o", "out2", *FAST, "--workers", "1", "-q") == 0
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal and named pipes")
def test_a_bar_on_a_terminal_and_a_second_ctrl_c_ends_at_once(photos: Path) -> None:
    """A pipe stands for the last image, so that the run lasts until the bar was seen."""
    import pty

    os.mkfifo(photos / "second/00009.jpg")
    shown, terminal = pty.openpty()
    command = batch_command(photos, "out", "--chunk", "3", "--workers", "1")
    process = subprocess.Popen(command, stderr=terminal, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"})
    os.close(terminal)
    try:
        wait_for(shown, "6/7")
        process.send_signal(signal.SIGINT)
        wait_for(shown, "once more to stop at once")
        process.send_signal(signal.SIGINT)
        assert process.wait(120) in (130, -2, 1)
    finally:
        process.kill()
        process.wait()
        os.close(shown)
    assert sorted(files_of(Path("out"))) == ["parts/000000000.parquet", "parts/000000001.parquet"]


def wait_for(terminal: int, text: str) -> None:
    """Read what a terminal shows until the text is there; the time limit of the test ends this."""
    seen = ""
    while text not in seen:
        seen += os.read(terminal, 1 << 16).decode(errors="replace")


def test_when_all_images_fail_the_run_has_failed(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"")
    code, err = run_batch(photos, "out", "--workers", "1")
    assert code == 2 and "all 6 images failed; see out/failed" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none: no such file or folder"),
        (["photos", "--model", "none.onnx"], "none.onnx"),
        (["photos", "--workers", "0"], "workers is 0, expected a whole number of 1 or more"),
        (["photos", "--chunk", "0"], "chunk is 0"),
        (["photos", "--image-timeout", "0"], "--image-timeout is 0.0, expected seconds, above 0"),
        (["photos", "--text", "a dog"], "--text without --clip"),
        (["nokind://bucket/photos"], "nokind"),
    ],
)
def test_mistakes_are_said_in_one_line_and_nothing_is_begun(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run_fastsam(monkeypatch, "batch", *arguments, "-o", "out", *FAST) == 2
    err = capfd.readouterr().err
    assert message in err and err.count("\n") == 1, err
    assert not Path("out/plan.json").exists()


def test_help_names_the_commands() -> None:
    start = "import sys; from fastsam_deploy.runtime.cli.main import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", start, "batch", "-h"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ("run", "status", "export", "fastsam batch SOURCE"))

"""Downloads from a real web server: whole or not at all, continued after an interruption, refused if wrong."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastsam_deploy.runtime.errors import ParameterError
from fastsam_deploy.runtime.weights import fetch as module
from fastsam_deploy.runtime.weights.fetch import DownloadError, fetch
from fastsam_deploy.runtime.weights.published import PublishedWeights
from tests.web_server import Release

CONTENT = random.Random(0).randbytes(3_000_000)
WEIGHTS = PublishedWeights("FastSAM-s", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture(autouse=True)
def _server(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    release.files["FastSAM-s.pt"] = CONTENT
    monkeypatch.setattr(module, "PAUSES_S", (0.01, 0.02))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "FastSAM-s.pt"


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_arrives_with_progress_and_is_not_fetched_again(release: Release, target: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert fetch(WEIGHTS, target, release=release.url, progress=lambda *done: seen.append(done)) == target
    assert target.read_bytes() == CONTENT
    assert names(target) == ["FastSAM-s.pt"]
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    fetch(WEIGHTS, target, release=release.url)
    assert release.asked == [("FastSAM-s.pt", None)]


def test_a_connection_that_ends_early_is_continued_at_once(release: Release, target: Path) -> None:
    release.cuts += [1_000_000, 500_000, 700_000]
    fetch(WEIGHTS, target, release=release.url)
    assert target.read_bytes() == CONTENT
    assert [asked for _, asked in release.asked] == [None, "bytes=1000000-", "bytes=1500000-", "bytes=2200000-"]


def test_what_has_arrived_is_kept_and_the_next_call_continues(release: Release, target: Path) -> None:
    release.cuts += [1_000_000, 0, 0]
    with pytest.raises(DownloadError) as caught:
        fetch(WEIGHTS, target, release=release.url)
    assert names(target) == ["FastSAM-s.pt.part"]
    for words in ("1.0 MB have arrived", release.url, WEIGHTS.sha256, str(target)):
        assert words in str(caught.value)
    fetch(WEIGHTS, target, release=release.url)
    assert release.asked[-1] == ("FastSAM-s.pt", "bytes=1000000-")
    assert target.read_bytes() == CONTENT
    assert names(target) == ["FastSAM-s.pt"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_process_that_is_killed_leaves_what_the_next_one_continues(release: Release, target: Path) -> None:
    release.slow_s = 0.05
    code = (
        "import sys\nfrom pathlib import Path\nfrom fastsam_deploy.runtime.weights.fetch import fetch\n"
        "from fastsam_deploy.runtime.weights.published import PublishedWeights\n"
        "fetch(PublishedWeights('FastSAM-s', int(sys.argv[1]), sys.argv[2]), Path(sys.argv[3]), release=sys.argv[4])"
    )
    arguments = [str(WEIGHTS.size_bytes), WEIGHTS.sha256, str(target), release.url]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments])
    part = target.with_name("FastSAM-s.pt.part")
    deadline = time.monotonic() + 60
    while not (part.is_file() and part.stat().st_size > 500_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(DownloadError, match="another process is downloading"):
        fetch(WEIGHTS, target, release=release.url)
    process.send_signal(signal.SIGKILL)
    process.wait()
    have = part.stat().st_size
    assert 500_000 < have < len(CONTENT)
    release.slow_s = 0
    fetch(WEIGHTS, target, release=release.url)
    assert release.asked[-1] == ("FastSAM-s.pt", f"bytes={have}-")
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_sends_everything_again(release: Release, target: Path) -> None:
    release.ranges = False
    release.cuts += [1_000_000]
    fetch(WEIGHTS, target, release=release.url)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "rest", [b"of another file", b"x" * 3_000_000, b"x" * 4_000_000], ids=["short", "same", "long"]
)
def test_a_remainder_of_another_file_is_replaced(rest: bytes, release: Release, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("FastSAM-s.pt.part").write_bytes(rest)
    fetch(WEIGHTS, target, release=release.url)
    assert target.read_bytes() == CONTENT
    assert names(target) == ["FastSAM-s.pt"]


def test_a_wrong_file_is_refused_and_not_kept(release: Release, target: Path) -> None:
    release.files["FastSAM-s.pt"] = CONTENT[:-1] + b"?"
    with pytest.raises(DownloadError, match=rf"has SHA-256 \w{{64}}, expected {WEIGHTS.sha256}.*not kept"):
        fetch(WEIGHTS, target, release=release.url)
    assert names(target) == []


def test_a_file_without_end_is_not_stored(release: Release, target: Path) -> None:
    release.files["FastSAM-s.pt"] = CONTENT * 3
    with pytest.raises(DownloadError, match="longer than the 3,000,000 bytes"):
        fetch(WEIGHTS, target, release=release.url)
    assert names(target) == []


def test_a_file_that_is_there_and_is_another_is_left_alone(release: Release, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"FastSAM-s\.pt has SHA-256 \w{64}, expected .*move it away"):
        fetch(WEIGHTS, target, release=release.url)
    assert target.read_bytes() == b"mine"
    assert release.asked == []


def test_a_missing_file_is_said_at_once(release: Release, target: Path) -> None:
    release.files.clear()
    with pytest.raises(DownloadError, match=r"the server answers 404 Not Found.*put it at"):
        fetch(WEIGHTS, target, release=release.url)
    assert len(release.asked) == 1
    assert names(target) == []


def test_a_busy_server_is_asked_again(release: Release, target: Path) -> None:
    release.status += [503, 429]
    fetch(WEIGHTS, target, release=release.url)
    assert target.read_bytes() == CONTENT


def test_without_a_network_the_error_says_what_to_fetch_and_where_to_put_it(target: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        fetch(WEIGHTS, target, release="http://127.0.0.1:9/release")  # nobody listens there
    for words in (
        "Connection refused",
        "http://127.0.0.1:9/release/FastSAM-s.pt",
        "3.0 MB",
        WEIGHTS.sha256,
        str(target),
    ):
        assert words in str(caught.value)
    assert names(target) == []


def test_a_name_that_does_not_resolve_is_said(target: Path) -> None:
    with pytest.raises(DownloadError, match="put it at"):
        fetch(WEIGHTS, target, release="http://no-such-host.invalid/release")


def test_a_silent_server_is_not_waited_for(release: Release, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    release.slow_s = 3
    start = time.monotonic()
    with pytest.raises(DownloadError, match="timed out"):
        fetch(WEIGHTS, target, release=release.url)
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("url", ["file:///etc", "ftp://host/x", "", "https://"])
def test_only_web_addresses_are_taken(url: str, target: Path) -> None:
    with pytest.raises(ParameterError, match="no web address"):
        fetch(WEIGHTS, target, release=url)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, release: Release) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=r"cannot be written.*choose another folder"):
        fetch(WEIGHTS, tmp_path / "file" / "FastSAM-s.pt", release=release.url)

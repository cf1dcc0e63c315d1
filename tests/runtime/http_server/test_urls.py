"""Images by URL: off, from hosts of a list, at public addresses, within limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fastsam_deploy.runtime import ImageError, ParameterError
from fastsam_deploy.runtime.http_server.admission import Deadline
from fastsam_deploy.runtime.http_server.refusals import LateError
from fastsam_deploy.runtime.http_server.urls import ImageFetcher, Origin, is_public


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.partition("?")[0]
        self.send_response({"/moved": 302, "/missing": 404}.get(name, 200))
        if name == "/moved":
            self.send_header("Location", "/image")
        self.end_headers()
        if name == "/image":
            self.wfile.write(b"image of " + self.path.encode())
        for _ in range(1000 if name in ("/long", "/slow") else 0):
            try:
                self.wfile.write(b"x" * 1000)
            except OSError:
                return
            time.sleep(0.05 if name == "/slow" else 0)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetcher(address: str, **settings: float) -> ImageFetcher:
    return ImageFetcher([Origin.from_text(address)], most_bytes=100_000, allows=lambda _: True, **settings)


def test_an_image_of_a_listed_host(address: str):
    assert fetcher(address).fetch(f"{address}/image?size=3", Deadline(60)) == b"image of /image?size=3"


def test_an_address_of_this_network_is_refused_even_when_its_host_is_listed(address: str):
    listed = ImageFetcher([Origin.from_text(address)], most_bytes=100_000)
    with pytest.raises(ParameterError, match=r"127\.0\.0\.1 has an address that is not public; send the image itself"):
        listed.fetch(f"{address}/image", Deadline(60))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/moved", r"the answer is 302, expected 200 \(redirections are not followed\)"),
        ("/missing", "the answer is 404"),
        ("/long", "more than 100,000 bytes; make the image smaller"),
    ],
)
def test_what_is_no_image_that_may_be_fetched(path: str, message: str, address: str):
    with pytest.raises(ImageError, match=message):
        fetcher(address).fetch(address + path, Deadline(60))


def test_it_takes_no_longer_than_it_may(address: str):
    with pytest.raises(LateError):
        fetcher(address, seconds=0.2).fetch(f"{address}/slow", Deadline(60))


def test_nothing_listens_there(address: str):
    gone = "http://127.0.0.1:1"
    with pytest.raises(ImageError, match="cannot be fetched"):
        fetcher(gone).fetch(f"{gone}/image", Deadline(60))


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example.org/cat.jpg", "http://images.example.org/cat.jpg", "https://images.example.org:444/x",
        "https://images.example.org@evil.example/x", "https://user:word@images.example.org/x", "file:///etc/passwd",
        "https://images.example.org.evil.example/", "https:images.example.org", "", "https://images.example.org:x/",
        "https://images.example.org/a b", "https://images.example.org/\r\nHost: x", "https://[::1/", "ftp://x/y",
        "https://images.example.org\\@evil.example/", "https://images.example.org/" + "x" * 3000, "https://ímages/",
    ],
)  # fmt: skip
def test_other_urls_are_refused_before_anything_is_looked_up(url: str):
    listed = ImageFetcher([Origin.from_text("https://images.example.org")], most_bytes=9, allows=lambda _: False)
    with pytest.raises(ParameterError, match=r"expected one of https://images\.example\.org; send the image itself"):
        listed.fetch(url, Deadline(60))


def test_without_a_list_urls_are_off():
    with pytest.raises(ParameterError, match="this server fetches no images; send the image itself"):
        ImageFetcher([], most_bytes=9).fetch("https://images.example.org/x", Deadline(60))


@pytest.mark.parametrize(
    "text", ["images.example.org", "https://x/path", "https://x?y", "ftp://x", "https://", "x" * 9999]
)
def test_an_origin_is_a_scheme_and_a_host(text: str):
    with pytest.raises(ParameterError, match="is no origin of images; expected https://HOST"):
        Origin.from_text(text)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.2", "169.254.169.254", "172.16.0.1", "192.168.1.1", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "::", "::1", "fc00::1", "fe80::1%eth0", "ff02::1", "::ffff:10.0.0.1",
        "64:ff9b::a00:1", "2002:a00:1::1", "2001:0:0:0::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"])
def test_addresses_that_are_public(address: str):
    assert is_public(address)

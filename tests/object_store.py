"""An S3 server of our own on this machine, and what was asked of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest import mock

import pytest

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "tests",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Credentials that the server takes. Those of the person who runs the tests stay out."""


@dataclass
class ObjectStore:
    """A bucket on a server.

    Attributes:
        address: of the server, as `AWS_ENDPOINT_URL` has it.
        url: of the bucket.
        requests: method and path of each request with its query, in the order of arrival.
        broken: whether the next requests are answered with 503.
    """

    address: str
    url: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    broken: bool = False

    def count(self, method: str, part: str = "") -> int:
        """Requests so far with this method, and this text in their path."""
        return sum(method == asked and part in path for asked, path in self.requests)


@contextmanager
def object_store_on_this_machine() -> Iterator[ObjectStore]:
    """A server with an empty bucket, until the block ends. The environment names it, also for child processes.

    Example:
        with object_store_on_this_machine() as store:
            fsspec.open(f"{store.url}/photos/cat.jpg")
    """
    moto_server = pytest.importorskip("moto.moto_server.werkzeug_app", reason="needs the extra [dev]")
    pytest.importorskip("s3fs", reason="needs the extra [dev]")
    from werkzeug.serving import make_server

    store = ObjectStore("", "s3://bucket")
    application = moto_server.DomainDispatcherApplication(moto_server.create_backend_app)

    def counted(environment: dict[str, str], start: object) -> object:
        path, query = environment["PATH_INFO"], environment.get("QUERY_STRING", "")
        store.requests.append((environment["REQUEST_METHOD"], f"{path}?{query}" if query else path))
        if store.broken:
            start("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
        return application(environment, start)

    server = make_server("127.0.0.1", 0, counted, threaded=True, request_handler=_quiet())
    store.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with mock.patch.dict(os.environ, {**ENVIRONMENT, "AWS_ENDPOINT_URL": store.address}):
            _make_bucket(store)
            yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _quiet() -> type:
    from werkzeug.serving import WSGIRequestHandler

    class Quiet(WSGIRequestHandler):
        def log_request(self, *_: object) -> None: ...

    return Quiet


def _make_bucket(store: ObjectStore) -> None:
    """An empty one, whatever an earlier server of this process held; moto keeps objects in this process."""
    import s3fs
    from moto.backends import get_backend

    for regions in get_backend("s3").values():
        for backend in regions.values():
            backend.reset()
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir(store.url.removeprefix("s3://"))
    store.requests.clear()

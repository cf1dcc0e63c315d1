"""A web server on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.web_server import Release, release_on_this_machine


@pytest.fixture
def release() -> Iterator[Release]:
    with release_on_this_machine() as served:
        yield served

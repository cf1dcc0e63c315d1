"""The processes of one server: a prompt goes to the one that keeps the image.

All of them accept connections from one socket, so that any of them may get a prompt on an image that another one has
segmented. Each also listens on a socket in a folder that only this user can open.
"""

from __future__ import annotations

import http.client
import re
import socket
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..documents import dump
from .admission import Deadline
from .answers import Answer
from .refusals import UnknownImageError

_ID = re.compile(r"([0-9]{1,3})-.+")


@dataclass(frozen=True)
class Peers:
    """The processes of a server.

    Attributes:
        folder: of their sockets.
        number: of this process, from 0.
        count: of processes.

    Example:
        >>> peers = Peers(Path("/run/fastsam"), 1, 4)
        >>> peers.prefix, peers.is_mine("1-abc"), peers.is_mine("2-abc")
        ('1-', True, False)
    """

    folder: Path
    number: int
    count: int

    @property
    def prefix(self) -> str:
        """With which the ids of this process begin."""
        return f"{self.number}-"

    @property
    def path(self) -> Path:
        """The socket of this process."""
        return self._path_of(self.number)

    def is_mine(self, name: str) -> bool:
        """Whether an id is of this process, or of none."""
        return self._owner_of(name) in (None, self.number)

    def listener(self) -> socket.socket:
        """The socket of this process, in the place of that of a process that has ended."""
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.path))
        return listener

    def select(self, name: str, values: Any, deadline: Deadline) -> Answer:
        """The answer of the process that keeps an image.

        Args:
            name: id of the image, of another process.
            values: of the request.
            deadline: of the request.

        Raises:
            UnknownImageError: that process has ended.
        """
        owner = self._owner_of(name)
        try:
            with closing(_Connection(self._path_of(owner or 0), deadline.left_s())) as connection:
                connection.request("POST", "/v1/select", dump(values), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                body, kind = answer.read(), answer.getheader("content-type", "")
                return Answer(body, kind, answer.getheader("x-image-id"), answer.status)
        except TimeoutError:
            raise deadline.late() from None
        except (OSError, http.client.HTTPException) as error:
            raise UnknownImageError(f"the process that kept the image {name!r:.80} has ended; send it again") from error

    def _owner_of(self, name: str) -> int | None:
        match = _ID.fullmatch(name)
        return None if match is None or int(match[1]) >= self.count else int(match[1])

    def _path_of(self, number: int) -> Path:
        return self.folder / f"{number}.sock"


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """See `HTTPConnection.connect`."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

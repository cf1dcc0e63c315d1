"""The way to a Triton server over gRPC."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...connection import Address, Connection
from ...errors import ServerError
from ...system.fork import ForkGate
from .retries import GREETING_S

CALLS = ForkGate(patience_s=5.0)
"""Calls of gRPC's library. In a child that is forked meanwhile it waits for ever, or ends the process."""


def refuse_after_fork(address: Address) -> ServerError:
    """What to raise where gRPC does not work in a forked child."""
    return ServerError(
        f"{address.text}: gRPC does not work in this process, which was forked from one that was using it; start "
        "workers with the method 'spawn' or before requests are sent, or use http://; leave GRPC_ENABLE_FORK_SUPPORT "
        "unset"
    )


class GrpcTransport:
    """A `Transport` on tritonclient's gRPC client."""

    def __init__(self, address: Address, connection: Connection) -> None:
        """
        Raises:
            ServerError: this process was forked while another thread was in gRPC's library.
        """
        if CALLS.is_broken:
            raise refuse_after_fork(address)
        from grpc import ssl_channel_credentials
        from tritonclient import grpc

        self.library = grpc
        self._address, self._connection = address, connection
        files = (connection.root_certificates, connection.private_key, connection.certificate_chain)
        contents = (None if file is None else Path(file).read_bytes() for file in files)
        # A name may stand for several servers: each has its turn, instead of the first having all requests.
        policy = "pick_first" if address.on_this_host else "round_robin"
        options = [
            ("grpc.lb_policy_name", policy),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            # Channels of equal options share a connection, of which a forked child has a copy that it must not use.
            ("fastsam.process", os.getpid()),
        ]
        with CALLS:
            self._client = grpc.InferenceServerClient(
                address.target,
                creds=ssl_channel_credentials(*contents) if address.tls else None,
                channel_args=options,
            )

    def config(self) -> dict[str, Any]:
        answer = self._call(self._client.get_model_config, self._address.model, self._address.version, as_json=True)
        config: dict[str, Any] = answer["config"]
        return config

    def extensions(self) -> list[str]:
        return list(self._call(self._client.get_server_metadata).extensions)

    def register(self, name: str, key: str, size: int) -> None:
        self._call(self._client.register_system_shared_memory, name, key, size)

    def unregister(self, name: str) -> None:
        self._call(self._client.unregister_system_shared_memory, name)

    def registered(self) -> list[str]:
        return list(self._call(self._client.get_system_shared_memory_status).regions)

    def infer(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        timeout_s = self._connection.timeout_s
        return self._call(
            self._client.infer,
            self._address.model,
            list(inputs),
            model_version=self._address.version,
            outputs=list(outputs),
            timeout=int(timeout_s * 1e6),
            timeout_s=timeout_s,
        )

    def close(self) -> None:
        with CALLS:
            self._client.close()

    def abandon(self) -> None:
        """Nothing: gRPC's library does what it can by itself."""

    def _call(self, method: Callable[..., Any], *arguments: Any, timeout_s: float = GREETING_S, **named: Any) -> Any:
        with CALLS:
            return method(*arguments, headers=dict(self._connection.headers), client_timeout=timeout_s, **named)

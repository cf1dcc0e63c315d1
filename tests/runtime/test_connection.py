"""Addresses of models on servers, and the settings of a connection."""

from __future__ import annotations

from typing import Any

import pytest

from fastsam_deploy.runtime import Connection, ParameterError
from fastsam_deploy.runtime.connection import Address


@pytest.mark.parametrize(
    ("text", "host", "prefix", "model", "version"),
    [
        ("grpc://pods:9001/fastsam", "pods:9001", "", "fastsam", ""),
        ("grpc://pods/fastsam", "pods:8001", "", "fastsam", ""),
        ("grpcs://pods/fastsam", "pods:8001", "", "fastsam", ""),
        ("http://pods/fastsam", "pods:8000", "", "fastsam", ""),
        ("https://pods/fastsam", "pods:443", "", "fastsam", ""),
        ("https://pods:8000/fastsam/", "pods:8000", "", "fastsam", ""),
        ("http://[::1]:80/fastsam/3", "[::1]:80", "", "fastsam", "3"),
        ("http://pods/7", "pods:8000", "", "7", ""),
        ("http://pods/7/3", "pods:8000", "", "7", "3"),
        ("https://gateway/vision/fastsam", "gateway:443", "/vision", "fastsam", ""),
        ("https://gateway/vision/v1.2/fastsam/3/", "gateway:443", "/vision/v1.2", "fastsam", "3"),
        ("grpc://dns:///pods:8001/fastsam", "pods:8001", "", "fastsam", ""),
    ],
)
def test_an_address(text: str, host: str, prefix: str, model: str, version: str) -> None:
    address = Address.from_text(text)
    assert (address.host, address.prefix, address.model, address.version) == (host, prefix, model, version)
    assert address.tls is text.split("://", 1)[0].endswith("s")


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("grpc://pods.fastsam:8001/m", "dns:///pods.fastsam:8001"),
        ("grpc://dns:///pods/m", "dns:///pods:8001"),
        ("grpc://dns://10.0.0.10:53/pods/m", "dns://10.0.0.10:53/pods:8001"),
        ("grpc://localhost:8001/m", "localhost:8001"),
        ("grpc://[fe80::1]:8001/m", "[fe80::1]:8001"),
    ],
)
def test_the_server_as_grpc_names_it(text: str, target: str) -> None:
    assert Address.from_text(text).target == target


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("grpc://pods:8001", "is not the address of a model"),
        ("grpc://pods:x/m", "is not the address of a model"),
        ("http://pods/m?version=3", "is not the address of a model"),
        ("http://po ds/m", "is not the address of a model"),
        ("grpc://pods:0/m", "port 0, expected 1 to 65535"),
        ("grpc://pods:65536/m", "port 65536"),
        ("grpc://pods:" + "9" * 5000 + "/m", "expected 1 to 65535"),
        ("http://pods..svc/m", "is not a host"),
        ("http://" + "a" * 64 + "/m", "is not a host"),
        ("grpc://[::1::2]:8001/m", "is not a host"),
        ("grpc://gateway/vision/fastsam", "gRPC has no paths, found '/vision'"),
        ("http://dns:///pods/m", "dns:// is gRPC's"),
    ],
)
def test_what_is_no_address(text: str, says: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Address.from_text(text)
    assert says in str(caught.value)


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(ParameterError, match="Connection\\(headers=") as caught:
        Address.from_text("https://me:secret@gateway/fastsam")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"timeout_s": -1}, "timeout_s is -1"),
        ({"timeout_s": float("inf")}, "timeout_s is inf"),
        ({"timeout_s": float("nan")}, "timeout_s is nan"),
        ({"timeout_s": 1e300}, "timeout_s is 1e+300"),
        ({"backoff_s": float("inf")}, "backoff_s inf"),
        ({"backoff_s": float("nan")}, "backoff_s nan"),
        ({"retries": -1}, "retries is -1"),
        ({"retries": 2.5}, "retries is 2.5"),
        ({"in_flight": 0}, "in_flight is 0"),
        ({"in_flight": 2.5}, "in_flight is 2.5"),
        ({"headers": {"authorization": "Bearer a\nb"}}, "header 'authorization'"),
        ({"headers": {"authorization": b"Bearer"}}, "header 'authorization'"),
        ({"headers": {"a\r\nb": "c"}}, "header 'a\\r\\nb'"),
    ],
)
def test_a_setting_out_of_its_range(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Connection(**settings)
    assert says in str(caught.value)
    assert "Bearer" not in str(caught.value)

"""Proxies of the environment: gRPC goes through them without a word, so errors have to name them."""

from __future__ import annotations

import os
import re

from ...connection import Address

_ASKED_BY_GRPC = ("grpc_proxy", "https_proxy", "http_proxy")
_ASKED_BY_OTHERS = ("https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY")
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")


def proxy_note(address: Address) -> str:
    """The end of an error about a server that is not reached: the proxy of the environment, "" where there is none.

    >>> os.environ["http_proxy"] = "http://me:secret@proxy:3128"    # doctest: +SKIP
    >>> proxy_note(Address.from_text("grpc://pods:8001/fastsam"))    # doctest: +SKIP
    '; http_proxy is set: gRPC goes through the proxy http://proxy:3128 unless no_proxy (not set) names pods:8001'
    """
    names = _ASKED_BY_GRPC if address.transport == "grpc" else _ASKED_BY_OTHERS
    name = next((name for name in names if os.environ.get(name)), None)
    if name is None:
        return ""
    proxy = re.sub(r"//[^/]*@", "//", os.environ[name])  # without the password
    if address.transport == "http":
        return f"; {name} is set ({proxy}), but requests to an http:// or https:// model do not go through a proxy"
    exception = next((name for name in _EXCEPTIONS if os.environ.get(name)), "no_proxy")
    told = os.environ.get(exception) or "not set"
    return f"; {name} is set: gRPC goes through the proxy {proxy} unless {exception} ({told}) names {address.host}"

"""
The connections to the provider: one pool, the way through a forward proxy, and errors as words.

Two things make pooled connections survive sleep, VPN changes and providers that close them when
idle: the kernel gives up after seconds on data that nobody acknowledges, and a request that died
on a reused connection before a byte of an answer came is sent again (see `wire.Wire.post`).
"""

from __future__ import annotations

import errno
import socket
import ssl
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp

from ccproxy.worker.upstream.wire import FIELD_LIMIT, READ_BUFFER, Wire

CONNECT_SECONDS = 10.0
"""For one address."""
WAY_SECONDS = 30.0
"""For all that comes before a request: names, each address, a forward proxy, TLS."""
UNACKNOWLEDGED_SECONDS = 8.0
IDLE_CONNECTION_SECONDS = 60.0
CONNECTIONS = 4096

_TIMEOUT = aiohttp.ClientTimeout(connect=WAY_SECONDS, sock_connect=CONNECT_SECONDS)


def open_wire(ca_bundle: Path | None, *, proxy: str | None) -> Wire:
    """Return the way to the provider, through *proxy* if there is one."""
    return Wire(_connector(ca_bundle), proxy=proxy, timeout=_TIMEOUT)


def open_session(ca_bundle: Path | None) -> aiohttp.ClientSession:
    """Return a session of aiohttp's, for requests of any kind."""
    return aiohttp.ClientSession(
        connector=_connector(ca_bundle),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=_TIMEOUT,
        read_bufsize=READ_BUFFER,
        max_line_size=FIELD_LIMIT,
        max_field_size=FIELD_LIMIT,
    )


def _connector(ca_bundle: Path | None) -> aiohttp.TCPConnector:
    """Make a pool of connections; *ca_bundle* is trusted besides the system's."""
    # True is the context that aiohttp has made anyway when it was imported.
    trust = True if ca_bundle is None else _trust(ca_bundle)
    return aiohttp.TCPConnector(
        limit=CONNECTIONS,
        keepalive_timeout=IDLE_CONNECTION_SECONDS,
        ssl=trust,
        socket_factory=_socket,
    )


@cache
def _trust(ca_bundle: Path) -> ssl.SSLContext:
    """Trust the system's certificates and those of *ca_bundle*; nearly a mebibyte, so made once."""
    trust = ssl.create_default_context()
    trust.load_verify_locations(cafile=ca_bundle)
    return trust


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """Make a socket that notices soon when nobody is there any more."""
    family, kind, protocol, *_ = address
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_USER_TIMEOUT": int(UNACKNOWLEDGED_SECONDS * 1000),
        "TCP_KEEPIDLE": 30,
        "TCP_KEEPINTVL": 10,
        "TCP_KEEPCNT": 3,
    }
    for name, value in options.items():
        if (option := getattr(socket, name, None)) is not None:  # not every system has them all
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


_IN_WORDS = {errno.ECONNREFUSED: "connection refused: does a server run there?"}


def explain(error: Exception) -> str:
    """Say in words what went wrong on the way; without addresses that may hold a password."""
    match error:
        case aiohttp.ClientSSLError():
            return _explain_handshake(error)
        case aiohttp.ClientConnectorDNSError():
            return "its name is not known (DNS)"
        case aiohttp.ClientProxyConnectionError():
            return "the forward proxy does not answer; check UPSTREAM_PROXY or HTTPS_PROXY"
        case aiohttp.ClientHttpProxyError():
            return f"the forward proxy refused with {error.status}"
        case aiohttp.ServerTimeoutError() | TimeoutError():
            return "no connection in time"
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection without an answer"
        case aiohttp.ClientResponseError():
            return "what it sent is not HTTP as it should be"
        case aiohttp.ClientPayloadError():
            return "the connection broke in the middle of the answer"
        case OSError():
            return _IN_WORDS.get(error.errno or 0) or error.strerror or "the connection failed"
    return "the connection failed"


_WRONG_CERTIFICATES: dict[int | None, str] = {
    9: "is not valid yet; check the clock of this machine",
    10: "has expired; who runs the server must renew it, or the clock of this machine is wrong",
    **dict.fromkeys((62, 64), "is for another name; check the host of the address"),
    **dict.fromkeys((18, 19, 20, 21), "is not trusted; set CA_BUNDLE if it is your own"),
}
"""By the codes of OpenSSL's X509_V_ERR_… (x509_vfy.h)."""

_NO_TLS = ("wrong version number", "record layer failure", "http request", "packet length too long")


def _explain_handshake(error: aiohttp.ClientSSLError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        wrong = error.certificate_error
        code, said = getattr(wrong, "verify_code", None), getattr(wrong, "verify_message", "")
        return f"its TLS certificate {_WRONG_CERTIFICATES.get(code, f'is refused ({said})')}"
    words = getattr(error.os_error, "reason", None) or str(error.os_error)
    words = words.lower().replace("_", " ")
    if any(one in words for one in _NO_TLS):
        return "it speaks no TLS; check the port, or write http:// if that is meant"
    return f"the TLS handshake failed ({words})"

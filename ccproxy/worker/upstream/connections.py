"""Connections to the provider, and descriptions of connection errors."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp

from ccproxy.worker.aiohttp_internals import use_protocol
from ccproxy.worker.upstream.transport import FIELD_LIMIT, READ_BUFFER, HttpTransport

CONNECT_SECONDS = 10.0
"""Time limit for the TCP connection to one address."""
SETUP_SECONDS = 30.0
"""Time limit for everything before a request: DNS, every address, the forward proxy, TLS."""
IDLE_CONNECTION_SECONDS = 60.0
MAX_CONNECTIONS = 4096

_TIMEOUT = aiohttp.ClientTimeout(connect=SETUP_SECONDS, sock_connect=CONNECT_SECONDS)
_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 8}
"""Keeps the NAT entry of a silent connection alive, and detects a dead connection within 150 s."""


def open_transport(
    ca_bundle: Path | None, *, proxy: str | None, limit: int = MAX_CONNECTIONS
) -> HttpTransport:
    """Return a transport to the provider, through *proxy* if there is one."""
    return HttpTransport(_connector(ca_bundle, limit), proxy=proxy, timeout=_TIMEOUT)


def open_session(ca_bundle: Path | None, **options: Any) -> aiohttp.ClientSession:  # noqa: ANN401 - ClientSession's
    """Return an aiohttp session for requests that are relayed without conversion."""
    connector = _connector(ca_bundle, MAX_CONNECTIONS)
    use_protocol(connector, asyncio.get_running_loop())
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=READ_BUFFER,
        max_line_size=FIELD_LIMIT,
        max_field_size=FIELD_LIMIT,
        **{"timeout": _TIMEOUT, **options},
    )


def _connector(ca_bundle: Path | None, limit: int) -> aiohttp.TCPConnector:
    """Return a connection pool that trusts *ca_bundle* and the system's certificates."""
    # True selects the context that aiohttp created at import.
    trust = True if ca_bundle is None else _trust(ca_bundle)
    return aiohttp.TCPConnector(
        limit=limit,
        keepalive_timeout=IDLE_CONNECTION_SECONDS,
        ssl=trust,
        socket_factory=_socket,
    )


@cache
def _trust(ca_bundle: Path) -> ssl.SSLContext:
    """Return a TLS context that also trusts *ca_bundle*; cached because it takes nearly 1 MiB."""
    trust = ssl.create_default_context()
    trust.load_verify_locations(cafile=ca_bundle)
    return trust


def _socket(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, *_ = address
    connection = socket.socket(family=family, type=kind, proto=protocol)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if (option := getattr(socket, name, None)) is not None:  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection


# Error descriptions.


_TEXTS = {errno.ECONNREFUSED: "connection refused: is a server running there?"}
_EXPLANATIONS: dict[type[BaseException], str] = {
    aiohttp.ClientConnectorDNSError: "its name cannot be resolved (DNS)",
    aiohttp.ClientProxyConnectionError: (
        "the forward proxy does not respond; check UPSTREAM_PROXY or HTTPS_PROXY"
    ),
    aiohttp.ConnectionTimeoutError: "the connection attempt timed out",
    TimeoutError: "it did not respond in time",
    aiohttp.ServerDisconnectedError: "it closed the connection without a response",
}
"""The first matching type applies, so subclasses come before their base classes."""


class ResponseTooLarge(aiohttp.ClientPayloadError):
    """A whole response exceeds the size limit; the message follows "no answer from …: "."""


def explain(error: BaseException) -> str:
    """Describe a connection error for the user, without URLs, which might contain a password."""
    for kind, text in _EXPLANATIONS.items():
        if isinstance(error, kind):
            return text
    match error:
        case aiohttp.ClientSSLError():
            return _explain_handshake(error)
        case aiohttp.ClientHttpProxyError():
            hint = "; set its login in UPSTREAM_PROXY" if error.status == 407 else ""
            return f"the forward proxy refused the connection ({error.status}){hint}"
        case aiohttp.ClientResponseError():
            return _explain_parser(error, "its response is not valid HTTP")
        case aiohttp.ClientPayloadError():
            text = "the connection was lost in the middle of the response"
            return _explain_parser(error, text)
        case OSError():
            return _TEXTS.get(error.errno or 0) or error.strerror or "the connection failed"
    return "the connection failed"


_HTTP2_SETTINGS = re.compile(r"\\x00\\x00.{1,4}\\x04\\x00")


def _explain_parser(error: BaseException, otherwise: str) -> str:
    """Describe an invalid response from the parser's messages, or return *otherwise*."""
    if isinstance(error, ResponseTooLarge):
        return str(error)
    details = _details(error).lower()
    if _HTTP2_SETTINGS.search(details):
        return "it supports only HTTP/2; ccproxy uses HTTP/1.1"
    if "please install" in details:
        return "its response is compressed, which was not requested; ccproxy reads only gzip"
    if "content-encoding" in details:
        return "its compressed response is broken"
    if "framing" in details:
        return "its response is not valid HTTP (broken framing)"
    return otherwise


def _details(error: BaseException | None) -> str:
    """Return the messages of an error and its causes."""
    texts: list[str] = []
    while error is not None and len(texts) < 5:
        texts.append(f"{error!r} {getattr(error, 'message', '')}")
        error = error.__cause__
    return " ".join(texts)


_CERTIFICATE_ERRORS: dict[int | None, str] = {
    9: "is not valid yet; check the clock of this machine",
    10: "has expired: the server's operator must renew it, or the clock of this machine is wrong",
    **dict.fromkeys((62, 64), "is for another name; check the host of the URL"),
    **dict.fromkeys((18, 19, 20, 21), "is not trusted; set CA_BUNDLE if it is your own"),
}
"""Keyed by OpenSSL's X509_V_ERR_… codes (x509_vfy.h)."""

_NO_TLS = ("wrong version number", "record layer failure", "http request", "packet length too long")


def _explain_handshake(error: aiohttp.ClientSSLError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        code, text = getattr(cause, "verify_code", None), getattr(cause, "verify_message", "")
        return f"its TLS certificate {_CERTIFICATE_ERRORS.get(code, f'is refused ({text})')}"
    text = getattr(error.os_error, "reason", None) or str(error.os_error)
    text = text.lower().replace("_", " ")
    if any(words in text for words in _NO_TLS):
        return "it does not speak TLS; check the port, or use http:// if that is intended"
    return f"the TLS handshake failed ({text})"

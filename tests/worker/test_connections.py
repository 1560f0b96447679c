"""The way out: which forward proxy, and errors in words."""

from __future__ import annotations

import errno
import os
import socket

import aiohttp
import pytest

from ccproxy.worker.connections import explain, proxy_for

WORLD = {"HTTPS_PROXY": "http://corp:3128", "http_proxy": "other:8080"}


@pytest.mark.parametrize(
    ("url", "configured", "environ", "proxy"),
    [
        pytest.param("https://api.x.ai/v1", None, {}, None, id="none"),
        pytest.param("https://api.x.ai/v1", None, WORLD, "http://corp:3128", id="HTTPS_PROXY"),
        pytest.param("http://gpu.lan/v1", None, WORLD, "http://other:8080", id="by scheme, bare"),
        pytest.param("https://api.x.ai", "http://mine:1", WORLD, "http://mine:1", id="ours wins"),
        pytest.param("http://127.0.0.1:8000", "http://mine:1", WORLD, None, id="never loopback"),
        pytest.param("http://localhost:8000", None, WORLD, None, id="never localhost"),
        pytest.param("http://[::1]:8000/v1", None, WORLD, None, id="never ::1"),
        pytest.param(
            "https://a.x.ai", None, {"all_proxy": "http://all:1"}, "http://all:1", id="ALL_PROXY"
        ),
        pytest.param(
            "https://a.x.ai", None, {"ALL_PROXY": "socks5://s:1"}, None, id="no SOCKS here"
        ),
    ],
)
def test_forward_proxy(url, configured, environ, proxy):
    assert proxy_for(url, configured, environ or {"PATH": "/bin"}) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "excepted"),
    [
        ("api.x.ai", True),
        ("x.ai", True),
        (".x.ai", True),
        ("*.x.ai", True),
        ("other.com, API.X.AI:443", True),
        ("*", True),
        ("i.x.ai", False),
        ("ai.com", False),
        ("", False),
        (",", False),
        ("10.0.0.0/8", False),
    ],
)
def test_no_proxy(no_proxy, excepted):
    environ = {**WORLD, "NO_PROXY": no_proxy}
    assert (proxy_for("https://api.x.ai/v1", None, environ) is None) is excepted


@pytest.mark.parametrize(
    ("host", "excepted"), [("10.1.2.3", True), ("11.1.2.3", False), ("ten.example", False)]
)
def test_no_proxy_knows_networks(host, excepted):
    environ = {**WORLD, "NO_PROXY": "10.0.0.0/8"}
    assert (proxy_for(f"https://{host}/v1", None, environ) is None) is excepted


def connector_error(kind, number=errno.ECONNREFUSED):
    key = aiohttp.client_reqrep.ConnectionKey("h", 1, False, True, None, None, None)
    return kind(key, OSError(number, os.strerror(number)))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (connector_error(aiohttp.ClientConnectorError), "refused: does a server run there?"),
        (connector_error(aiohttp.ClientConnectorError, errno.EHOSTUNREACH), "No route to host"),
        (connector_error(aiohttp.ClientConnectorDNSError), "DNS"),
        (connector_error(aiohttp.ClientProxyConnectionError), "forward proxy does not answer"),
        (aiohttp.ServerDisconnectedError(), "closed the connection"),
        (aiohttp.ClientPayloadError("x"), "middle of the answer"),
        (aiohttp.ConnectionTimeoutError(), "no connection in time"),
        (aiohttp.ClientConnectionError(), "connection failed"),
        (OSError(), "connection failed"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
    ],
)
def test_errors_are_explained(error, words):
    assert words in explain(error)

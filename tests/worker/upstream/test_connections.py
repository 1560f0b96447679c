"""Connections to the provider: the forward proxy, and messages of errors."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import aiohttp
import pytest

from ccproxy.worker.upstream.connections import explain
from tests.worker.raw_provider import RawProvider


def connector_error(kind, number=errno.ECONNREFUSED):
    key = aiohttp.client_reqrep.ConnectionKey("h", 1, False, True, None, None, None)
    return kind(key, OSError(number, os.strerror(number)))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (connector_error(aiohttp.ClientConnectorError), "refused: is a server running there?"),
        (connector_error(aiohttp.ClientConnectorError, errno.EHOSTUNREACH), "No route to host"),
        (connector_error(aiohttp.ClientConnectorDNSError), "DNS"),
        (connector_error(aiohttp.ClientProxyConnectionError), "forward proxy does not respond"),
        (aiohttp.ServerDisconnectedError(), "closed the connection"),
        (aiohttp.ClientPayloadError("x"), "middle of the response"),
        (aiohttp.ConnectionTimeoutError(), "the connection attempt timed out"),
        (aiohttp.SocketTimeoutError(), "it did not respond in time"),
        (TimeoutError(), "it did not respond in time"),
        (aiohttp.ClientConnectionError(), "connection failed"),
        (OSError(), "connection failed"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
    ],
)
def test_errors_are_explained(error, words):
    assert words in explain(error)


def certificate_error(code, message):
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, message
    key = connector_error(aiohttp.ClientConnectorError)._conn_key
    return aiohttp.ClientConnectorCertificateError(key, error)


def handshake_error(words, reason=None):
    error = ssl.SSLError(1, words)
    error.reason = reason
    key = connector_error(aiohttp.ClientConnectorError)._conn_key
    return aiohttp.ClientConnectorSSLError(key, error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(certificate_error(9, ""), "is not valid yet; check the clock", id="too early"),
        pytest.param(certificate_error(10, ""), "has expired", id="too late"),
        pytest.param(certificate_error(62, ""), "is for another name", id="another host"),
        pytest.param(certificate_error(64, ""), "is for another name", id="another address"),
        pytest.param(certificate_error(18, ""), "set CA_BUNDLE", id="signed by itself"),
        pytest.param(certificate_error(20, ""), "set CA_BUNDLE", id="signed by an unknown"),
        pytest.param(certificate_error(23, "revoked"), "is refused (revoked)", id="else"),
        pytest.param(
            handshake_error("x", "WRONG_VERSION_NUMBER"),
            "it does not speak TLS",
            id="a server without TLS",
        ),
        pytest.param(
            handshake_error("[SSL] record layer failure (_ssl.c:1000)"),
            "it does not speak TLS",
            id="the same in newer words",
        ),
        pytest.param(
            handshake_error("x", "TLSV1_ALERT_PROTOCOL_VERSION"),
            "the TLS handshake failed (tlsv1 alert protocol version)",
            id="another reason",
        ),
    ],
)
def test_each_tls_error_has_its_own_text(error, words):
    assert words in explain(error)


# Answers of servers that are not HTTP/1.1 providers, and the messages for the user.


@pytest.mark.parametrize(
    ("response", "words"),
    [
        pytest.param(
            b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
            "it supports only HTTP/2",
            id="HTTP/2",
        ),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", "not valid HTTP", id="SSH"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\n\x0b\x01\x80",
            "compressed, which was not requested",
            id="br",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\nContent-Length: 3\r\n\r\n\x28\xb5\x2f",
            "compressed, which was not requested",
            id="zstd",
        ),
    ],
)
async def test_an_unreadable_response_is_reported(start, response, words):
    async with RawProvider(response) as provider:
        proxy = await start(provider.url)
        answer = await proxy.ask()
    assert answer.status == 502
    assert words in answer.error["message"]

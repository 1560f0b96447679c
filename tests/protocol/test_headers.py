"""Tests of the headers for the provider and the client."""

from __future__ import annotations

import pytest

from ccproxy import __version__
from ccproxy.protocol.headers import (
    UpstreamHeaders,
    answer_headers,
    is_framing_header,
    is_header_name,
    is_header_value,
)
from tests.traced import kept_by

KEY = "sk-provider-0001"
CLAUDE_CODE = [
    ("Accept", "application/json"),
    ("Authorization", "Bearer client-secret"),
    ("x-api-key", "client-secret"),
    ("Cookie", "session=client-secret"),
    ("Content-Type", "application/json"),
    ("Content-Length", "49000"),
    ("Host", "127.0.0.1:8081"),
    ("Connection", "keep-alive"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("User-Agent", "claude-cli/2.1.329 (external, cli)"),
    ("X-Claude-Code-Session-Id", "0d1f0b7e"),
    ("X-Stainless-Retry-Count", "0"),
    ("X-Forwarded-For", "10.0.0.7"),
    ("X-Forwarded-Host", "inside.example"),
    ("Forwarded", "for=10.0.0.7"),
    ("X-Real-IP", "10.0.0.7"),
    ("Via", "1.1 inside"),
    ("Proxy-Authorization", "Basic client-secret"),
    ("Proxy-Connection", "keep-alive"),
    ("Keep-Alive", "timeout=5"),
    ("TE", "trailers"),
    ("Trailer", "x"),
    ("Transfer-Encoding", "chunked"),
    ("Upgrade", "websocket"),
    ("Origin", "http://evil.example"),
    ("anthropic-version", "2023-06-01"),
    ("anthropic-beta", "claude-code-20250219,effort-2025-11-24"),
    ("x-app", "cli"),
    ("X-Custom-Of-The-User", "1"),
]


def lower(headers):
    return {name.lower(): value for name, value in dict(headers).items()}


# Chat: none of the client's headers.


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        pytest.param("bearer", "authorization", f"Bearer {KEY}", id="bearer"),
        pytest.param("x-api-key", "x-api-key", KEY, id="x-api-key"),
        pytest.param("api-key", "api-key", KEY, id="Azure's api-key"),
    ],
)
def test_the_key_is_in_the_header_of_the_auth_style(auth, name, value):
    headers = lower(UpstreamHeaders(auth, custom={}).chat(KEY, stream=False))
    assert headers[name] == value
    assert {"authorization", "x-api-key", "api-key"} & headers.keys() == {name}


def test_a_chat_request_has_user_agent_and_accept():
    headers = UpstreamHeaders("bearer", custom={}).chat(KEY, stream=False)
    assert headers == {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": f"ccproxy/{__version__}",
        "Authorization": f"Bearer {KEY}",
    }


def test_a_stream_accepts_events():
    writer = UpstreamHeaders("bearer", custom={})
    assert writer.chat(KEY, stream=True)["Accept"] == "text/event-stream"
    assert writer.chat(KEY, stream=False)["Accept"] == "application/json"


def test_without_a_key_no_credential_is_sent():
    headers = lower(UpstreamHeaders("bearer", custom={}).chat(None, stream=False))
    assert not {"authorization", "x-api-key", "api-key"} & headers.keys()


def test_each_request_has_its_own_key():
    writer = UpstreamHeaders("bearer", custom={})
    first, second = writer.chat("one", stream=True), writer.chat("two", stream=True)
    assert (first["Authorization"], second["Authorization"]) == ("Bearer one", "Bearer two")


# Custom headers.


@pytest.mark.parametrize(
    ("custom", "name", "value"),
    [
        pytest.param({"X-Team": "blue"}, "x-team", "blue", id="a header more"),
        pytest.param({"X-Api-Key": "v"}, "x-api-key", "v", id="a name like a credential"),
        pytest.param({"Accept": "text/plain"}, "accept", "text/plain", id="over Accept"),
        pytest.param({"User-Agent": "mine"}, "user-agent", "mine", id="over User-Agent"),
        pytest.param({"USER-AGENT": "mine"}, "user-agent", "mine", id="whatever its case"),
        pytest.param({"Authorization": "Basic x"}, "authorization", "Basic x", id="over the key"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_custom_headers_override_in_chat_mode(custom, name, value, stream):
    headers = UpstreamHeaders("bearer", custom=custom).chat(KEY, stream=stream)
    assert lower(headers)[name] == value
    assert len(lower(headers)) == len(headers), "a header was sent twice"


@pytest.mark.parametrize(
    ("auth", "custom"),
    [
        ("bearer", {"authorization": "Basic x"}),
        ("x-api-key", {"X-Api-Key": "mine"}),
        ("api-key", {"Api-Key": "mine"}),
    ],
)
def test_a_custom_credential_replaces_the_key(auth, custom):
    writer = UpstreamHeaders(auth, custom=custom)
    for headers in (writer.chat(KEY, stream=True), writer.direct(KEY, CLAUDE_CODE)):
        assert KEY not in str(headers)
        assert next(iter(custom.values())) in headers.values()


def test_custom_headers_override_in_direct_mode():
    writer = UpstreamHeaders("x-api-key", custom={"User-Agent": "mine", "Anthropic-Beta": "none"})
    headers = writer.direct(KEY, CLAUDE_CODE)
    assert lower(headers)["user-agent"] == "mine"
    assert lower(headers)["anthropic-beta"] == "none"
    assert len(lower(headers)) == len(headers)


# Direct mode: only headers that Messages servers use.


def test_direct_mode_forwards_api_headers():
    headers = UpstreamHeaders("x-api-key", custom={}).direct(KEY, CLAUDE_CODE)
    assert lower(headers) == {
        "accept": "application/json",
        "accept-encoding": "identity",
        "anthropic-beta": "claude-code-20250219,effort-2025-11-24",
        "anthropic-version": "2023-06-01",
        "content-type": "application/json",
        "user-agent": "claude-cli/2.1.329 (external, cli)",
        "x-api-key": KEY,
        "x-app": "cli",
        "x-claude-code-session-id": "0d1f0b7e",
        "x-stainless-retry-count": "0",
    }


def test_direct_mode_never_forwards_credentials_or_addresses():
    outgoing = str(UpstreamHeaders("bearer", custom={}).direct(KEY, CLAUDE_CODE))
    for secret in ("client-secret", "10.0.0.7", "inside", "evil.example", "8081"):
        assert secret not in outgoing


def test_direct_mode_without_client_headers_uses_defaults():
    headers = UpstreamHeaders("bearer", custom={}).direct(KEY, [])
    assert headers["anthropic-version"] == "2023-06-01"
    assert headers["user-agent"] == f"ccproxy/{__version__}"


def test_several_headers_of_one_list_are_joined():
    client = [("anthropic-beta", "a-1"), ("Anthropic-Beta", "b-2")]
    headers = UpstreamHeaders("bearer", custom={}).direct(KEY, client)
    assert headers["anthropic-beta"] == "a-1, b-2"


def test_headers_named_by_connection_are_hop_by_hop():
    client = [
        ("Connection", "keep-alive, X-Claude-Code-Trace"),
        ("anthropic-beta", "a"),
        ("x-claude-code-trace", "1"),
        ("x-stainless-lang", "js"),
        ("connection", "x-stainless-lang"),
    ]
    headers = UpstreamHeaders("bearer", custom={}).direct(KEY, client)
    assert not {"x-claude-code-trace", "x-stainless-lang"} & set(headers)
    assert headers["anthropic-beta"] == "a"


# Answers.


def test_the_client_gets_headers_about_retries_and_limits():
    provider = [
        ("Content-Type", "text/event-stream"),
        ("request-id", "req_1"),
        ("Retry-After", "7"),
        ("retry-after-ms", "6500"),
        ("x-should-retry", "true"),
        ("anthropic-ratelimit-requests-remaining", "3"),
        ("x-ratelimit-reset-tokens", "6m0s"),
    ]
    assert answer_headers(provider) == provider


def test_the_client_gets_no_connection_headers_of_the_provider():
    provider = [
        ("Connection", "close"),
        ("Content-Encoding", "gzip"),
        ("Content-Length", "12"),
        ("Keep-Alive", "timeout=5"),
        ("Server", "cloudflare"),
        ("Set-Cookie", "id=1"),
        ("Strict-Transport-Security", "max-age=1"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2"),
        ("Access-Control-Allow-Origin", "*"),
    ]
    assert answer_headers(provider) == []


@pytest.mark.parametrize("value", ["a\rb", "a\x00b", "a\nx: y", "\x1b[2J"])
def test_the_client_gets_no_control_characters(value):
    provider = [("anthropic-a", value), ("anthropic-b", "a\tb")]
    assert answer_headers(provider) == [("anthropic-b", "a\tb")]


# Valid custom headers.


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "Content-Length", "Transfer-Encoding", "Connection", "TE", "Trailer", "Upgrade"),
        *("Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "proxy-anything", "HOST"),
    ],
)
def test_framing_headers_are_forbidden(name):
    assert is_framing_header(name)


@pytest.mark.parametrize("name", ["Accept", "Authorization", "User-Agent", "X-Proxy-Team", "Hosts"])
def test_other_headers_are_allowed(name):
    assert not is_framing_header(name)


@pytest.mark.parametrize("name", ["X-Team", "a", "x_y", "x.y", "!#$%&'*+-.^_`|~9"])
def test_valid_header_names(name):
    assert is_header_name(name)


@pytest.mark.parametrize("name", ["", "X Team", "X:Y", "X\n", "Ä", "X\0", "(x)", "X\r\nHost"])
def test_invalid_header_names(name):
    assert not is_header_name(name)


@pytest.mark.parametrize("value", ["", "v", "a b", "tab\tin it", "ä", '{"json": 1}'])
def test_valid_header_values(value):
    assert is_header_value(value)


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\r\nHost: x", "a\0", "\x1b[31m", "\x7f"])
def test_invalid_header_values(value):
    assert not is_header_value(value)


def test_only_small_headers_are_cached():
    headers = UpstreamHeaders("bearer", custom={})

    def work():
        for number in range(40):
            value = f"{number}" + "x" * 2**16
            assert headers.direct(KEY, [("anthropic-beta", value)])["anthropic-beta"] == value

    assert kept_by(work) < 2**20

"""The parts of a user's settings that must never be shown."""

from __future__ import annotations

import pytest

from ccproxy.config.parsers import hide_keys
from ccproxy.config.secrets import masked_headers, masked_url, secrets_of
from ccproxy.config.worker_config import load_worker

BASE = {"PROVIDER": "kimi", "PROVIDER_API_KEY": "sk-first-0123456789"}


@pytest.mark.parametrize(
    ("settings", "secrets"),
    [
        pytest.param({}, {"sk-first-0123456789"}, id="the provider's key"),
        pytest.param(
            {"PROVIDER_API_KEY": "sk-one-0123456789,sk-two-0123456789"},
            {"sk-one-0123456789", "sk-two-0123456789"},
            id="each of several",
        ),
        pytest.param({"ANTHROPIC_API_KEY": "client-key-1"}, {"client-key-1"}, id="a client key"),
        pytest.param({"CUSTOM_HEADER_X_TOKEN": "short-one"}, {"short-one"}, id="by its name"),
        pytest.param(
            {"CUSTOM_HEADER_X_TEAM": "0123456789abcdef"}, {"0123456789abcdef"}, id="by its length"
        ),
        pytest.param(
            {"CUSTOM_HEADER_AUTHORIZATION": "Bearer abcdefgh123"},
            {"Bearer abcdefgh123", "abcdefgh123"},
            id="a credential with and without its word",
        ),
        pytest.param(
            {"UPSTREAM_PROXY": "http://me:pass%20word@proxy:3128"},
            {"http://me:pass%20word@proxy:3128", "pass%20word", "pass word"},
            id="a proxy's password, as written and as meant",
        ),
    ],
)
def test_secrets(settings, secrets):
    assert secrets <= set(secrets_of(load_worker(None, environ={**BASE, **settings})))


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"CUSTOM_HEADER_X_TEAM": "blue"}, id="a short header of no such name"),
        pytest.param({"UPSTREAM_PROXY": "http://proxy:3128"}, id="a proxy without a password"),
        pytest.param({"ANTHROPIC_API_KEY": "ollama"}, id="part of ordinary words"),
    ],
)
def test_short_and_public_values_are_not_secrets(settings):
    only = {"sk-first-0123456789"}
    assert set(secrets_of(load_worker(None, environ={**BASE, **settings}))) == only


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('got "sk-0123456789abcdef"', 'got "…cdef"'),
        ('got "AIzaSy0123456789abcd"', 'got "…abcd"'),
        ('got "0123456789abcdefghij"', 'got "…ghij"'),
        ('got "claude-3-5-haiku-20241022"', 'got "claude-3-5-haiku-20241022"'),
        ('got "http://api.example.com/v1"', 'got "http://api.example.com/v1"'),
        ('got "90s"', 'got "90s"'),
        ('got "task-management-model-one"', 'got "task-management-model-one"'),
        ("add PROVIDER_API_KEY=your key", "add PROVIDER_API_KEY=your key"),
    ],
)
def test_text_that_looks_like_a_key_is_masked(text, expected):
    assert hide_keys(text) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://x.example/v1/chat", "https://x.example/v1/chat"),
        ("https://x.example:8443/v1?key=abc&a=1", "https://x.example:8443/v1?key=…&a=…"),
        ("https://me:word@x.example/v1", "https://x.example/v1"),
    ],
)
def test_an_address_for_a_log(url, expected):
    assert masked_url(url) == expected


def test_headers_for_a_log():
    outgoing = [
        ("Authorization", "Bearer abc"),
        ("x-api-key", "abc"),
        ("Accept", "application/json"),
        ("X-Team", "blue"),
    ]
    assert masked_headers(outgoing, {"x-team": "blue"}) == {
        "Authorization": "…",
        "x-api-key": "…",
        "Accept": "application/json",
        "X-Team": "…",
    }

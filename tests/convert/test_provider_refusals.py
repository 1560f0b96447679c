"""Tests of the classification of every provider's refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.classify import (
    ProviderError,
    classify_error,
    classify_event,
    is_error_body,
)
from ccproxy.providers.presets import load_presets
from ccproxy.providers.quirks import PLAIN, Quirks
from tests.convert.refusals import EVERY

NOW = 1_700_000_000.0


def quirks_of(provider: str) -> Quirks:
    presets = load_presets()
    return presets[provider].unknown().quirks if provider in presets else PLAIN


def read(provider: str, status: int, body: Any, headers: dict[str, str]) -> ProviderError:
    return classify_error(status, headers, encoded(body), quirks=quirks_of(provider), now=NOW)


def encoded(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


EXPECTED = {
    Cause.OVERFLOW: ("invalid_request_error", 400),
    Cause.OUT_OF_CREDIT: ("billing_error", 402),
    Cause.QUOTA: ("rate_limit_error", 429),
    Cause.BAD_KEY: ("authentication_error", 401),
    Cause.OVERLOAD: ("overloaded_error", 529),
    Cause.RATE_LIMIT: ("rate_limit_error", 429),
    Cause.PERMISSION: ("permission_error", 403),
    Cause.NOT_FOUND: ("not_found_error", 404),
    Cause.TOO_LARGE: ("request_too_large", 413),
    Cause.TIMEOUT: ("timeout_error", 504),
    Cause.GATEWAY_TIMEOUT: ("timeout_error", 504),
    Cause.IMAGE: ("invalid_request_error", 400),
    Cause.DOCUMENT: ("invalid_request_error", 400),
    Cause.CONFLICT: ("conflict_error", 409),
    Cause.CONTENT: ("invalid_request_error", 400),
    Cause.BAD_REQUEST: ("invalid_request_error", 400),
    Cause.WRONG_URL: ("api_error", 502),
}
POINTLESS = {Cause.OUT_OF_CREDIT, Cause.QUOTA, Cause.BAD_KEY, Cause.WRONG_URL}
"""Causes for which a retry is pointless; without the header Claude Code retries for minutes."""


@pytest.mark.parametrize(("provider", "status", "body", "headers", "cause", "wait"), EVERY)
def test_what_is_meant(provider, status, body, headers, cause, wait):
    error = read(provider, status, body, headers)
    assert error.cause is cause
    assert error.problem.retry_after == wait
    if cause is Cause.SERVER:
        assert error.problem.kind == "api_error"
        assert 500 <= error.problem.status < 520
    else:
        assert (error.problem.kind, error.problem.status) == EXPECTED[cause]
    pointless = cause in POINTLESS or (wait or 0) > 60
    assert error.problem.should_retry is (False if pointless else None)
    assert (
        ("prompt is too long" in error.problem.message)
        or cause is not Cause.OVERFLOW
        or ("exceed context limit" in error.problem.message)
    )


@pytest.mark.parametrize(
    ("provider", "status", "body", "headers", "cause", "wait"),
    [row for row in EVERY if isinstance(row.values[2], dict)],
)
def test_the_providers_words_are_kept(provider, status, body, headers, cause, wait):
    message = read(provider, status, body, headers).problem.message
    for text in words(body):
        assert " ".join(text.split()) in " ".join(message.split())


def words(error: Any) -> list[str]:
    """Return the messages in a body, under any name."""
    if not isinstance(error, dict):
        return []
    texts = [error[name] for name in ("message", "status_msg", "detail") if name in error]
    texts += [error["error"]] if isinstance(error.get("error"), str) else []
    for name in ("error", "errors", "base_resp"):
        texts += words(error.get(name))
    return [text for text in texts if isinstance(text, str)]


@pytest.mark.parametrize(
    ("provider", "status", "body", "headers", "cause", "wait"),
    [row for row in EVERY if isinstance(row.values[2], dict) and "error" in row.values[2]],
)
def test_the_same_inside_a_stream(provider, status, body, headers, cause, wait):
    """Without a status, only causes that follow from the text or codes can be the same."""
    assert is_error_body(encoded(body))
    error = classify_event(encoded(body), quirks=quirks_of(provider))
    assert error is not None
    if cause is Cause.OVERFLOW:
        assert error.cause is cause
    assert error.problem.kind != "request_too_large" or cause is Cause.TOO_LARGE

"""Tests of every form in which providers report when to retry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.convert.errors.retry_after import (
    duration,
    wait_in_body,
    wait_in_headers,
    wait_until_reset,
)

NOW = 1_700_000_000.0
"""Tue, 14 Nov 2023 22:13:20 GMT."""
YEAR = 366 * 86400.0


# Durations.


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("7", 7.0, id="a bare number is seconds"),
        pytest.param("7.66", 7.66, id="with a fraction"),
        pytest.param(" 7 ", 7.0, id="blanks around it"),
        pytest.param("7s", 7.0, id="seconds"),
        pytest.param("34.074824224s", 34.074824224, id="Google"),
        pytest.param("120ms", 0.12, id="milliseconds"),
        pytest.param("6m0s", 360.0, id="OpenAI"),
        pytest.param("7m3.36s", 423.36, id="Groq"),
        pytest.param("1h2m3s", 3723.0, id="all of them"),
        pytest.param("1d", 86400.0, id="a day"),
        pytest.param("2M", 120.0, id="in capitals"),
        pytest.param("1m 30s", 90.0, id="blanks between"),
        pytest.param("0", 0.0, id="now"),
        pytest.param("0s", 0.0, id="now, with a unit"),
        pytest.param("", None, id="nothing"),
        pytest.param("soon", None, id="a word"),
        pytest.param("7x", None, id="an unknown unit"),
        pytest.param("-7", None, id="negative"),
        pytest.param("nan", None, id="not a number"),
        pytest.param("inf", None, id="for ever"),
        pytest.param("400d", None, id="longer than a year is no wait"),
        pytest.param("1e9", 1e9, id="a bare number may be a moment: no bound here"),
    ],
)
def test_durations(text, seconds):
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


@given(st.text(max_size=30))
def test_any_text_is_a_duration_or_none(text):
    result = duration(text)
    assert result is None or result >= 0


# Headers.


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"retry-after": "9"}, 9.0, id="seconds"),
        pytest.param({"retry-after": "0.5"}, 0.5, id="a fraction"),
        pytest.param({"retry-after-ms": "1500"}, 1.5, id="milliseconds"),
        pytest.param({"retry-after-ms": "1500", "retry-after": "9"}, 1.5, id="the exact one first"),
        pytest.param({"retry-after-ms": "x", "retry-after": "9"}, 9.0, id="unless it is invalid"),
        pytest.param({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0, id="an HTTP date"),
        pytest.param({"retry-after": "Tue, 14 Nov 2023 22:00:00 GMT"}, 0.0, id="a past one"),
        pytest.param({"retry-after": "2023-11-14T22:14:20Z"}, 60.0, id="an RFC 3339 date"),
        pytest.param({"retry-after": "2023-11-14T23:14:20+01:00"}, 60.0, id="in another zone"),
        pytest.param({"retry-after": "2023-11-14T17:44:20-0430"}, 60.0, id="west of it"),
        pytest.param({"retry-after": "2023-11-14T22:13:20.25Z"}, 0.25, id="with a fraction"),
        pytest.param({"retry-after": "2023-11-14 22:13:21z"}, 1.0, id="with a blank"),
        pytest.param({"retry-after": "later"}, None, id="a word"),
        pytest.param({"retry-after": ""}, None, id="nothing"),
        pytest.param({"retry-after": "-1"}, None, id="negative"),
        pytest.param({"retry-after": "2023-99-99T99:99:99Z"}, None, id="no such date"),
        pytest.param({"retry-after": "Tue, 99 Foo 2023 22:13:50 GMT"}, None, id="no such month"),
        pytest.param({"retry-after": "Tue, 14 Nov 99999999 22:13:50 GMT"}, None, id="no such year"),
        pytest.param({"retry-after": "2099-01-01T00:00:00Z"}, None, id="more than a year away"),
        pytest.param({"retry-after": "1e308"}, None, id="a number beyond a year"),
        pytest.param({"retry-after-ms": "1e308"}, None, id="milliseconds beyond a year"),
        pytest.param({"retry-after": str(int(NOW) + 30)}, 30.0, id="seconds since 1970"),
        pytest.param({"retry-after": "1s" * 51}, None, id="longer than any time"),
        pytest.param({"retry-after-ms": "1" + "0" * 100}, None, id="longer than any number"),
    ],
)
def test_headers(headers, seconds):
    result = wait_in_headers(headers, NOW)
    assert result == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("date", ["Tue, 14 Nov 2023 22:13:50 GMT", "2023-11-14T22:14:20Z"])
def test_a_date_means_nothing_without_a_clock(date):
    assert wait_in_headers({"retry-after": date}, None) is None
    assert wait_until_reset({"anthropic-ratelimit-requests-reset": date}, None) is None


@given(st.text(max_size=40), st.none() | st.floats(0, 4e9))
def test_any_header_is_read(value, now):
    result = wait_in_headers({"retry-after": value, "retry-after-ms": value}, now)
    assert result is None or result >= 0


# Bodies.


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("Please try again in 20s.", 20.0, id="OpenAI"),
        pytest.param("Please try again in 6m0s.", 360.0, id="OpenAI, minutes"),
        pytest.param("Please try again in 120ms", 0.12, id="OpenAI, milliseconds"),
        pytest.param("Please try again in 7.66s. Visit https://x", 7.66, id="Groq"),
        pytest.param("please try again after 1 seconds", 1.0, id="Kimi"),
        pytest.param("Please retry after 26 seconds.", 26.0, id="Azure"),
        pytest.param("Retry in 34.07s", 34.07, id="Gemini"),
        pytest.param("Try again in 1 minute, 30 seconds", 90.0, id="spelled out"),
        pytest.param("Try again in 2 hours", 7200.0, id="hours"),
        pytest.param("Try again in 3 days 4 hours", 3 * 86400.0 + 4 * 3600.0, id="days"),
        pytest.param("Try again in 1d2h", 86400.0 + 7200.0, id="days, abbreviated"),
        pytest.param("Retry after 2 hours and 5 minutes", 7500.0, id="joined by and"),
        pytest.param("Please wait 5 mins", 300.0, id="wait"),
        pytest.param("Limit resets in 10 secs", 10.0, id="resets"),
        pytest.param("It was available 5 models ago", None, id="a number of something else"),
        pytest.param("Try again later", None, id="later"),
        pytest.param("Rate limit of 20 requests per 1 minute", None, id="a limit is no wait"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_times_in_text(text, seconds):
    result = wait_in_body(text, ())
    assert result == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("delays", "seconds"),
    [
        pytest.param(["34s"], 34.0, id="Google's RetryInfo goes before words"),
        pytest.param(["soon", "12s"], 12.0, id="the first that can be read"),
        pytest.param(["soon"], 20.0, id="else the words"),
        pytest.param([], 20.0, id="none"),
    ],
)
def test_delays(delays, seconds):
    assert wait_in_body("Please try again in 20s", delays) == seconds


@given(st.text(max_size=60))
def test_any_text_is_read(text):
    result = wait_in_body(text, [text])
    assert result is None or result >= 0


# Resets.


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"x-ratelimit-reset-requests": "12s"}, 12.0, id="OpenAI"),
        pytest.param({"x-ratelimit-reset": "30"}, 30.0, id="a number of seconds"),
        pytest.param({"x-ratelimit-reset": "1700000045"}, 45.0, id="a moment"),
        pytest.param({"x-ratelimit-reset": "1700000045000"}, 45.0, id="OpenRouter: milliseconds"),
        pytest.param({"x-ratelimit-reset": "1600000000"}, 0.0, id="a moment that is past"),
        pytest.param(
            {"anthropic-ratelimit-tokens-reset": "2023-11-14T22:14:20Z"}, 60.0, id="Anthropic"
        ),
        pytest.param(
            {"x-ratelimit-reset-requests": "12s", "x-ratelimit-reset-tokens": "3s"},
            3.0,
            id="the earliest, if none is named",
        ),
        pytest.param(
            {
                "x-ratelimit-reset-requests": "12s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "3s",
                "x-ratelimit-remaining-tokens": "900",
            },
            12.0,
            id="that of the limit which is used up",
        ),
        pytest.param(
            {
                "x-ratelimit-reset-requests": "12s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "30s",
                "x-ratelimit-remaining-tokens": "0",
            },
            30.0,
            id="the latest of several that are used up",
        ),
        pytest.param({"x-ratelimit-reset-tokens": "whenever"}, None, id="nonsense"),
        pytest.param({"x-ratelimit-limit-tokens": "30"}, None, id="a limit is no reset"),
        pytest.param({"reset": "30"}, None, id="an unknown header"),
    ],
)
def test_resets(headers, seconds):
    assert wait_until_reset(headers, NOW) == seconds


def test_a_moment_means_nothing_without_a_clock():
    assert wait_until_reset({"x-ratelimit-reset": "1700000045"}, None) is None


def test_a_reset_in_years_is_ignored():
    assert wait_until_reset({"x-ratelimit-reset": str(int(NOW + 2 * YEAR))}, NOW) is None

"""The rate limit headers of each provider, and when a key should not be used."""

from __future__ import annotations

import pytest

from ccproxy.keys.rate_headers import MOST_WINDOWS, cooldown_of, windows_in

NOW = 1_795_000_000.0


@pytest.mark.parametrize(
    ("headers", "windows"),
    [
        pytest.param(
            {
                "x-ratelimit-limit-requests": "5000",
                "x-ratelimit-remaining-requests": "4900",
                "x-ratelimit-reset-requests": "1m30s",
                "x-ratelimit-limit-tokens": "1000",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "12ms",
            },
            [("requests", 0.02, 90.0), ("tokens", 1.0, 0.012)],
            id="OpenAI and Groq",
        ),
        pytest.param(
            {
                "X-RateLimit-Limit-Requests-Day": "100",
                "X-RateLimit-Remaining-Requests-Day": "25",
                "X-RateLimit-Reset-Requests-Day": "3600.5",
            },
            [("requests-day", 0.75, 3600.5)],
            id="Cerebras: seconds as a float, any case",
        ),
        pytest.param(
            {"x-ratelimit-limit-tokens-minute": "10", "x-ratelimit-remaining-tokens-minute": "5"},
            [("tokens-minute", 0.5, None)],
            id="Mistral: no reset",
        ),
        pytest.param(
            {
                "anthropic-ratelimit-tokens-limit": "80000",
                "anthropic-ratelimit-tokens-remaining": "20000",
                "anthropic-ratelimit-tokens-reset": "2026-11-18T11:27:40Z",
            },
            [("tokens", 0.75, 1260.0)],
            id="Anthropic: a date",
        ),
        pytest.param(
            {
                "x-quota-snapshot-premium_interactions": "ent=300&ov=0.0&ovPerm=false&rem=35.5"
                "&rst=2026-11-18T11%3A27%3A40Z",
                "x-quota-snapshot-chat": "ent=-1&rem=100",
                "x-quota-snapshot-completions": "nonsense",
            },
            [("premium_interactions", 0.645, 1260.0)],
            id="Copilot: percent left; unlimited is no window",
        ),
        pytest.param(
            {
                "x-ratelimit-limit-requests": "-1",
                "x-ratelimit-remaining-requests": "-1",
                "x-ratelimit-remaining-tokens": "5",
                "x-ratelimit-limit-tokens": "many",
                "content-type": "x",
            },
            [],
            id="unknown numbers",
        ),
    ],
)
def test_windows(headers, windows):
    result = windows_in(headers, NOW)
    assert [(one.name, round(one.used, 4)) for one in result] == [each[:2] for each in windows]
    resets = [one.resets_at and one.resets_at - NOW for one in result]
    assert resets == [pytest.approx(each[2], abs=0.001) for each in windows]


def test_the_number_of_windows_is_bounded():
    headers = {}
    for letters in (f"{a}{b}" for a in "abcdef" for b in "abcdef"):
        headers[f"x-ratelimit-limit-{letters}"] = "2"
        headers[f"x-ratelimit-remaining-{letters}"] = "1"
    assert len(windows_in(headers, NOW)) == MOST_WINDOWS


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({}, None, id="no headers"),
        pytest.param({"x-ratelimit-remaining-requests": "3"}, None, id="something is left"),
        pytest.param({"x-ratelimit-remaining-requests": "0"}, None, id="Azure: 0 without reset"),
        pytest.param(
            {
                "X-RateLimit-Remaining-Requests": "0",
                "X-RateLimit-Reset-Requests": "7.5s",
                "x-ratelimit-remaining-tokens": "9",
                "x-ratelimit-reset-tokens": "1s",
            },
            7.5,
            id="the reset of the limit that is used up",
        ),
        pytest.param(
            {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20h"},
            3600.0,
            id="no longer than an hour",
        ),
        pytest.param(
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-remaining-tokens": "5",
                "x-ratelimit-reset-tokens": "9s",
            },
            None,
            id="the reset of another limit does not count",
        ),
    ],
)
def test_the_time_until_a_key_can_be_used(headers, seconds):
    from multidict import CIMultiDict

    assert cooldown_of(CIMultiDict(headers), NOW) == seconds

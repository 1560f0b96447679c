"""Tests of the classification of provider errors: cause, message and time to wait."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.convert.errors import phrases
from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.classify import (
    LONGEST_CLIENT_WAIT,
    AttemptInfo,
    classify_error,
    classify_event,
    is_error_body,
)
from ccproxy.errors import STATUS_OF_KIND
from ccproxy.providers.presets import load_presets
from ccproxy.providers.quirks import PLAIN, Quirks

HERE = Path(__file__).parent
QUOTA_IS_RATE = Quirks(quota_means_rate=True)
NOW = 1_700_000_000.0


def openai(message, *, type="invalid_request_error", code=None, **more):  # noqa: A002 - its name
    return {"error": {"message": message, "type": type, "param": None, "code": code, **more}}


def flat(message, **more):
    return {"object": "error", "message": message, **more}


def google(message, code, status, *details):
    error = {"code": code, "message": message, "status": status, "details": list(details)}
    return [{"error": error}]


def read(status, body, *, headers=None, quirks=PLAIN, **more):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify_error(status, headers or {}, data, quirks=quirks, **more)


# The meaning of refusals, by provider.

REFUSALS = [json.loads(line) for line in (HERE / "refusals.jsonl").read_text().splitlines()]
"""
Providers' refusals, from their documentation and captures in public issues.

`cause` and `wait` (seconds for the client) are expected, and `says` in the explanation.
"""
CAUSES = {
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
"""Causes for which a retry is pointless; without the header, Claude Code retries for minutes."""


def rows(condition=lambda row: True):
    """Return the refusals that meet the *condition*, as parameters."""
    return [
        pytest.param(row, id=f"{row.get('provider', 'any')}: {row['name']}")
        for row in REFUSALS
        if condition(row)
    ]


def quirks_of(row):
    preset = load_presets().get(row.get("provider"))
    return preset.unknown().quirks if preset else PLAIN


def classified(row):
    body = row["body"].encode() if isinstance(row["body"], str) else row["body"]
    headers = row.get("headers")
    return read(row["status"], body, headers=headers, quirks=quirks_of(row), now=NOW)


@pytest.mark.parametrize("row", rows())
def test_refusals(row):
    error, cause, wait = classified(row), Cause(row["cause"]), row.get("wait")
    problem = error.problem
    assert (error.cause, problem.retry_after) == (cause, wait)
    if cause is Cause.SERVER:
        assert problem.kind == "api_error"
        assert 500 <= problem.status < 520
    else:
        assert (problem.kind, problem.status) == CAUSES[cause]
    is_pointless = cause in POINTLESS or (wait or 0) > LONGEST_CLIENT_WAIT
    assert problem.should_retry is (False if is_pointless else None)
    if cause is Cause.OVERFLOW:
        assert re.match("prompt is too long|input length and .* exceed", problem.message)
    assert row.get("says", "") in problem.message.partition(". The provider's message: ")[0]


@pytest.mark.parametrize("row", rows(lambda row: isinstance(row["body"], dict)))
def test_the_providers_text_is_kept(row):
    message = " ".join(classified(row).problem.message.split())
    for text in texts_of(row["body"]):
        assert " ".join(text.split()) in message


def texts_of(error):
    """Return the messages in a body, in fields of any name."""
    if not isinstance(error, dict):
        return []
    texts = [error[name] for name in ("message", "status_msg", "detail") if name in error]
    texts += [error["error"]] if isinstance(error.get("error"), str) else []
    for name in ("error", "errors", "base_resp"):
        texts += texts_of(error.get(name))
    return [text for text in texts if isinstance(text, str)]


@pytest.mark.parametrize("row", rows(lambda row: isinstance(row["body"], dict)))
def test_the_same_refusals_in_a_stream(row):
    """Without a status, only the recognition of an overflow is certain."""
    body = row["body"] if row["body"].keys() & {"error", "base_resp"} else {"error": row["body"]}
    data = json.dumps(body).encode()
    assert is_error_body(data)
    error = classify_event(data, quirks=quirks_of(row))
    assert error is not None
    if row["cause"] == "overflow":
        assert error.cause is Cause.OVERFLOW
        assert row.get("says", "") in error.problem.message


def test_every_pattern_of_numbers_is_the_first_for_a_refusal():
    texts = [classified(row).problem.message for row in REFUSALS if row["cause"] == "overflow"]
    texts = [text.partition("The provider's message: ")[2] for text in texts]
    unused = list(phrases.OVERFLOW_NUMBERS)
    for text in texts:
        first = next((one for one in phrases.OVERFLOW_NUMBERS if one.search(text)), None)
        unused = [pattern for pattern in unused if pattern is not first]
    assert unused == []


@pytest.mark.parametrize(
    "body",
    [
        openai(
            "You exceeded your current quota, please check your plan.", code="insufficient_quota"
        ),
        openai("You exceeded your current quota"),
    ],
    ids=["by code", "by words"],
)
def test_a_quirk_decides_the_meaning_of_a_quota(body):
    assert read(429, body).cause is Cause.OUT_OF_CREDIT
    assert read(429, body, quirks=QUOTA_IS_RATE).cause is Cause.RATE_LIMIT


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            openai("Usage limit reached for 5 hour. Your limit will reset at 13:00", code="1308"),
            id="Z.ai",
        ),
        pytest.param(
            {"error": {"message": "you have reached your session usage limit"}}, id="Ollama's cloud"
        ),
        pytest.param(openai("Daily request limit reached"), id="per day"),
    ],
)
def test_an_exhausted_plan_is_not_retried(body):
    error = read(429, body)
    assert error.cause is Cause.QUOTA
    assert (error.problem.kind, error.problem.status) == ("rate_limit_error", 429)
    assert error.problem.should_retry is False


# The message for the client.


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (openai("Unsupported value"), "The provider refused the request (400): Unsupported value"),
        (b"", "The provider did not answer with JSON"),
        (openai("red \x1b[31malert"), "red  [31malert"),
        (openai("x" * 100_000), "x…"),
        (openai("Wrong key: sk-secret-1234567890abcd."), "Wrong key: …abcd"),
    ],
)
def test_the_message_has_an_explanation_and_the_printable_text(body, text):
    message = read(400, body, secrets=("sk-secret-1234567890abcd",)).problem.message
    assert text in message
    assert len(message) < 2200


def test_a_prompt_that_fits_alone_asks_for_fewer_max_tokens():
    text = "maximum context length is 32768 tokens. However, your messages resulted in 30000 tokens"
    message = read(400, openai(text), max_tokens=8000).problem.message
    assert "exceed context limit: 30000 + 8000 > 32768" in message


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (401, openai("x"), "rejected the API key"),
        (402, openai("x"), "Out of credit"),
        (429, openai("x"), "rate limit was hit"),
        (404, openai("no model x"), "does not have this model"),
        (404, openai("x"), "no such path"),
        (403, openai("Country, region, or territory not supported"), "does not serve this country"),
        (
            403,
            openai("x", code="unsupported_country_region_territory"),
            "does not serve this country",
        ),
        (400, google("User location is not supported", 400, "FAILED_PRECONDITION"), "country"),
        (502, b"<html></html>", "did not answer with JSON"),
        (502, b"Bad gateway", "The provider had an internal error"),
        (200, b"{{{{", "did not answer with JSON. Check PROVIDER_BASE_URL"),
        (200, b"null", "did not answer with JSON. Check PROVIDER_BASE_URL"),
        (200, b"it works!", "did not answer with JSON. Check PROVIDER_BASE_URL"),
        (200, b"[1]", "did not answer with JSON. Check PROVIDER_BASE_URL"),
        (200, {"detail": "boom"}, "The provider had an internal error"),
        (200, [{"error": {"message": "boom"}}], "The provider had an internal error"),
        (200, b"Rate limit exceeded", "rate limit was hit"),
        (307, b"", "redirects"),
        (503, openai("x"), "overloaded"),
    ],
)
def test_a_hint_precedes_the_message(status, body, hint):
    assert hint in read(status, body).problem.message.partition(":")[0]


# The time to wait.


@pytest.mark.parametrize(
    ("headers", "wait", "rounded"),
    [
        pytest.param({"Retry-After": "19.5", "x-ratelimit-reset": "44"}, 19.5, 20, id="a header"),
        pytest.param({}, 7.66, 8, id="else the text"),
    ],
)
def test_the_wait_is_exact_and_rounded_up_for_the_client(headers, wait, rounded):
    error = read(429, openai("Try again in 7.66s"), headers=headers)
    assert (error.retry_after, error.problem.retry_after) == (wait, rounded)


@pytest.mark.parametrize("past", ["0", "Thu, 01 Jan 1970 00:00:00 GMT", "1700000000"])
def test_a_time_that_has_passed_does_not_count(past):
    """The client would be told to repeat the request at once."""
    error = read(429, openai("slow"), headers={"retry-after": past}, now=NOW)
    assert (error.retry_after, error.problem.retry_after) == (None, None)
    error = read(429, openai("Try again in 7.66s"), headers={"retry-after": past}, now=NOW)
    assert error.retry_after == 7.66
    error = read(429, openai("slow"), headers={"x-ratelimit-reset": past}, now=NOW)
    assert error.retry_after is None


def test_the_reset_of_the_limit_counts_without_another_time():
    error = read(429, openai("slow"), headers={"x-ratelimit-reset": "1700000012"}, now=NOW)
    assert error.retry_after == 12.0


def test_reset_headers_do_not_apply_to_failures():
    error = read(500, openai("x"), headers={"x-ratelimit-reset-requests": "6m0s"})
    assert error.retry_after is None


@pytest.mark.parametrize(("seconds", "retry"), [("60", None), ("61", False)])
def test_a_wait_that_no_client_accepts_is_not_retried(seconds, retry):
    problem = read(429, openai("x"), headers={"retry-after": seconds}).problem
    assert (problem.retry_after, problem.should_retry) == (int(seconds), retry)


@pytest.mark.parametrize(
    ("headers", "counts"),
    [
        ({"x-ratelimit-remaining-requests": "0"}, True),
        ({"Anthropic-RateLimit-Requests-Limit": "50"}, True),
        ({"retry-after": "3"}, False),
    ],
)
def test_limit_headers_mean_that_the_limit_is_the_keys(headers, counts):
    assert read(429, openai("x"), headers=headers).has_limit_headers is counts


# An error inside a 200.


@pytest.mark.parametrize(
    ("body", "is_error"),
    [
        ({"choices": [{"message": {"content": "hi"}}]}, False),
        ({"choices": [{"message": {"content": 'say "error"'}}]}, False),
        ({"choices": [{"message": {"content": "x"}}], "error": None}, False),
        ({"choices": [{"message": {"content": "x"}}], "base_resp": {"status_code": 0}}, False),
        ({"type": "message", "content": [], "usage": {}}, False),
        ({"input_tokens": 12}, False),
        ({"choices": []}, False),
        ({"error": {"message": "x"}}, True),
        ({"error": "x"}, True),
        ({"choices": [], "error": {"code": 502}}, True),
        ({"choices": None, "base_resp": {"status_code": 1008}}, True),
        ({"type": "error", "error": {"type": "overloaded_error"}}, True),
        ({"object": "error", "message": "x"}, True),
        ({"detail": "x"}, True),
        ({"errors": {"message": "x"}}, True),
        ({"message": "x", "code": "c"}, True),
        ({"message": "x", "choices": [{"message": {}}]}, False),
        ({"message": "x", "content": []}, False),
        ({"message": "ok", "error": None, "data": {"choices": [{"message": {}}]}}, False),
        ({"message": "x", "error": None, "choices": None}, True),
        ({"status": "449", "msg": "x", "body": None}, True),
        ({"code": 500, "msg": "x", "success": False}, True),
        ({"error_code": 336003, "error_msg": "x"}, True),
        ({"error_message": "x"}, True),
        ([{"error": {"code": 400}}], True),
        ([], False),
        ("text", False),
    ],
)
def test_an_error_body_is_known_by_its_shape(body, is_error):
    assert is_error_body(json.dumps(body).encode()) is is_error


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>", b"{", b"[[[", b'{"error": '),
        pytest.param(b'{"error":[' + b"{}," * 100_000 + b"1]}", id="too many objects"),
    ],
)
def test_a_body_that_is_not_json_is_not_an_error_body(body):
    assert is_error_body(body) is False


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        ({"choices": [{"delta": {"content": "x"}}]}, None),
        ({"choices": [{"delta": {"content": '"error"'}}]}, None),
        ({"choices": [], "error": None}, None),
        ({"choices": [], "base_resp": {"status_code": 0, "status_msg": ""}}, None),
        ({"error": {"code": 429, "message": "x"}}, Cause.RATE_LIMIT),
        (
            {"error": {"code": 502, "message": "x"}, "choices": [{"finish_reason": "error"}]},
            Cause.SERVER,
        ),
        ({"error": {"message": "odd"}}, Cause.SERVER),
        ({"choices": [{"error": {"code": 429, "message": "x"}}]}, Cause.RATE_LIMIT),
        ({"code": 429, "msg": "x"}, Cause.RATE_LIMIT),
        ({"status": "503", "message": "x", "data": None}, Cause.OVERLOAD),
        ({"status": "queued", "message": "x"}, None),
        ({"code": 200, "message": "ok"}, None),
        ({"type": "message_start", "message": {"content": [], "usage": {}}}, None),
        ({"choices": [{"delta": {}}, {"error": {"code": 429}}]}, Cause.RATE_LIMIT),
        ({"base_resp": {"status_code": 1027, "status_msg": "sensitive"}}, Cause.CONTENT),
        ({"object": "error", "message": "x", "error": "", "code": 400}, Cause.BAD_REQUEST),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, Cause.OVERLOAD),
        ([{"error": {"code": 503, "message": "x"}}], Cause.OVERLOAD),
    ],
)
def test_a_stream_event_may_be_an_error(data, cause):
    error = classify_event(json.dumps(data).encode(), quirks=PLAIN)
    assert (error.cause if error else None) is cause


@pytest.mark.parametrize("data", [b"[DONE]", b'{"error"', b'"error"', b'["error"]', b"base_resp"])
def test_an_event_that_is_not_an_object_is_not_an_error(data):
    assert classify_event(data, quirks=PLAIN) is None


def test_a_byte_order_mark_before_an_error():
    body = BOM_UTF8 + b'{"error": {"code": "invalid_api_key", "message": "x"}}'
    assert is_error_body(body)
    assert classify_error(200, {}, body, quirks=PLAIN).cause is Cause.BAD_KEY


def test_a_status_inside_a_200_is_the_status():
    assert read(200, {"error": {"code": 403, "message": "x"}}).status == 403
    assert read(200, {"error": {"message": "x"}}).status == 502
    assert read(200, {"status": "449", "msg": "x", "body": None}).status == 449


# Any input.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["error", "errors", "detail", "details", "message", "code", "status", "metadata",
                 "raw", "base_resp", "status_code", "loc", "choices", "type", "title", "n_ctx"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.integers(100, 599), JSON)
def test_any_json_is_read(status, body):
    data = json.dumps(body).encode()
    error = classify_error(status, {}, data, quirks=PLAIN)
    assert error.problem.status >= 400
    assert error.problem.kind in STATUS_OF_KIND
    assert is_error_body(data) in (True, False)
    classify_event(data, quirks=PLAIN)


@given(st.integers(100, 599), st.binary(max_size=200), st.text(max_size=30))
def test_any_bytes_are_read(status, body, header):
    error = classify_error(status, {"retry-after": header}, body, quirks=PLAIN, now=NOW)
    assert error.problem.message
    assert error.retry_after is None or error.retry_after >= 0


def test_a_bomb_of_brackets_is_read():
    body = b'{"error":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert classify_error(500, {}, body, quirks=PLAIN).cause is Cause.SERVER


# Messages about the attempts, and errors to which Claude Code reacts.


def test_a_rejected_key_is_named_with_its_proxy_and_file():
    attempt = AttemptInfo(label="Kimi-K3", key="…6666", env_file="envs/kimi.env")
    message = read(401, openai("no"), attempt=attempt).problem.message
    assert message.startswith("The provider rejected the API key …6666 of Kimi-K3. Check ")
    assert "PROVIDER_API_KEY in envs/kimi.env" in message


def test_a_rejected_key_never_asks_the_user_to_log_in():
    problem = read(401, openai("invalid X-Api-Key")).problem
    assert problem.message.endswith(" (401): invalid API key")
    assert problem.refusal.text == "invalid X-Api-Key"


def test_a_missing_balance_names_the_command_to_use_the_key_again():
    attempt = AttemptInfo(label="Kimi-K3", key="…6666")
    message = read(402, openai("no"), attempt=attempt).problem.message
    assert "key …6666" in message
    assert "ccproxy keys Kimi-K3 reset" in message


@pytest.mark.parametrize(
    "body", [{"detail": "Not Found"}, b"404 page not found", b"<html>nginx</html>", b""]
)
def test_a_404_about_the_path_names_the_url_and_is_not_retried(body):
    error = read(404, body, attempt=AttemptInfo(url="https://api.example.com/v2"))
    assert error.cause is Cause.WRONG_URL
    assert "https://api.example.com/v2" in error.problem.message
    assert (error.problem.kind, error.problem.status) == ("api_error", 502)
    assert error.problem.should_retry is False


def test_a_forward_proxy_without_a_login_names_the_setting():
    problem = read(407, b"<html>Proxy Authentication Required</html>").problem
    assert "UPSTREAM_PROXY" in problem.message
    assert problem.should_retry is False


@pytest.mark.parametrize(
    ("status", "text", "token"),
    [
        (400, "Model x does not support image input", "image_block"),
        (404, "No endpoints found that support image input", "image_block"),
        (500, "image input is not supported - hint: you need the mmproj", "image_block"),
        (400, "unknown variant `file`, expected `text`", "document_block"),
    ],
)
def test_a_refused_content_type_is_worded_for_claude_code(status, text, token):
    problem = read(status, openai(text)).problem
    assert f"capability_rejected: {token}" in problem.message
    assert (problem.kind, problem.status) == ("invalid_request_error", 400)


@pytest.mark.parametrize(
    "text",
    [
        "Jinja Exception: Conversation roles must alternate",
        "Unable to generate parser for this template",
        'JSON schema error: unresolvable "$ref"',
    ],
)
def test_a_500_that_every_attempt_causes_is_the_requests_fault(text):
    error = read(500, openai(text))
    assert error.cause is Cause.BAD_REQUEST
    assert (error.problem.kind, error.problem.status) == ("invalid_request_error", 400)


def test_a_tool_call_that_could_not_be_parsed_is_retried():
    error = read(400, openai("Failed to call a function.", code="tool_use_failed"))
    assert error.cause is Cause.SERVER
    assert error.problem.status >= 500


# Hostile bodies take time and memory linear in their size.


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<" * 200_000, id="tags that never end"),
        pytest.param(b"<script" * 30_000, id="scripts that never end"),
        pytest.param(b"[[[[" * 200 + b"1" + b"]]]]" * 200, id="nested lists"),
        pytest.param(
            json.dumps(
                {"error": [[[[{"message": f"m{n}"} for n in range(20)]] * 20] * 20]}
            ).encode(),
            id="a tree of errors",
        ),
        pytest.param(b'{"error":{"code":' + b"4" * 5000 + b"}}", id="a number of 5,000 digits"),
        pytest.param(b'{"error":{"code":"' + b"4" * 5000 + b'"}}', id="a code of 5,000 digits"),
        pytest.param(b'{"details":[' + b"{}," * 100_000 + b"{}]}", id="empty details"),
    ],
)
def test_hostile_bodies_are_classified(body):
    assert len(read(400, body).problem.message) < 2500


@pytest.mark.parametrize(
    ("message", "code", "cause"),
    [
        (
            "pre-consume quota failed, user quota: $0.10, need quota: $0.20",
            "pre_consume_token_quota_failed",
            Cause.OUT_OF_CREDIT,
        ),
        ("pre-consumed quota failed", None, Cause.OUT_OF_CREDIT),
        ("token quota is not enough, token remain quota: $0.1", None, Cause.OUT_OF_CREDIT),
        (
            "Your API key was reported as leaked. Please use another API key.",
            "PERMISSION_DENIED",
            Cause.BAD_KEY,
        ),
    ],
)
def test_a_403_about_the_key_is_not_a_missing_permission(message, code, cause):
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    assert classify_error(403, {}, body, quirks=Quirks()).cause is cause

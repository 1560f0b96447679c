"""Tests of parsing error bodies: text, codes, status, numbers, and masked keys."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.convert.errors.body import ErrorBody, decode, mask_keys, parse_error_body

KEY = "sk-proj-0123456789abcdef"


def read(body) -> ErrorBody:
    return parse_error_body(body if isinstance(body, bytes) else json.dumps(body).encode())


# Text.


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param({"error": {"message": "No."}}, "No.", id="OpenAI"),
        pytest.param({"error": "No."}, "No.", id="a string"),
        pytest.param({"code": "Denied", "error": "No."}, "No.", id="xAI"),
        pytest.param([{"error": {"message": "No."}}], "No.", id="Gemini: a list"),
        pytest.param({"object": "error", "message": "No."}, "No.", id="vLLM: flat"),
        pytest.param({"detail": "No."}, "No.", id="FastAPI: a string"),
        pytest.param(
            {"detail": [{"loc": ["body", "top_k"], "msg": "Not permitted", "type": "extra"}]},
            "Not permitted (body.top_k)",
            id="FastAPI: a list with places",
        ),
        pytest.param(
            {"detail": [{"msg": "One"}, {"msg": "Two"}]}, "One: Two", id="FastAPI: several"
        ),
        pytest.param(
            {"message": {"detail": [{"msg": "No", "loc": ["a"]}]}}, "No (a)", id="Mistral: inside"
        ),
        pytest.param({"errors": {"message": "No."}}, "No.", id="ModelScope"),
        pytest.param({"status": 429, "title": "Too Many"}, "Too Many", id="NIM: the title"),
        pytest.param(
            {"title": "Unauthorized", "detail": "Bad token"},
            "Bad token",
            id="NIM: not next to more",
        ),
        pytest.param({"statusCode": 401, "message": "No."}, "No.", id="Azure"),
        pytest.param(
            {"base_resp": {"status_code": 1008, "status_msg": "no balance"}},
            "no balance",
            id="MiniMax",
        ),
        pytest.param(
            {"error": {"message": "Provider returned error", "metadata": {"raw": "Busy"}}},
            "Provider returned error: Busy",
            id="OpenRouter: with the error of its provider",
        ),
        pytest.param(
            {"error": {"message": "Failed", "metadata": {"raw": '{"error":{"message":"Busy"}}'}}},
            "Failed: Busy",
            id="OpenRouter: which may be JSON",
        ),
        pytest.param(
            {"error": {"message": '{"error":{"message":"Deep"}}'}}, "Deep", id="JSON as the message"
        ),
        pytest.param(
            {"error": {"message": "Same"}, "message": "Same"}, "Same", id="nothing is shown twice"
        ),
        pytest.param({"error": {"code": 7}}, '{"error": {"code": 7}}', id="no text: all of it"),
        pytest.param(b"plain words\n", "plain words", id="plain text"),
        pytest.param(b"{broken", "{broken", id="no JSON after all"),
        pytest.param(b"", "", id="nothing"),
        pytest.param(b"  \n", "", id="blanks"),
        pytest.param(b'"just a string"', "just a string", id="a JSON string"),
        pytest.param(b"42", "42", id="a number"),
        pytest.param(b"null", "null", id="null"),
        pytest.param(b"\xff\xfe", "\ufffd\ufffd", id="no text at all"),
        pytest.param(
            b'\n\n{"error":{"message":"After keep-alives"}}', "After keep-alives", id="blank lines"
        ),
    ],
)
def test_text(body, text):
    assert read(body).text == text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(
            b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>",
            "502 Bad Gateway nginx",
            id="tags go",
        ),
        pytest.param(
            b"<!DOCTYPE html><script>var a = '<b>';</script><p>Just a moment...</p>",
            "Just a moment...",
            id="scripts go",
        ),
        pytest.param(
            b"<html><style>p {color: red}</style><!-- hidden --><p>Seen</p>",
            "Seen",
            id="styles and comments go",
        ),
        pytest.param(b"<html>" + b"word " * 200, ("word " * 60).strip(), id="it is cut"),
    ],
)
def test_html(body, text):
    error = read(body)
    assert error.is_html
    assert error.text == text


@pytest.mark.parametrize(
    ("body", "has_object"),
    [
        pytest.param({}, True, id="an object"),
        pytest.param([{"error": "No."}], True, id="a list of them"),
        pytest.param('{"error": "No."}', True, id="one in a string"),
        pytest.param(b'{"message": "half \xff utf-8"}', True, id="one with bad UTF-8"),
        pytest.param(None, False, id="null"),
        pytest.param([1], False, id="a list of something else"),
        pytest.param(b"{{{{", False, id="no JSON"),
        pytest.param(b"<p>{}</p>", False, id="a page"),
    ],
)
def test_has_object(body, has_object):
    assert read(body).has_object is has_object


def test_only_markup_is_html():
    assert not read({"error": {"message": "<html>"}}).is_html
    assert not read(b"a < b").is_html


def test_a_long_text_is_cut():
    error = read({"error": {"message": "x" * 5000}})
    assert error.text == "x" * 2000 + "…"


def test_control_characters_are_removed():
    assert read({"error": {"message": "a\u001b[31mb\u0000c\u202e"}}).text == "a [31mb c"


# Codes, status, numbers.


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        pytest.param(
            {"error": {"type": "T_Ype", "code": "CODE"}}, {"t_ype", "code"}, id="in lower case"
        ),
        pytest.param({"error": {"code": 1113}}, {"1113"}, id="numbers are words"),
        pytest.param({"error": {"code": "1113"}}, {"1113"}, id="as a string"),
        pytest.param({"error": {"code": None, "type": True}}, set(), id="null and true are none"),
        pytest.param({"code": "a", "error": {"status": "b"}}, {"a", "b"}, id="at every depth"),
        pytest.param(
            {"error": {"details": [{"reason": "API_KEY_INVALID"}]}},
            {"api_key_invalid"},
            id="Google's reason",
        ),
        pytest.param(
            {"base_resp": {"status_code": 1008}}, {"base_resp:1008"}, id="MiniMax's are set apart"
        ),
        pytest.param({"base_resp": {"status_code": 0}}, set(), id="0 is success"),
        pytest.param({"error": {"code": ["a"], "type": {"b": 1}}}, set(), id="no words, no codes"),
    ],
)
def test_codes(body, codes):
    assert read(body).codes == codes


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({"error": {"code": 429}}, 429, id="a code that is a status"),
        pytest.param({"error": {"code": "503"}}, 503, id="as a string"),
        pytest.param({"error": {"http_code": "400"}}, 400, id="MiniMax"),
        pytest.param({"statusCode": 401}, 401, id="Azure"),
        pytest.param({"error": {"code": 1113}}, None, id="a business code is none"),
        pytest.param({"error": {"code": 200}}, None, id="success is none"),
        pytest.param({"error": {"code": 429}, "status": 500}, 500, id="the outermost counts"),
        pytest.param({"error": {"code": "٤٢٩"}}, None, id="digits of another script"),
        pytest.param({}, None, id="none"),
    ],
)
def test_status(body, status):
    assert read(body).status == status


@pytest.mark.parametrize("details", [["words"], [5, None], [[]], {}, "words"])
def test_details_of_other_types_are_ignored(details):
    error = read({"error": {"message": "m", "details": details}})
    assert (error.text, error.codes, error.delays) == ("m", set(), ())


def test_googles_delay():
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}
    assert read([{"error": {"message": "m", "details": [{"x": 1}, info]}}]).delays == ("34.07s",)


def test_llama_cpps_numbers():
    error = read({"error": {"message": "m", "n_prompt_tokens": 40000, "n_ctx": 32768}})
    assert (error.prompt, error.limit) == (40000, 32768)
    for value in ("many", True, -1, 10**20):
        assert read({"error": {"n_ctx": value}}).limit is None


# Any input.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "errors",
                    "message",
                    "detail",
                    "loc",
                    "code",
                    "details",
                    "metadata",
                    "raw",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@given(JSON)
def test_any_json_is_read(body):
    error = read(body)
    assert len(error.text) <= 2001
    assert all(isinstance(code, str) for code in error.codes)


@given(st.binary(max_size=200))
def test_any_bytes_are_read(body):
    assert isinstance(parse_error_body(body).text, str)


def test_depth_is_bounded():
    body = {"message": "deepest"}
    for _ in range(20):
        body = {"error": body}
    assert "deepest" in read(body).text  # shown completely, because it has no message
    assert decode(b"[" * 100_000) is None


def test_long_lists_are_bounded():
    assert read([{"error": {"message": f"m{n}"}} for n in range(100)]).text.count("m") == 20


# Secrets.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"Incorrect API key: {KEY}.", "Incorrect API key: …cdef", id="the whole key"),
        pytest.param(f'"{KEY}"', '"…cdef"', id="in quotes"),
        pytest.param("key 0123456789 is bad", "key …cdef is bad", id="a part of it"),
        pytest.param(f"a{KEY}b c", "…cdef c", id="inside of a word"),
        pytest.param("key sk-proj ends in cdef", "key sk-proj ends in cdef", id="too little of it"),
        pytest.param(f"{KEY} {KEY}", "…cdef …cdef", id="twice"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_mask(text, expected):
    assert mask_keys(text, [KEY]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("sk-or-v1-bbbb0000BBBB", "…BBBB", id="the whole of the second"),
        pytest.param("sk-or-v1-aaaa0000AAAA", "…AAAA", id="the whole of the first"),
        pytest.param("sk-or-v1-****BBBB", "…BBBB", id="the common beginning and a tail"),
        pytest.param(
            "keys begin with sk-or-v1-", "keys begin with …", id="the beginning of all keys"
        ),
        pytest.param(
            "sk-or-v1-aaaa0000AAAA or sk-or-v1-bbbb0000BBBB", "…AAAA or …BBBB", id="each its own"
        ),
    ],
)
def test_keys_with_the_same_prefix_are_distinguished(text, expected):
    assert mask_keys(text, ["sk-or-v1-aaaa0000AAAA", "sk-or-v1-bbbb0000BBBB"]) == expected


def test_short_secrets_are_words():
    assert mask_keys("the demo key", ["demo", ""]) == "the demo key"


@given(st.text(max_size=30), st.text(max_size=30), st.integers(0, 16))
def test_no_eight_characters_of_a_secret_survive(before, after, at):
    output = mask_keys(f"{before}{KEY[at:]}{after}", [KEY])
    pieces = {KEY[start : start + 8] for start in range(len(KEY) - 7)}
    assert not any(piece in output for piece in pieces)

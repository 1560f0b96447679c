"""Redaction: keys are masked, ordinary text is unchanged, and the time is linear."""

from __future__ import annotations

import json
import time

import pytest

from ccproxy.redaction import Redactor


@pytest.mark.parametrize(
    "secret",
    [
        "sk-abcdefgh12345678",
        "sk-ant-api03-abcdefgh_12345678",
        "sk-proj-abc_DEF-1234567890",
        "gsk_abcdefghijklmnop1234",
        "AIzaSyA-abcdefghijklmnop1234",
        "nvapi-abcdefgh-12345678",
        "xai-abcdefgh12345678",
        "csk-abcdefgh12345678",
        "hf_abcdefghijklmnop1234",
        "ghp_abcdefghijklmnop1234",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    ],
)
@pytest.mark.parametrize("around", ["{}", "key {} is wrong", '"{}"', "a={}&b=1", "({})"])
def test_text_in_the_form_of_a_key_is_masked(secret, around):
    output = Redactor()(around.format(secret))
    assert output == around.format("…" + secret[-4:])


@pytest.mark.parametrize("space", ["\n", "\r\n", "\t"])
def test_a_key_at_the_start_of_a_line_is_masked_in_json(space):
    """The escaped line feed ends in a letter, as does a word before a hyphen."""
    redact, key = Redactor(), "sk-ant-api03-abcdefgh_12345678"
    text = f"Here it is:{space}{key}"
    assert redact(json.dumps(text)) == json.dumps(text.replace(key, "…5678"), ensure_ascii=False)
    pieces = (f"Here it is:{space}", key[:6], key[6:])
    assert redact.events(events(*pieces)) == events(pieces[0], "*" * 6, "*" * (len(key) - 6))


@pytest.mark.parametrize(
    "text",
    ["Bearer abcdefgh12345678", "bearer abcdefgh12345678", "x-api-key: abcdefgh12345678"],
)
def test_keys_in_headers_are_masked(text):
    assert Redactor()(text).endswith(" …5678")


@pytest.mark.parametrize("secret", ["plain-words-1234", 'with"quote\\and-more', "schlüssel-1234"])
def test_configured_secrets_are_masked_in_text_and_json(secret):
    redact = Redactor([secret])
    output = "…" + secret[-4:]
    assert redact(f"<{secret}>") == f"<{output}>"
    assert secret[:8] not in redact(json.dumps({"k": secret}, ensure_ascii=False))


@pytest.mark.parametrize(
    "text",
    [
        "an ordinary risk-averse task-force",
        '{"event":"request.finished","path":"/v1/messages","key":"…6789"}',
        "claude-opus-4-1 and gpt-4o",
        "none",
    ],
)
def test_ordinary_text_is_unchanged(text):
    assert Redactor(["none", "", "sk-x"])(text) == text


def test_no_part_of_a_short_secret_is_shown():
    assert Redactor(["12345678"])("12345678") == "…"


def events(*texts, name="content"):
    bodies = (json.dumps({"id": "x", name: text}, ensure_ascii=False) for text in texts)
    return "".join(f"data: {body}\n\n" for body in bodies)


@pytest.mark.parametrize("secret", ["configured-secret-1234", "sk-abcdefgh12345678"])
@pytest.mark.parametrize("name", ["content", "partial_json"])
def test_a_key_that_is_split_across_events_is_masked(secret, name):
    redact = Redactor(["configured-secret-1234"])
    for cut in range(1, len(secret)):
        stream = events(f'"{secret[:cut]}', "", f'{secret[cut:]}" ü', name=name)
        stars = "*" * cut, "*" * (len(secret) - cut)
        assert redact.events(stream) == events(f'"{stars[0]}', "", f'{stars[1]}" ü', name=name)
    assert redact.events(events(*secret)) == events(*"*" * len(secret))
    assert redact.events(events("a ", secret)) == events("a ", "…" + secret[-4:])


def test_events_without_keys_are_unchanged():
    stream = events("a ta", "sk-", "b", name="text") + ": ping\n\ndata: [DONE]\n\n"
    assert Redactor(["configured-secret-1234"]).events(stream) == stream


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "eyJ-",
            "eyJa.",
            "sk-",
            "sk-a ",
            "csk-",
            "gsk_",
            "hf_a-",
            "AIza-",
            "bearer ",
            "api-key: ",
        ),
        *("a", "-", "_", ".", "/", "Bearer eyJ", "sk-eyJ."),
        *('"a":"', '"a":"\\"a', '"a":"sk-"', '"a":""', "\\"),
    ],
)
def test_redaction_is_linear_in_hostile_text(piece):
    """Eight times the text may take about eight times as long, not 64 times."""
    redact = Redactor(["configured-secret-1234"])

    def seconds(size: int) -> float:
        text = f"configured-secret-123 Bearer  {piece * (size // len(piece))}"
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            redact.events(text)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(512_000) < max(0.05, 8 * 4 * seconds(64_000))

"""The measurement of quirks, with providers that simulate the profiles of the catalogue."""

from __future__ import annotations

import msgspec
import pytest

from ccproxy.config.worker_config import load_worker
from ccproxy.providers.measurement import (
    HUGE_LIMIT,
    MOST_REQUESTS,
    PARTS,
    UNMEASURED,
    Measurement,
    Outcome,
    StreamEnd,
    differences,
    overflow_tokens,
    parts_of,
    why_no_overflow,
)
from ccproxy.providers.presets import load_presets
from ccproxy.providers.quirks import PLAIN, Quirks
from ccproxy.worker.probing.probe_client import schema_forms
from tests.quirky_provider import QuirkyProvider

FIELDS = set(Quirks.__struct_fields__)


def measure(answer, parts=PARTS):
    measurement, requests = run(answer, parts)
    return measurement.quirks, requests


def run(answer, parts=PARTS):
    measurement = Measurement("m", schemas=schema_forms())
    steps = measurement.steps(parts)
    requests = 0
    try:
        body = next(steps)
        while True:
            requests += 1
            body = steps.send(answer(body))
    except StopIteration:
        return measurement, requests


def profiles():
    """Yield each distinct set of quirks of the presets' models."""
    by_quirks = {}
    for name, preset in load_presets().items():
        environ = {
            "PROVIDER": name,
            "PROVIDER_API_KEY": "k",
            "PROVIDER_BASE_URL": preset.base_url
            if "//" in preset.base_url
            else "https://a.example/v1",
            "PROVIDER_API": "chat",
        }
        config = load_worker(None, environ=environ)
        for model in filter(None, dict.fromkeys((preset.big, preset.small, preset.middle))):
            quirks = config.target(model, "chat").quirks
            by_quirks.setdefault(msgspec.json.encode(quirks), (f"{name} {model}", quirks))
    return by_quirks.values()


PROFILES = [pytest.param(quirks, id=title) for title, quirks in profiles()]


@pytest.mark.parametrize("is_lenient", [False, True], ids=["strict", "lenient"])
@pytest.mark.parametrize("quirks", PROFILES)
def test_every_measured_quirk_is_right(quirks, is_lenient):
    measured, requests = measure(QuirkyProvider(quirks, is_lenient=is_lenient).answer)
    wrong = differences(measured, quirks)
    if quirks.reasoning == "explicit_effort":  # not comparable: the form is unknown
        wrong.pop("reasoning", None)
    assert wrong == {}
    assert requests < MOST_REQUESTS, "one more asks for too long an answer"


SILENT = {"reasoning", "efforts", "history", "cache_control", "cache_key", "user_field", "schema"}


@pytest.mark.parametrize("message", [{}, {"reasoning": "Hm."}], ids=["plain", "always reasons"])
def test_a_server_that_accepts_everything_reveals_no_quirk_without_effect(message):
    measured, _ = measure(lambda _body: Outcome(accepted=True, message=message))
    assert not SILENT & measured.keys()


def test_a_server_that_ignores_the_form_of_an_answer():
    measured, _ = measure(lambda _body: Outcome(accepted=True, message={"content": "Sure."}))
    assert measured["tool_choices"] == ("auto",)
    assert measured["response_format"] == "none"


def test_a_model_that_refuses_everything():
    with pytest.raises(ValueError, match="smallest request"):
        measure(lambda _body: Outcome(accepted=False))


def test_a_request_that_is_too_long_proves_nothing():
    provider = QuirkyProvider(PLAIN)

    def answer(body):
        if len(body.get("tools", ())) > 99:
            return Outcome(accepted=False, is_too_long=True)
        return provider.answer(body)

    quirks, _ = measure(answer)
    expected, _ = measure(provider.answer)
    assert quirks == {name: value for name, value in expected.items() if name != "max_tools"}
    with pytest.raises(ValueError, match="window is too small"):
        measure(lambda _: Outcome(accepted=False, is_too_long=True))


def test_no_reasoning_at_all():
    assert measure(QuirkyProvider(PLAIN).answer)[0]["reasoning"] == "none"


@pytest.mark.parametrize("tokens", [None, {}, {"reasoning_tokens": "8"}])
def test_unusual_usage(tokens):
    assert not Outcome(accepted=True, usage={"completion_tokens_details": tokens}).reasons


@pytest.mark.parametrize("name", ["reasoning", "both_fields", "thinking_parts", "drop"])
def test_forms_of_history(name):
    quirks = Quirks(history=name)
    assert measure(QuirkyProvider(quirks).answer)[0]["history"] == name


def test_a_part_is_measured_alone():
    measured, _ = measure(QuirkyProvider(PLAIN).answer, ["sampling"])
    expected = {"sampling", "sampling_without_effort", "temperature_range", "stop", "max_stops"}
    assert measured.keys() == expected | {"max_tokens_field", "top_k"}


@pytest.mark.parametrize(
    ("features", "parts"),
    [
        (["tool_choice"], ("tools",)),
        (["images", "format_with_thinking"], ("reasoning", "messages", "answers")),
        (["no_such_feature"], ()),
        ([], ()),
    ],
)
def test_the_parts_that_explain_a_refusal(features, parts):
    assert parts_of(features) == parts


def test_the_user_s_field():
    quirks = Quirks(user_field="user")
    assert measure(QuirkyProvider(quirks).answer)[0]["user_field"] == "user"


def test_no_structured_output():
    quirks = Quirks(response_format="none")
    assert measure(QuirkyProvider(quirks).answer)[0]["response_format"] == "none"


def test_fields_that_are_always_rejected_are_not_measured():
    """The server rejects every stop sequence (without naming a field), tool and prefill."""

    def answer(body):
        is_odd = len(body.get("stop", ())) > 0 and body["stop"] != ["~~1"]
        starts = body["messages"][-1]["role"] == "assistant"
        usage = {"completion_tokens_details": {"reasoning_tokens": 5}}
        return Outcome(accepted=not (is_odd or starts or "tools" in body), usage=usage)

    measured, _ = measure(answer)
    absent = {"max_stops", "tool_ids", "prefill", "usage_without_reasoning", "tool_name_length"}
    assert not (absent | {"schema", "null_content"}) & measured.keys()


@pytest.mark.parametrize("dialect", ["no_meta", "grammar", "kimi", "inline", "bare", "gemini"])
def test_the_dialect_of_schemas(dialect):
    assert measure(QuirkyProvider(Quirks(schema=dialect)).answer)[0]["schema"] == dialect


def test_usage_without_a_count():
    """The answer has reasoning, but its usage lacks the output tokens."""
    provider = QuirkyProvider(Quirks(reasoning="effort", efforts=("none", "low")))

    def answer(body):
        outcome = provider.answer(body)
        return Outcome(accepted=outcome.accepted, message=outcome.message)

    assert "usage_without_reasoning" not in measure(answer)[0]


def test_a_model_whose_messages_never_follow_each_other():
    measured, _ = measure(lambda body: Outcome(accepted=len(body["messages"]) == 1))
    assert measured["merge_user_messages"]
    assert "system_messages" not in measured


# Requests that must be rejected.


@pytest.mark.parametrize(
    ("quirks", "fields"),
    [
        pytest.param(PLAIN, {"max_tokens": HUGE_LIMIT}, id="plain"),
        pytest.param(
            Quirks(max_tokens_field="max_completion_tokens"),
            {"max_completion_tokens": HUGE_LIMIT},
            id="the model's field",
        ),
        pytest.param(
            Quirks(reasoning="thinking_type"),
            {"max_tokens": HUGE_LIMIT, "thinking": {"type": "disabled"}},
            id="reasoning is switched off",
        ),
        pytest.param(
            Quirks(reasoning="thinking_type", always_reasons=True),
            {"max_tokens": HUGE_LIMIT},
            id="reasoning cannot be switched off",
        ),
    ],
)
def test_the_request_for_too_long_an_answer(quirks, fields):
    measurement, _ = run(QuirkyProvider(quirks).answer)
    body = measurement.long_answer_request()
    assert body.pop("messages") == [{"role": "user", "content": "Say ok, as JSON."}]
    assert body == {"model": "m", "stream": True, **fields}


def test_the_too_long_request():
    (message,) = Measurement("m", schemas={}).too_long_request(1000)["messages"]
    assert len(message["content"].split()) == overflow_tokens(1000) == 1200


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        (None, "the model's window is unknown"),
        (200_000, ""),
        (1_000_000, "a request of 6.0 MB would be needed, which exceeds 2 MB"),
    ],
)
def test_when_no_too_long_request_is_sent(window, reason):
    assert why_no_overflow(window) == reason


# The ends of streams.


@pytest.mark.parametrize(
    ("has_done", "has_finish_reason", "text", "is_readable"),
    [
        (True, True, "[DONE], finish_reason, usage absent", True),
        (True, False, "[DONE], no finish_reason, usage absent", True),
        (False, True, "no [DONE], finish_reason, usage absent", True),
        (False, False, "no [DONE], no finish_reason, usage absent", False),
    ],
)
def test_the_end_of_a_stream(has_done, has_finish_reason, text, is_readable):
    end = StreamEnd(has_done=has_done, has_finish_reason=has_finish_reason, usage="absent")
    assert (str(end), end.is_readable) == (text, is_readable)


@pytest.mark.parametrize(
    ("usage", "places"),
    [
        ("absent", ["not requested", "absent"]),
        ("in its own chunk", ["in its own chunk"]),
    ],
)
def test_the_ends_of_streams_are_collected(usage, places):
    """Missing usage is reported only if it was requested."""
    end = StreamEnd(has_done=True, has_finish_reason=True, usage=usage)

    def answer(body):
        content = '{"ccproxy_ok": true}' if "response_format" in body else "ok"
        return Outcome(
            accepted=True,
            message={"content": content},
            stream_end=end if body.get("stream") else None,
        )

    measurement, _ = run(answer)
    assert [each.usage for each in measurement.stream_ends] == places


def test_there_are_enough_profiles():
    assert len(PROFILES) >= 25


def test_every_quirk_is_measured_or_listed():
    measured = set()
    for param in PROFILES:
        measured |= measure(QuirkyProvider(param.values[0]).answer)[0].keys()
    assert measured & set(UNMEASURED) == set()
    assert measured | set(UNMEASURED) == FIELDS

"""Tests of limits, sampling, stop sequences, formats and the user."""

from __future__ import annotations

import json

import pytest

from tests.asking import ask, target

SAMPLING = {"temperature", "top_p", "top_k", "stop"}


# max_tokens...


@pytest.mark.parametrize(
    ("goal", "at", "expected"),
    [
        pytest.param(900, {}, 900, id="as requested"),
        pytest.param(0, {}, 1, id="a cache warm-up asks for one token"),
        pytest.param(128_000, {"max_output": 8_192}, 8_192, id="the model's output limit"),
        pytest.param(900, {"max_output": 8_192}, 900, id="less stays less"),
        pytest.param(
            128_000, {"max_output": 8_192, "window": 4_096}, 8_192, id="a known output counts"
        ),
        pytest.param(32_000, {"window": 32_768}, 16_384, id="half of a known window"),
        pytest.param(10**30, {}, 2**31 - 1, id="an absurd number"),
    ],
)
def test_limit(goal, at, expected):
    assert ask(max_tokens=goal, to=target(**at)).body["max_tokens"] == expected


def test_the_name_of_the_limit_is_a_quirk():
    body = ask(to=target(max_tokens_field="max_completion_tokens")).body
    assert body["max_completion_tokens"] == 1024
    assert "max_tokens" not in body


# ...temperature and similar parameters...


def test_nothing_is_added():
    assert not SAMPLING & ask().body.keys()


@pytest.mark.parametrize("field", ["temperature", "top_p", "top_k", "stop_sequences"])
def test_null_is_not_sent(field):
    assert not SAMPLING & ask(**{field: None}).body.keys()


def test_sampling_is_sent_unchanged():
    body = ask(temperature=0.3, top_p=0.8).body
    assert (body["temperature"], body["top_p"]) == (0.3, 0.8)


@pytest.mark.parametrize(
    ("settings", "allowed", "expected"),
    [
        pytest.param(1, (0.0, 2.0), "1", id="a whole number stays one"),
        pytest.param(0, (0.01, 1.0), "0.01", id="too low"),
        pytest.param(1.5, (0.0, 1.0), "1", id="too high"),
        pytest.param(0.7, (0.0, 1.0), "0.7", id="in range"),
        pytest.param(-1, (0.0, 2.0), "0", id="negative"),
    ],
)
def test_temperature_is_clamped(settings, allowed, expected):
    outcome = ask(temperature=settings, to=target(temperature_range=allowed))
    assert f'"temperature":{expected},'.encode() in outcome.converted.body.replace(b"}", b",")


def test_refused_sampling_is_left_out():
    outcome = ask(temperature=1, top_p=0.5, to=target(sampling=False))
    assert not SAMPLING & outcome.body.keys()
    assert outcome.converted.dropped == ("temperature", "top_p")


@pytest.mark.parametrize(
    ("thinking", "efforts", "durations"),
    [
        pytest.param(None, ("none", "low"), True, id="nothing is requested: it does not reason"),
        pytest.param({"type": "disabled"}, ("none", "low"), True, id="switched off"),
        pytest.param({"type": "adaptive"}, ("none", "low"), False, id="it reasons"),
        pytest.param({"type": "disabled"}, ("minimal", "low"), False, id="it cannot be silenced"),
    ],
)
def test_sampling_that_is_supported_only_without_effort(thinking, efforts, durations):
    to = target(sampling=False, sampling_without_effort=True, reasoning="effort", efforts=efforts)
    outcome = ask(temperature=0.3, thinking=thinking, to=to)
    assert outcome.body.get("temperature") == (0.3 if durations else None)
    assert ("temperature" in outcome.converted.dropped) is not durations


@pytest.mark.parametrize(
    ("top_k", "names", "fields", "dropped"),
    [
        pytest.param(5, True, {"top_k": 5}, (), id="known"),
        pytest.param(5, False, {}, ("top_k",), id="not known"),
        pytest.param(-5, True, {"top_k": 0}, (), id="negative"),
        pytest.param(10**30, True, {"top_k": 2**31 - 1}, (), id="absurd"),
    ],
)
def test_top_k(top_k, names, fields, dropped):
    outcome = ask(top_k=top_k, to=target(top_k=names))
    assert {key: outcome.body[key] for key in SAMPLING & outcome.body.keys()} == fields
    assert outcome.converted.dropped == dropped


# ...stop sequences...


@pytest.mark.parametrize(
    ("settings", "quirks", "expected", "enforced"),
    [
        pytest.param(["</a>", "END"], {}, ["</a>", "END"], ("</a>", "END"), id="as requested"),
        pytest.param([], {}, None, (), id="none"),
        pytest.param([""], {}, None, (), id="an empty one would stop everything"),
        pytest.param(["a", "a"], {}, ["a"], ("a",), id="each once"),
        pytest.param(list("abcdef"), {}, list("abcd"), tuple("abcdef"), id="the first four"),
        pytest.param(["a", "b"], {"max_stops": 1}, ["a"], ("a", "b"), id="the first one"),
        pytest.param(["END"], {"stop": False}, None, ("END",), id="refused, but enforced here"),
    ],
)
def test_stops(settings, quirks, expected, enforced):
    outcome = ask(stop_sequences=settings, to=target(**quirks))
    assert outcome.body.get("stop") == expected
    assert outcome.converted.stop_sequences == enforced
    assert "stop_sequences" not in outcome.body


def test_refused_stop_sequences_are_recorded_as_dropped():
    outcome = ask(stop_sequences=["END"], to=target(stop=False))
    assert outcome.converted.dropped == ("stop_sequences",)


# ...and the user's id.

LONG = '{"device_id":"' + "a" * 64 + '","session_id":"0d1f0b7e"}'


@pytest.mark.parametrize("field", ["user", "safety_identifier"])
def test_the_user_is_hashed(field):
    outcome = ask(metadata={"user_id": LONG}, to=target(user_field=field))
    assert len(outcome.body[field]) == 64
    assert LONG.encode() not in outcome.converted.body
    assert outcome.converted.dropped == ()


def test_one_user_is_always_the_same():
    to = target(user_field="user")
    names = [ask(metadata={"user_id": name}, to=to).body["user"] for name in ("a", "a", "b")]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    ("metadata", "dropped"),
    [
        pytest.param({"user_id": "u"}, ("metadata",), id="a name"),
        pytest.param({}, ("metadata",), id="nothing in it"),
        pytest.param({"user_id": None, "more": 1}, ("metadata",), id="unknown fields"),
        pytest.param(None, (), id="null"),
    ],
)
def test_metadata_is_left_out(metadata, dropped):
    outcome = ask(metadata=metadata)
    assert not {"metadata", "user", "safety_identifier"} & outcome.body.keys()
    assert outcome.converted.dropped == dropped


TITLE = {
    "type": "object",
    "properties": {"title": {"type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}


def schema_format(schema=TITLE, **more):
    return {"format": {"type": "json_schema", "schema": schema}, **more}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"output_config": schema_format()}, id="output_config.format"),
        pytest.param({"output_format": schema_format()["format"]}, id="the older name"),
        pytest.param({"output_config": schema_format(effort="low")}, id="next to effort"),
        pytest.param(
            {"output_config": {"effort": "low"}, "output_format": schema_format()["format"]},
            id="both",
        ),
    ],
)
def test_json_schema(fields):
    form = ask(**fields).body["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"] == {"name": "answer", "schema": TITLE, "strict": True}


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({**TITLE, "additionalProperties": True}, id="open"),
        pytest.param({**TITLE, "required": []}, id="optional"),
        pytest.param({"type": "object"}, id="without properties"),
        pytest.param({"type": "object", "properties": {}}, id="without a word of more"),
        pytest.param(
            {**TITLE, "properties": {"title": {"type": "object", "properties": {"a": {}}}}},
            id="open inside",
        ),
        pytest.param(
            {**TITLE, "properties": {"title": {"anyOf": [{"type": "object"}]}}},
            id="open in an alternative",
        ),
    ],
)
def test_open_schemas_are_not_strict(schema):
    form = ask(output_config=schema_format(schema)).body["response_format"]
    assert form["json_schema"] == {"name": "answer", "schema": schema}


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "array", "items": TITLE}, id="a list of closed objects"),
        pytest.param({"anyOf": [TITLE, {"type": "null"}]}, id="a closed object or null"),
        pytest.param({"type": "string", "enum": ["a"]}, id="a text"),
    ],
)
def test_closed_schemas_are_strict(schema):
    form = ask(output_config=schema_format(schema)).body["response_format"]
    assert form["json_schema"]["strict"] is True


@pytest.mark.parametrize(
    ("form", "response_format"),
    [
        pytest.param("json_object", {"type": "json_object"}, id="some JSON object"),
        pytest.param("none", None, id="nothing"),
    ],
)
def test_an_instruction_replaces_unsupported_formats(form, response_format):
    outcome = ask(output_config=schema_format(), system="prompt", to=target(response_format=form))
    assert outcome.body.get("response_format") == response_format
    assert outcome.prompt.startswith("prompt\n\n")
    assert "JSON" in outcome.prompt
    assert json.loads(outcome.prompt.partition("schema:\n")[2]) == TITLE


def test_the_instruction_becomes_a_prompt_if_there_is_none():
    outcome = ask(output_config=schema_format(), to=target(response_format="none"))
    assert outcome.roles == "system user"


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param(False, True, id="a whole answer"),
        pytest.param(True, False, id="a stream gets an instruction"),
    ],
)
def test_formats_that_are_refused_in_streams(stream, expected):
    outcome = ask(
        output_config=schema_format(), stream=stream, to=target(response_format_streams=False)
    )
    assert ("response_format" in outcome.body) is expected
    assert ("JSON" in outcome.prompt) is not expected


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"effort": "low"}, id="effort alone"),
        pytest.param({"format": None}, id="null"),
        pytest.param({"format": {"type": "json_schema"}}, id="no schema"),
        pytest.param({"format": {"type": "yaml", "schema": {}}}, id="another form"),
    ],
)
def test_no_format(config):
    outcome = ask(output_config=config)
    assert "response_format" not in outcome.body
    assert outcome.roles == "user"

"""Structured output."""

from __future__ import annotations

import json

import pytest

from tests.asking import ask, target

TITLE = {
    "type": "object",
    "properties": {"title": {"type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}


def wanted(schema=TITLE, **more):
    return {"format": {"type": "json_schema", "schema": schema}, **more}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"output_config": wanted()}, id="output_config.format"),
        pytest.param({"output_format": wanted()["format"]}, id="the older name"),
        pytest.param({"output_config": wanted(effort="low")}, id="beside effort"),
        pytest.param(
            {"output_config": {"effort": "low"}, "output_format": wanted()["format"]}, id="both"
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
def test_a_schema_that_does_not_qualify_is_not_strict(schema):
    form = ask(output_config=wanted(schema)).body["response_format"]
    assert form["json_schema"] == {"name": "answer", "schema": schema}


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "array", "items": TITLE}, id="a list of closed objects"),
        pytest.param({"anyOf": [TITLE, {"type": "null"}]}, id="a closed object or null"),
        pytest.param({"type": "string", "enum": ["a"]}, id="a text"),
    ],
)
def test_a_schema_that_qualifies_is_strict(schema):
    form = ask(output_config=wanted(schema)).body["response_format"]
    assert form["json_schema"]["strict"] is True


@pytest.mark.parametrize(
    ("form", "response_format"),
    [
        pytest.param("json_object", {"type": "json_object"}, id="some JSON object"),
        pytest.param("none", None, id="nothing"),
    ],
)
def test_the_prompt_says_what_the_provider_cannot(form, response_format):
    asked = ask(output_config=wanted(), system="prompt", to=target(response_format=form))
    assert asked.body.get("response_format") == response_format
    assert asked.prompt.startswith("prompt\n\n")
    assert "JSON" in asked.prompt
    assert json.loads(asked.prompt.partition("schema:\n")[2]) == TITLE


def test_the_prompt_says_it_even_where_there_was_none():
    asked = ask(output_config=wanted(), to=target(response_format="none"))
    assert asked.roles == "system user"


@pytest.mark.parametrize(
    ("stream", "sent"),
    [
        pytest.param(False, True, id="a whole answer"),
        pytest.param(True, False, id="a stream is asked in words"),
    ],
)
def test_where_a_stream_has_no_format(stream, sent):
    asked = ask(output_config=wanted(), stream=stream, to=target(response_format_streams=False))
    assert ("response_format" in asked.body) is sent
    assert ("JSON" in asked.prompt) is not sent


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
    asked = ask(output_config=config)
    assert "response_format" not in asked.body
    assert asked.roles == "user"

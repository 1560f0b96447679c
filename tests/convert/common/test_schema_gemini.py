"""Schemas as Google's OpenAI layer takes them."""

from __future__ import annotations

import pytest

from ccproxy.convert.common.schema import to_parameters

TEXT = {"type": "string"}
NUMBER = {"type": "number"}


def field(schema, **definitions):
    whole = {"type": "object", "properties": {"x": schema}, "$defs": definitions}
    return to_parameters(whole, "gemini")["properties"]["x"]


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        # types
        pytest.param({"type": ["string", "null"]}, {**TEXT, "nullable": True}, id="or null"),
        pytest.param({"type": ["string"]}, TEXT, id="a list of one type"),
        pytest.param(
            {"type": ["string", "number"]}, {"anyOf": [TEXT, NUMBER]}, id="a list of types"
        ),
        pytest.param({"type": "null"}, {**TEXT, "nullable": True}, id="null alone"),
        pytest.param({"type": []}, {}, id="no type"),
        # enums
        pytest.param({"const": "a"}, {**TEXT, "enum": ["a"]}, id="a constant"),
        pytest.param({"enum": ["a", "b"]}, {**TEXT, "enum": ["a", "b"]}, id="an enum has a type"),
        pytest.param({"enum": ["a", None, 1]}, {**TEXT, "enum": ["a"]}, id="an enum is of texts"),
        pytest.param({"type": "integer", "enum": [1, 2]}, {"type": "integer"}, id="of numbers"),
        pytest.param({"const": True}, {}, id="a constant that is no text"),
        pytest.param({"enum": "a"}, {}, id="an enum that is none"),
        # formats
        pytest.param({**TEXT, "format": "date-time"}, {**TEXT, "format": "date-time"}, id="known"),
        pytest.param({**TEXT, "format": "uri"}, TEXT, id="unknown format"),
        # arrays
        pytest.param({"type": "array"}, {"type": "array", "items": TEXT}, id="array of anything"),
        pytest.param(
            {"type": "array", "items": True}, {"type": "array", "items": TEXT}, id="of true"
        ),
        pytest.param(
            {"type": "array", "items": [TEXT, NUMBER]},
            {"type": "array", "items": {"anyOf": [TEXT, NUMBER]}},
            id="a tuple",
        ),
        pytest.param(
            {"type": "array", "prefixItems": [TEXT, NUMBER]},
            {"type": "array", "items": {"anyOf": [TEXT, NUMBER]}},
            id="a newer tuple",
        ),
        # objects
        pytest.param({"type": "object", "properties": {}}, {"type": "object"}, id="empty object"),
        pytest.param(
            {"properties": {"a": TEXT}},
            {"type": "object", "properties": {"a": TEXT}},
            id="an object has a type",
        ),
        pytest.param(
            {"type": "object", "properties": {"a": TEXT}, "required": ["a", "b"]},
            {"type": "object", "properties": {"a": TEXT}, "required": ["a"]},
            id="required exists",
        ),
        pytest.param(
            {"type": "object", "additionalProperties": {"type": "number"}},
            {"type": "object"},
            id="a free object",
        ),
        # numbers
        pytest.param(
            {**NUMBER, "exclusiveMinimum": 0, "multipleOf": 2, "maximum": 5},
            {**NUMBER, "maximum": 5},
            id="bounds",
        ),
        # alternatives
        pytest.param({"anyOf": [TEXT, {"type": "null"}]}, {**TEXT, "nullable": True}, id="maybe"),
        pytest.param(
            {"description": "D", "anyOf": [TEXT, {"type": "null"}]},
            {**TEXT, "description": "D", "nullable": True},
            id="maybe, described",
        ),
        pytest.param(
            {"description": "D", "default": "a", "oneOf": [TEXT, NUMBER]},
            {"anyOf": [{"description": "D", **TEXT}, {"description": "D", **NUMBER}]},
            id="alternatives stand alone",
        ),
        pytest.param(
            {"anyOf": [TEXT, NUMBER, {"type": "null"}]},
            {"anyOf": [{**TEXT, "nullable": True}, {**NUMBER, "nullable": True}]},
            id="alternatives or null",
        ),
        pytest.param(
            {"type": "object", "properties": {"a": TEXT}, "anyOf": [{"required": ["a"]}]},
            {"type": "object", "properties": {"a": TEXT}},
            id="alternatives of an object's fields",
        ),
        pytest.param({"anyOf": []}, {}, id="no alternatives"),
        pytest.param({"anyOf": [{"type": "null"}]}, {}, id="only null"),
        # references
        pytest.param({"$ref": "#/$defs/N"}, NUMBER, id="a reference"),
        pytest.param(
            {"$ref": "#/$defs/N", "description": "D"},
            {**NUMBER, "description": "D"},
            id="a reference with words",
        ),
        pytest.param({"$ref": "#/$defs/missing"}, {}, id="a reference to nothing"),
        pytest.param(
            {"type": "array", "items": {"$ref": "#/$defs/N"}},
            {"type": "array", "items": NUMBER},
            id="a reference inside",
        ),
    ],
)
def test_node(given, becomes):
    assert field(given, N=NUMBER) == becomes


def test_a_recursive_schema_ends():
    tree = {
        "type": "object",
        "properties": {"name": TEXT, "children": {"type": "array", "items": {"$ref": "#/$defs/T"}}},
    }
    inner = field({"$ref": "#/$defs/T"}, T=tree)
    assert inner["properties"]["name"] == TEXT
    assert inner["properties"]["children"]["items"] == {"type": "object"}


def test_references_do_not_multiply_without_end():
    """Ten definitions that refer to all the others would write out ten factorial schemas."""
    names = "abcdefghij"
    definitions = {
        name: {
            "type": "object",
            "properties": {each: {"$ref": f"#/$defs/{each}"} for each in names if each != name},
        }
        for name in names
    }
    inner = field({"$ref": "#/$defs/a"}, **definitions)
    assert len(str(inner)) < 200_000


def test_no_definitions_are_left():
    schema = {"type": "object", "properties": {"x": {"$ref": "#/$defs/N"}}, "$defs": {"N": NUMBER}}
    assert "$defs" not in to_parameters(schema, "gemini")

"""
Tests of schemas from schema generators, in every dialect.

Most schemas are written by generators such as pydantic and zod, each with its own form of optional
fields and unions. A dialect without an expectation preserves the schema.
"""

from __future__ import annotations

import pytest

from ccproxy.convert.common.schema import to_parameters

TEXT = {"type": "string"}
NUMBER = {"type": "number"}
NULL = {"type": "null"}


def field(schema, definitions, dialect):
    whole = {"type": "object", "properties": {"x": schema}}
    if definitions:
        whole["$defs"] = definitions
    return to_parameters(whole, dialect)["properties"]["x"]


WRITTEN = [
    # pydantic 2, model_json_schema()
    pytest.param(
        {"anyOf": [TEXT, NULL], "default": None, "title": "Path"},
        {},
        {"gemini": {"type": "string", "nullable": True}},
        id="pydantic: an optional field",
    ),
    pytest.param(
        {"$ref": "#/$defs/Colour", "default": "red"},
        {"Colour": {"enum": ["red", "green"], "title": "Colour", "type": "string"}},
        {
            "gemini": {
                "title": "Colour",
                "type": "string",
                "default": "red",
                "enum": ["red", "green"],
            }
        },
        id="pydantic: an enumeration",
    ),
    pytest.param(
        {"allOf": [{"$ref": "#/$defs/Point"}], "description": "Where"},
        {"Point": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}},
        {
            "gemini": {
                "type": "object",
                "description": "Where",
                "properties": {"x": {"type": "integer"}},
                "required": ["x"],
            },
            "bare": {"$ref": "#/$defs/Point", "description": "Where"},
            "kimi": {"$ref": "#/$defs/Point", "description": "Where"},
        },
        id="pydantic: a described reference",
    ),
    pytest.param(
        {"type": "integer", "exclusiveMinimum": 0, "maximum": 100, "title": "Count"},
        {},
        {
            "gemini": {"type": "integer", "maximum": 100, "title": "Count"},
            "bare": {"type": "integer", "title": "Count"},
        },
        id="pydantic: a bounded integer",
    ),
    pytest.param(
        {"type": "object", "additionalProperties": {"type": "integer"}, "title": "Counts"},
        {},
        {"gemini": {"type": "object", "title": "Counts"}},
        id="pydantic: a dictionary",
    ),
    pytest.param(
        {
            "discriminator": {"propertyName": "kind", "mapping": {"a": "#/$defs/A"}},
            "oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}],
        },
        {
            "A": {
                "type": "object",
                "properties": {"kind": {"const": "a", "type": "string"}},
                "required": ["kind"],
            },
            "B": {
                "type": "object",
                "properties": {"kind": {"const": "b", "type": "string"}},
                "required": ["kind"],
            },
        },
        {
            "gemini": {
                "anyOf": [
                    {
                        "type": "object",
                        "properties": {"kind": {"type": "string", "enum": ["a"]}},
                        "required": ["kind"],
                    },
                    {
                        "type": "object",
                        "properties": {"kind": {"type": "string", "enum": ["b"]}},
                        "required": ["kind"],
                    },
                ]
            },
            "bare": {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]},
            "kimi": {
                "discriminator": {
                    "propertyName": "kind",
                    "mapping": {"a": "#/$defs/A"},
                },
                "anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}],
            },
        },
        id="pydantic: a discriminated union",
    ),
    # zod 3 and 4, from MCP servers in TypeScript
    pytest.param(
        {"anyOf": [{"type": "string", "const": "asc"}, {"type": "string", "const": "desc"}]},
        {},
        {
            "gemini": {
                "anyOf": [{"type": "string", "enum": ["asc"]}, {"type": "string", "enum": ["desc"]}]
            }
        },
        id="zod: a union of literals",
    ),
    pytest.param(
        {"type": ["number", "null"]},
        {},
        {"gemini": {"nullable": True, "type": "number"}},
        id="zod: a nullable number",
    ),
    pytest.param(
        {"type": "array", "minItems": 2, "maxItems": 2, "items": [NUMBER, NUMBER]},
        {},
        {
            "gemini": {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "items": {"anyOf": [NUMBER, NUMBER]},
            },
            "bare": {"type": "array", "items": [NUMBER, NUMBER]},
            "kimi": {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "prefixItems": [NUMBER, NUMBER],
            },
        },
        id="zod: a tuple",
    ),
    pytest.param(
        {"type": "object", "propertyNames": TEXT, "additionalProperties": {}},
        {},
        {
            "gemini": {"type": "object"},
            "bare": {"type": "object", "additionalProperties": {}},
            "kimi": {"type": "object", "propertyNames": TEXT, "additionalProperties": True},
        },
        id="zod: a record",
    ),
    pytest.param(
        {
            "type": "object",
            "properties": {"id": {"type": "string", "format": "uuid"}},
            "required": ["id"],
            "additionalProperties": False,
        },
        {},
        {
            "gemini": {"type": "object", "properties": {"id": TEXT}, "required": ["id"]},
            "bare": {
                "type": "object",
                "properties": {"id": TEXT},
                "required": ["id"],
                "additionalProperties": False,
            },
        },
        id="zod: a strict object",
    ),
    pytest.param(
        {"type": "integer", "exclusiveMinimum": 0, "maximum": 9007199254740991},
        {},
        {"gemini": {"type": "integer", "maximum": 9007199254740991}, "bare": {"type": "integer"}},
        id="zod: a positive integer",
    ),
    pytest.param(
        {"type": "string", "format": "uri", "minLength": 1},
        {},
        {"gemini": {"type": "string", "minLength": 1}, "bare": TEXT},
        id="zod: an address",
    ),
    # invopop/jsonschema, MCP servers in Go
    pytest.param(
        {"$ref": "#/$defs/Node"},
        {
            "Node": {
                "type": "object",
                "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
            }
        },
        {
            "gemini": {
                "type": "object",
                "properties": {"children": {"type": "array", "items": {"type": "object"}}},
            }
        },
        id="Go: a recursive tree",
    ),
    # written by hand
    pytest.param(
        {
            "type": "object",
            "properties": {"a": TEXT, "b": TEXT},
            "if": {"required": ["a"]},
            "then": {"required": ["b"]},
            "dependentRequired": {"a": ["b"]},
        },
        {},
        {
            "gemini": {"type": "object", "properties": {"a": TEXT, "b": TEXT}},
            "bare": {"type": "object", "properties": {"a": TEXT, "b": TEXT}},
            "kimi": {
                "type": "object",
                "properties": {"a": TEXT, "b": TEXT},
                "dependentRequired": {"a": ["b"]},
            },
        },
        id="by hand: a condition",
    ),
]


@pytest.mark.parametrize("dialect", ["plain", "no_meta", "bare", "gemini", "kimi"])
@pytest.mark.parametrize(("schema", "definitions", "becomes"), WRITTEN)
def test_field(schema, definitions, becomes, dialect):
    assert field(schema, definitions, dialect) == becomes.get(dialect, schema)


@pytest.mark.parametrize("dialect", ["plain", "no_meta", "bare", "kimi"])
@pytest.mark.parametrize(
    ("schema", "definitions", "becomes"), [row for row in WRITTEN if row.values[1]]
)
def test_referenced_definitions_are_preserved(schema, definitions, becomes, dialect):
    whole = {"type": "object", "properties": {"x": schema}, "$defs": definitions}
    assert to_parameters(whole, dialect)["$defs"].keys() == definitions.keys()


@pytest.mark.parametrize(("schema", "definitions", "becomes"), WRITTEN)
def test_gemini_gets_only_supported_keywords(schema, definitions, becomes):
    """theopenco/llmgateway#1763, router-for-me/CLIProxyAPI#43 and #97."""
    refused = {
        *("$schema", "$ref", "$defs", "additionalProperties", "propertyNames", "const", "if"),
        *("then", "else", "exclusiveMinimum", "exclusiveMaximum", "patternProperties", "oneOf"),
        *("allOf", "discriminator", "dependentRequired", "prefixItems"),
    }
    assert refused.isdisjoint(keywords(field(schema, definitions, "gemini")))


def keywords(schema):
    """Return all keywords of a schema and its subschemas; property names are not keywords."""
    if isinstance(schema, list):
        return {each for inner in schema for each in keywords(inner)}
    if not isinstance(schema, dict):
        return set()
    named = schema.get("properties", {}).values()
    rest = {key: value for key, value in schema.items() if key not in ("properties", "default")}
    return {*schema, *keywords(list(named)), *(each for v in rest.values() for each in keywords(v))}

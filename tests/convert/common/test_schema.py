"""Tests of JSON schemas in the providers' dialects."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy.convert.common.schema import (
    Inliner,
    as_schema,
    definitions_of,
    map_inner,
    merge,
    names_of,
    target_of,
    to_parameters,
    without_one_of,
)

DIALECTS = ["plain", "gemini", "kimi", "bare", "no_meta", "inline", "grammar"]
TEXT = {"type": "string"}


def obj(**properties):
    return {"type": "object", "properties": properties}


def field(schema, dialect):
    """Return the conversion of a property with *schema*."""
    return to_parameters(obj(x=schema), dialect)["properties"]["x"]


# The root is an object...


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({}, id="empty"),
        pytest.param(None, id="null"),
        pytest.param(True, id="true"),
        pytest.param("object", id="a string"),
        pytest.param({"type": "object"}, id="without properties"),
        pytest.param({"type": "string"}, id="of another type"),
        pytest.param({"type": ["object", "null"]}, id="of several types"),
        pytest.param({"type": "object", "properties": None}, id="properties null"),
        pytest.param({"type": "object", "properties": []}, id="properties a list"),
    ],
)
def test_root_without_properties(dialect, schema):
    assert to_parameters(schema, dialect) == {"type": "object", "properties": {}}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("schema", "properties", "required"),
    [
        pytest.param(
            {"anyOf": [obj(a=TEXT) | {"required": ["a"]}, obj(b=TEXT) | {"required": ["b"]}]},
            {"a", "b"},
            None,
            id="alternatives",
        ),
        pytest.param(
            {
                "oneOf": [
                    obj(a=TEXT, k=TEXT) | {"required": ["a", "k"]},
                    obj(b=TEXT, k=TEXT) | {"required": ["k"]},
                ]
            },
            {"a", "b", "k"},
            ["k"],
            id="fields that every alternative requires are required",
        ),
        pytest.param(
            {"allOf": [obj(a=TEXT) | {"required": ["a"]}, obj(b=TEXT) | {"required": ["b"]}]},
            {"a", "b"},
            ["a", "b"],
            id="requirements are combined",
        ),
        pytest.param(
            obj(a=TEXT) | {"required": ["a"], "anyOf": [{"required": ["b"]}]},
            {"a"},
            ["a"],
            id="requirements of unknown properties are left out",
        ),
        pytest.param(
            {"$ref": "#/$defs/X", "$defs": {"X": obj(a=TEXT) | {"required": ["a"]}}},
            {"a"},
            ["a"],
            id="a reference at the root",
        ),
        pytest.param(
            {"anyOf": [{"$ref": "#/definitions/X"}], "definitions": {"X": obj(a=TEXT)}},
            {"a"},
            None,
            id="a reference in an alternative",
        ),
        pytest.param({"$ref": "#/nowhere"}, set(), None, id="a reference to nothing"),
        pytest.param({"anyOf": "nonsense"}, set(), None, id="invalid alternatives"),
        pytest.param({"anyOf": [7, None]}, set(), None, id="alternatives that are no schemas"),
        pytest.param({"anyOf": []}, set(), None, id="no alternatives"),
    ],
)
def test_root_of_alternatives(dialect, schema, properties, required):
    parameters = to_parameters(schema, dialect)
    assert parameters["type"] == "object"
    assert set(parameters["properties"]) == properties
    # An empty list at the client's root is preserved.
    assert (parameters.get("required") or None) == required
    assert not {"anyOf", "oneOf", "allOf", "$ref"} & parameters.keys()


@pytest.mark.parametrize("keyword", ["enum", "const", "not", "if", "then", "else"])
def test_keywords_that_are_rejected_at_the_root_are_removed(keyword):
    assert keyword not in to_parameters({**obj(a=TEXT), keyword: {}}, "plain")


@pytest.mark.parametrize(
    ("required", "expected"),
    [
        pytest.param(["a"], ["a"], id="a property"),
        pytest.param([], [], id="none"),
        pytest.param(["a", "z"], ["a"], id="an unknown one is removed"),
        pytest.param("a", [], id="nonsense"),
    ],
)
def test_required(required, expected):
    assert to_parameters(obj(a=TEXT) | {"required": required}, "plain")["required"] == expected


def test_nothing_new_is_required():
    assert "required" not in to_parameters(obj(a=TEXT), "plain")


# ...keywords are removed, names are kept...


@pytest.mark.parametrize(
    ("dialect", "keywords"),
    [
        pytest.param("plain", ["$schema"], id="plain"),
        pytest.param("no_meta", ["$schema", "$id", "$comment", "strict", "id"], id="no_meta"),
        pytest.param("bare", ["$schema", "format", "pattern", "minimum", "examples"], id="bare"),
        pytest.param(
            "gemini",
            ["$schema", "additionalProperties", "propertyNames", "exclusiveMinimum", "if"],
            id="gemini",
        ),
        pytest.param("kimi", ["$schema"], id="kimi"),
    ],
)
def test_keywords_are_removed_everywhere(dialect, keywords):
    values = {keyword: {"type": "string"} for keyword in keywords}
    schema = {**obj(inner={**obj(leaf=TEXT), **values}), **values}
    parameters = to_parameters(schema, dialect)
    inner = parameters["properties"]["inner"]
    assert not set(keywords) & parameters.keys()
    assert not set(keywords) & inner.keys()
    assert inner["properties"] == {"leaf": TEXT}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "name", ["$schema", "const", "anyOf", "$ref", "properties", "required", "type", "id", "strict"]
)
def test_a_property_named_like_a_keyword_is_preserved(dialect, name):
    schema = obj(**{name: TEXT, "deep": obj(**{name: TEXT})}) | {"required": [name]}
    parameters = to_parameters(schema, dialect)
    assert parameters["properties"][name] == TEXT
    assert parameters["properties"]["deep"]["properties"][name] == TEXT
    assert parameters["required"] == [name]


def test_plain_keeps_everything_else():
    schema = {
        **obj(
            n={"type": "number", "exclusiveMinimum": 0},
            m={"type": ["string", "null"], "format": "uri", "pattern": "^a"},
            o={"anyOf": [TEXT, {"type": "null"}], "default": None},
        ),
        "additionalProperties": False,
        "$defs": {"X": TEXT},
    }
    assert to_parameters(schema, "plain") == schema


@pytest.mark.parametrize(
    ("settings", "becomes"),
    [
        pytest.param({"oneOf": [TEXT]}, {"anyOf": [TEXT]}, id="oneOf is anyOf"),
        pytest.param(
            {"allOf": [obj(a=TEXT), obj(b=TEXT)]},
            obj(a=TEXT, b=TEXT),
            id="allOf is one object",
        ),
        pytest.param(
            {"allOf": [TEXT, {"enum": ["a"]}]}, {**TEXT, "enum": ["a"]}, id="allOf merges"
        ),
        pytest.param(
            {"type": "object", "additionalProperties": True},
            {"type": "object", "additionalProperties": True},
            id="additionalProperties stays",
        ),
        pytest.param(
            {"type": "array", "items": {"$ref": "#/$defs/X"}},
            {"type": "array", "items": {"$ref": "#/$defs/X"}},
            id="references stay",
        ),
    ],
)
def test_bare(settings, becomes):
    assert field(settings, "bare") == becomes


@pytest.mark.parametrize(
    ("settings", "becomes"),
    [
        pytest.param(
            {"type": "string", "anyOf": [{"enum": ["a"]}, {"pattern": "b"}]},
            {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "string", "pattern": "b"}]},
            id="the type goes into the alternatives",
        ),
        pytest.param(
            {"type": "object", "anyOf": [{"type": "string"}, {"type": ["null"]}, True]},
            {"anyOf": [{"type": "string"}, {"type": ["null"]}, {"type": "string"}]},
            id="but not over their own types",
        ),
        pytest.param(
            {"type": "array", "items": [TEXT, {"type": "number"}]},
            {"type": "array", "prefixItems": [TEXT, {"type": "number"}]},
            id="a tuple",
        ),
        pytest.param(
            {"type": "array", "items": TEXT}, {"type": "array", "items": TEXT}, id="a list"
        ),
        pytest.param({"enum": ["a"]}, {"enum": ["a"], "type": "string"}, id="type of an enum"),
        pytest.param({"enum": [1, 2]}, {"enum": [1, 2], "type": "integer"}, id="of numbers"),
        pytest.param(
            {"enum": [1, "a", None]},
            {"enum": [1, "a", None], "type": ["integer", "string", "null"]},
            id="types of a mixed enum",
        ),
        pytest.param({"const": True}, {"const": True, "type": "boolean"}, id="type of a constant"),
        pytest.param({"properties": {}}, {"properties": {}, "type": "object"}, id="of an object"),
        pytest.param({"items": TEXT}, {"items": TEXT, "type": "array"}, id="type of an array"),
        pytest.param({"minimum": 1}, {"minimum": 1, "type": "number"}, id="type of a number"),
        pytest.param(
            {"description": "free"}, {"description": "free", "type": "string"}, id="no hint"
        ),
        pytest.param(True, {"type": "string"}, id="a boolean schema"),
        pytest.param(
            {"type": "array", "items": True}, {"type": "array"}, id="a boolean schema of items"
        ),
        pytest.param(
            {"type": "object", "properties": {"a": TEXT}, "required": ["a", "b"]},
            {"type": "object", "properties": {"a": TEXT}, "required": ["a"]},
            id="a required name without a property",
        ),
        pytest.param({"$ref": "https://x/y"}, {"type": "string"}, id="a remote reference"),
        pytest.param({"$ref": "#/$defs/none"}, {"type": "string"}, id="a reference to nothing"),
    ],
)
def test_kimi(settings, becomes):
    assert field(settings, "kimi") == becomes


@pytest.mark.parametrize(
    ("schema", "becomes"),
    [
        pytest.param({"type": "string", "pattern": "\\d{4}"}, TEXT, id="a pattern"),
        pytest.param({"type": "string", "maxLength": 50_000}, TEXT, id="a large bound"),
        pytest.param(
            {"type": "string", "maxLength": 50}, {"type": "string", "maxLength": 50}, id="a bound"
        ),
        pytest.param(
            {"type": "integer", "maximum": 1e300}, {"type": "integer"}, id="a huge number"
        ),
        pytest.param(
            {"type": "integer", "maximum": 9}, {"type": "integer", "maximum": 9}, id="a number"
        ),
        pytest.param(True, {}, id="a boolean schema"),
        pytest.param({"type": "array", "items": True}, {"type": "array"}, id="boolean items"),
        pytest.param({"anyOf": [TEXT, True]}, {"anyOf": [TEXT, {}]}, id="a boolean alternative"),
        pytest.param({"type": "string", "enum": []}, TEXT, id="an empty enum"),
        pytest.param({"anyOf": []}, {}, id="no alternatives"),
        pytest.param({"$ref": "https://x/y.json"}, {}, id="a remote reference"),
        pytest.param({"$ref": "#/$defs/none"}, {}, id="a reference to nothing"),
        pytest.param({"$ref": "#"}, {}, id="a reference to the root"),
        pytest.param({"$ref": "#/$defs/p~1q"}, {"$ref": "#/$defs/p~1q"}, id="a good reference"),
        pytest.param(
            {"$ref": "#/$defs/list/anyOf/0"},
            {"$ref": "#/$defs/list/anyOf/0"},
            id="a reference into a list",
        ),
        pytest.param({"$ref": "#/$defs/list/anyOf/1"}, {}, id="a reference past the end of a list"),
        pytest.param(
            {"type": "array", "items": {"$ref": "other.json"}},
            {"type": "array", "items": {}},
            id="a nested reference",
        ),
    ],
)
def test_grammar(schema, becomes):
    definitions = {"p/q": TEXT, "list": {"anyOf": [TEXT]}}
    whole = {"type": "object", "properties": {"x": schema}, "$defs": definitions}
    assert to_parameters(whole, "grammar")["properties"]["x"] == becomes


def test_properties_named_like_removed_keywords_are_preserved_in_grammars():
    schema = obj(pattern=TEXT, enum=TEXT, maxLength=TEXT)
    assert to_parameters(schema, "grammar") == schema


def test_inline_replaces_references():
    point = {"type": "object", "properties": {"x": {"$ref": "#/$defs/Number"}}}
    whole = {
        "type": "object",
        "properties": {"at": {"$ref": "#/$defs/Point"}},
        "$defs": {"Point": point, "Number": {"type": "number"}},
    }
    at = {"type": "object", "properties": {"x": {"type": "number"}}}
    assert to_parameters(whole, "inline") == {"type": "object", "properties": {"at": at}}


def test_inlined_references_are_bounded():
    schema = obj(**{f"p{number}": {"$ref": "#/$defs/Large"} for number in range(100)})
    schema["$defs"] = {"Large": {"type": "string", "description": "x" * 100_000}}
    converted = to_parameters(schema, "inline")
    assert converted["properties"]["p0"]["type"] == "string"
    assert converted["properties"]["p99"] == {"type": "object"}
    assert len(json.dumps(converted)) < 2**21


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_clients_schema_is_not_changed(dialect):
    schema = {
        "$schema": "x",
        "anyOf": [obj(a={"const": 1, "type": ["string", "null"]})],
        "properties": {"t": {"type": "array", "items": [TEXT]}},
    }
    before = copy.deepcopy(schema)
    to_parameters(schema, dialect)
    assert schema == before


KEYWORDS = st.sampled_from(
    [
        *("type", "properties", "items", "anyOf", "oneOf", "allOf", "enum", "const", "required"),
        *("$ref", "$defs", "format", "additionalProperties", "prefixItems", "not", "nullable"),
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False)
    | st.sampled_from(["string", "object", "array", "null", "#/$defs/a", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYWORDS, inner, max_size=4)
        | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None)
@given(dialect=st.sampled_from(DIALECTS), schema=VALUES)
def test_any_json_becomes_an_object_schema(dialect, schema):
    before = copy.deepcopy(schema)
    parameters = to_parameters(schema, dialect)
    assert parameters["type"] == "object"
    assert isinstance(parameters["properties"], dict)
    assert set(parameters.get("required", [])) <= set(parameters["properties"])
    json.dumps(parameters)
    assert schema == before, "the client's schema was changed"


# Unusual schemas.


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"type": None, "format": []}, id="a list as format"),
        pytest.param({"type": {}, "enum": {}}, id="objects where words belong"),
        pytest.param({"type": [[], {}], "items": 1}, id="invalid types"),
        pytest.param({"type": "array", "items": [], "prefixItems": {}}, id="tuples of nothing"),
        pytest.param({"anyOf": {}, "oneOf": 3, "allOf": [1, None]}, id="no alternatives"),
        pytest.param({"$ref": ["#"], "$defs": []}, id="a reference to nothing"),
        pytest.param({"required": {"a": 1}, "properties": [1]}, id="lists and objects swapped"),
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_invalid_schemas_do_not_raise(dialect, broken):
    json.dumps(field(broken, dialect))
    json.dumps(to_parameters(broken, dialect))


NUMBER = {"type": "number"}


def gemini_field(schema, **definitions):
    whole = {"type": "object", "properties": {"x": schema}, "$defs": definitions}
    return to_parameters(whole, "gemini")["properties"]["x"]


@pytest.mark.parametrize(
    ("settings", "becomes"),
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
        pytest.param({"const": True}, {}, id="a constant that is not a string"),
        pytest.param({"enum": "a"}, {}, id="an invalid enum"),
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
def test_node(settings, becomes):
    assert gemini_field(settings, N=NUMBER) == becomes


def test_a_recursive_schema_ends():
    tree = {
        "type": "object",
        "properties": {"name": TEXT, "children": {"type": "array", "items": {"$ref": "#/$defs/T"}}},
    }
    inner = gemini_field({"$ref": "#/$defs/T"}, T=tree)
    assert inner["properties"]["name"] == TEXT
    assert inner["properties"]["children"]["items"] == {"type": "object"}


def test_the_number_of_inlined_references_is_bounded():
    """Ten definitions that all refer to each other would expand to ten factorial schemas."""
    names = "abcdefghij"
    definitions = {
        name: {
            "type": "object",
            "properties": {each: {"$ref": f"#/$defs/{each}"} for each in names if each != name},
        }
        for name in names
    }
    inner = gemini_field({"$ref": "#/$defs/a"}, **definitions)
    assert len(str(inner)) < 200_000


def test_no_definitions_are_left():
    schema = {"type": "object", "properties": {"x": {"$ref": "#/$defs/N"}}, "$defs": {"N": NUMBER}}
    assert "$defs" not in to_parameters(schema, "gemini")


# The structure of schemas.


MARK = {"seen": True}


@pytest.mark.parametrize(
    ("schema", "becomes"),
    [
        pytest.param({"items": {}}, {"items": MARK}, id="one schema"),
        pytest.param({"items": [{}, {}]}, {"items": [MARK, MARK]}, id="a list of schemas"),
        pytest.param({"anyOf": [{}, True]}, {"anyOf": [MARK, MARK]}, id="alternatives"),
        pytest.param({"properties": {"a": {}}}, {"properties": {"a": MARK}}, id="properties"),
        pytest.param({"$defs": {"a": {}}}, {"$defs": {"a": MARK}}, id="definitions"),
        pytest.param({"additionalProperties": {}}, {"additionalProperties": MARK}, id="the rest"),
        pytest.param(
            {"additionalProperties": False}, {"additionalProperties": False}, id="a switch"
        ),
        pytest.param({"enum": [{}]}, {"enum": [{}]}, id="values are no schemas"),
        pytest.param({"default": {"items": {}}}, {"default": {"items": {}}}, id="nor defaults"),
        pytest.param({"properties": [{}]}, {"properties": [{}]}, id="invalid input is unchanged"),
    ],
)
def test_map_inner(schema, becomes):
    assert map_inner(schema, lambda _: MARK) == becomes


@pytest.mark.parametrize(
    ("value", "names"),
    [
        pytest.param(["a", "b"], ["a", "b"], id="names"),
        pytest.param(["a", 1, None], ["a"], id="only strings"),
        pytest.param("a", [], id="no list"),
        pytest.param(None, [], id="null"),
    ],
)
def test_names_of(value, names):
    assert names_of(value) == names


@pytest.mark.parametrize("value", [None, True, 7, "x", []])
def test_only_an_object_is_a_schema(value):
    assert as_schema(value) == {}


def test_own_properties_take_precedence():
    whole = {"properties": {"a": 1}}
    assert merge(whole, [{"properties": {"a": 2, "b": 2}}], all_hold=True)["properties"] == {
        "a": 1,
        "b": 2,
    }


def test_without_one_of_keeps_an_any_of():
    assert without_one_of({"oneOf": [1], "anyOf": [2]}) == {"anyOf": [2]}


def test_own_keywords_take_precedence_over_all_of():
    schema = {"description": "mine", "allOf": [{"description": "theirs", "type": "string"}]}
    assert without_one_of(schema) == {"description": "mine", "type": "string"}


def test_definitions_of_both_spellings():
    root = {"$defs": {"a": 1}, "definitions": {"b": 2}}
    assert definitions_of(root) == {"#/$defs/a": 1, "#/definitions/b": 2}


@pytest.mark.parametrize(
    ("schema", "target"),
    [
        pytest.param({"$ref": "#/$defs/a"}, {"type": "string"}, id="known"),
        pytest.param({"$ref": "#/$defs/b"}, {}, id="unknown"),
        pytest.param({"$ref": 7}, {}, id="nonsense"),
        pytest.param({}, {}, id="none"),
        pytest.param(None, {}, id="no schema"),
    ],
)
def test_target_of(schema, target):
    assert target_of(schema, {"#/$defs/a": {"type": "string"}}) == target


def test_a_property_named_ref_is_not_a_reference():
    schema = {"properties": {"$ref": {"type": "string"}}}
    assert Inliner({}).inline(schema) == schema

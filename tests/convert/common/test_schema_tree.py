"""Tests of the structure of JSON schemas."""

from __future__ import annotations

import pytest

from ccproxy.convert.common.schema_tree import (
    Inliner,
    as_schema,
    definitions_of,
    map_inner,
    merge,
    names_of,
    target_of,
    without_one_of,
)

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
        pytest.param({"properties": [{}]}, {"properties": [{}]}, id="nonsense is left alone"),
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

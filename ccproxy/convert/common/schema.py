"""
JSON schemas of tools, in the dialects that providers take.

Rules:
    1. A tool's parameters are an object with properties, whatever the client wrote (OpenAI:
       "schema must be a JSON Schema of type object"); alternatives at the root become one object.
    2. A keyword is removed where it stands as a keyword. A property that happens to be called
       `$schema` or `const` is data and survives.
    3. What a dialect cannot say is said more weakly, never more strictly: the model may then send
       what the tool refuses, but nothing that it takes becomes impossible.

The dialects (`Quirks.schema`):
    plain    everything but `$schema`
    no_meta  without `$id`, `$schema`, `strict` and the like (Mistral)
    bare     the keywords that every implementation knows (Cerebras, Groq)
    gemini   see `convert/common/schema_gemini.py`
    kimi     Moonshot's MFJS: no `type` beside `anyOf`, tuples in `prefixItems`
"""

from __future__ import annotations

from typing import Final

from ccproxy.convert.common.schema_gemini import gemini_node
from ccproxy.convert.common.schema_tree import (
    Inliner,
    Schema,
    as_schema,
    definitions_of,
    map_inner,
    merged,
    names_of,
    target_of,
    without_one_of,
)

_META: Final = frozenset({"$schema"})
_MORE_META: Final = _META | {"$id", "$anchor", "$comment", "$vocabulary", "strict", "id"}
_BARE: Final = frozenset(
    {
        *("type", "description", "title", "properties", "required", "items", "enum", "anyOf"),
        *("additionalProperties", "$ref", "$defs", "definitions", "default", "const"),
    }
)
_NOT_AT_ROOT: Final = frozenset(
    {"anyOf", "oneOf", "allOf", "enum", "const", "not", "if", "then", "else", "$ref"}
)
"""OpenAI refuses these at the root of a function's parameters."""


def to_parameters(schema: object, dialect: str) -> Schema:
    """Convert a tool's input schema into a function's parameters; *schema* is not changed."""
    root = _object_at_root(as_schema(schema))
    if dialect == "gemini":
        root = as_schema(Inliner(definitions_of(root)).inlined(root))
    converted = as_schema(_converted(root, dialect))
    properties = as_schema(converted.get("properties"))
    required = [name for name in names_of(converted.pop("required", None)) if name in properties]
    return {
        **converted,
        "type": "object",
        "properties": properties,
        **({"required": required} if "required" in root else {}),
    }


def _object_at_root(whole: Schema) -> Schema:
    """Resolve a reference at the root and merge its alternatives into one object."""
    definitions = definitions_of(whole)
    root = {**target_of(whole, definitions), **whole}
    for keyword, all_hold in (("allOf", True), ("anyOf", False), ("oneOf", False)):
        branches = root.get(keyword)
        if isinstance(branches, list):
            resolved = [{**target_of(each, definitions), **as_schema(each)} for each in branches]
            root = merged(root, resolved, all_hold=all_hold)
    kept = {key: value for key, value in root.items() if key not in _NOT_AT_ROOT}
    return {**kept, "type": "object"}


def _converted(schema: object, dialect: str) -> object:
    if not isinstance(schema, dict):
        # `true` and `false` are schemas too, but not everywhere.
        return {} if dialect in ("gemini", "bare") else schema
    return map_inner(_NODE[dialect](schema), lambda inner: _converted(inner, dialect))


def _plain(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key not in _META}


def _no_meta(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key not in _MORE_META}


def _bare(schema: Schema) -> Schema:
    return {key: value for key, value in without_one_of(schema).items() if key in _BARE}


def _kimi(schema: Schema) -> Schema:
    node = _plain(schema)
    if isinstance(node.get("items"), list):
        node["prefixItems"] = node.pop("items")
    branches = node.get("anyOf")
    if isinstance(branches, list) and "type" in node:
        kind = node.pop("type")
        node["anyOf"] = [_of_type(kind, each) for each in branches]
    return node


def _of_type(kind: object, branch: object) -> object:
    """Give *branch* the type that stood beside its anyOf, unless it says more itself."""
    if not isinstance(branch, dict) or not branch.keys().isdisjoint({"type", "anyOf", "$ref"}):
        return branch
    return {"type": kind, **branch}


_NODE: Final = {
    "plain": _plain,
    "no_meta": _no_meta,
    "bare": _bare,
    "gemini": gemini_node,
    "kimi": _kimi,
}

"""
JSON schemas of tools in the dialects that providers accept.

Rules:
    1. A tool's parameters become an object with properties (OpenAI: "schema must be a JSON Schema
       of type object"); alternatives at the root are merged into one object.
    2. A keyword is removed only as a keyword. A property named `$schema` or `const` is preserved.
    3. What a dialect cannot express is weakened, never tightened: the model may send input that the
       tool refuses, but all valid input stays possible.

The dialects (`Quirks.schema`):
    plain    everything except `$schema`
    no_meta  without `$id`, `$schema`, `strict` and the like (Mistral)
    bare     the keywords that every implementation supports (Cerebras, Groq)
    gemini   Google's selection of OpenAPI 3.0, see `_gemini`
    kimi     Moonshot's MFJS: no `type` next to `anyOf`, tuples in `prefixItems`
"""

from __future__ import annotations

from typing import Any, Final

from ccproxy.convert.common.schema_tree import (
    Inliner,
    Schema,
    as_schema,
    definitions_of,
    map_inner,
    merge,
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
_GEMINI_KEYWORDS: Final = frozenset(
    {
        *("type", "description", "title", "properties", "required", "items", "enum", "anyOf"),
        *("format", "minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength"),
        *("pattern", "nullable", "default"),
    }
)
_GEMINI_FORMATS: Final = frozenset({"enum", "date-time", "float", "double", "int32", "int64"})
_NOT_AT_ROOT: Final = frozenset(
    {"anyOf", "oneOf", "allOf", "enum", "const", "not", "if", "then", "else", "$ref"}
)
"""OpenAI refuses these at the root of a function's parameters."""


def to_parameters(schema: object, dialect: str) -> Schema:
    """Convert a tool's input schema into a function's parameters; *schema* is not changed."""
    root = _object_at_root(as_schema(schema))
    if dialect == "gemini":
        root = as_schema(Inliner(definitions_of(root)).inline(root))
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
    """Resolve a reference at the root and merge its alternatives to one object."""
    definitions = definitions_of(whole)
    root = {**target_of(whole, definitions), **whole}
    for keyword, all_hold in (("allOf", True), ("anyOf", False), ("oneOf", False)):
        branches = root.get(keyword)
        if isinstance(branches, list):
            resolved = [{**target_of(each, definitions), **as_schema(each)} for each in branches]
            root = merge(root, resolved, all_hold=all_hold)
    rest = {key: value for key, value in root.items() if key not in _NOT_AT_ROOT}
    return {**rest, "type": "object"}


def _converted(schema: object, dialect: str) -> object:
    if not isinstance(schema, dict):
        # `true` and `false` are schemas, but some providers refuse them.
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
    """Add the type that was next to anyOf to *branch*, unless it has its own."""
    if not isinstance(branch, dict) or not branch.keys().isdisjoint({"type", "anyOf", "$ref"}):
        return branch
    return {"type": kind, **branch}


def _gemini(schema: Schema) -> Schema:
    """
    Convert a node to Google's selection of OpenAPI 3.0.

    One type and `nullable`, enums of strings, `anyOf` alone in its node, nothing about additional
    or conditional properties (ai.google.dev, function calling; refusals collected in
    theopenco/llmgateway#1763 and router-for-me/CLIProxyAPI#97).
    """
    node = without_one_of(schema)
    if "const" in node:
        node["enum"] = [node["const"]]
    _split_types(node)
    _only_text_enums(node)
    form = node.pop("format", None)
    if isinstance(form, str) and form in _GEMINI_FORMATS:
        node["format"] = form
    _complete_array(node)
    _complete_object(node)
    accepted = {key: value for key, value in node.items() if key in _GEMINI_KEYWORDS}
    return _alternatives_alone(accepted)


def _split_types(node: Schema) -> None:
    """Replace a list of types by one type or alternatives, and null by `nullable`."""
    kinds = node.get("type")
    if kinds == "null":
        kinds = ["null", "string"]
    if not isinstance(kinds, list):
        return
    del node["type"]
    real = [kind for kind in kinds if kind != "null"]
    if len(real) < len(kinds):
        node["nullable"] = True
    if len(real) == 1:
        node["type"] = real[0]
    elif real and "anyOf" not in node:
        node["anyOf"] = [{"type": kind} for kind in real]


def _only_text_enums(node: Schema) -> None:
    """Keep enums of strings, the only ones that Google accepts."""
    values = node.pop("enum", None)
    texts = names_of(values)
    if texts and node.get("type", "string") == "string":
        node["type"], node["enum"] = "string", texts


def _complete_array(node: Schema) -> None:
    """Add `items`, which is required."""
    if node.get("type") != "array" or isinstance(node.get("items"), dict):
        return
    tuple_items = node.get("prefixItems", node.get("items"))
    several = isinstance(tuple_items, list) and tuple_items
    node["items"] = {"anyOf": tuple_items} if several else {"type": "string"}


def _complete_object(node: Schema) -> None:
    """Drop empty `properties`, and names in `required` without a property."""
    properties = as_schema(node.pop("properties", None))
    required = [name for name in names_of(node.pop("required", None)) if name in properties]
    if properties:
        node["type"], node["properties"] = "object", properties
    if required:
        node["required"] = required


def _alternatives_alone(node: Schema) -> Schema:
    """
    Reduce a node with alternatives to them.

    "When using any_of, it must be the only field set"; null becomes `nullable`.
    """
    branches = node.get("anyOf")
    if not isinstance(branches, list):
        return {key: value for key, value in node.items() if key != "anyOf"}
    real: list[Any] = [each for each in branches if as_schema(each).get("type") != "null"]
    if "properties" in node or not real:
        return {key: value for key, value in node.items() if key != "anyOf"}
    nullable = {"nullable": True} if len(real) < len(branches) or node.get("nullable") else {}
    described = {"description": node["description"]} if "description" in node else {}
    if len(real) == 1:
        return {**described, **_gemini({**as_schema(real[0])}), **nullable}
    return {"anyOf": [{**described, **as_schema(each), **nullable} for each in real]}


_NODE: Final = {
    "plain": _plain,
    "no_meta": _no_meta,
    "bare": _bare,
    "gemini": _gemini,
    "kimi": _kimi,
}

"""
One node of a JSON schema as Google's OpenAI layer takes it.

It is OpenAPI 3.0 in Google's selection (ai.google.dev, function calling; refusals collected in
theopenco/llmgateway#1763 and router-for-me/CLIProxyAPI#97): one type and `nullable`, enums of
texts, `anyOf` alone in its node, nothing about additional or conditional properties.
"""

from __future__ import annotations

from typing import Any, Final

from ccproxy.convert.common.schema_tree import Schema, as_schema, names_of, without_one_of

_KEPT: Final = frozenset(
    {
        *("type", "description", "title", "properties", "required", "items", "enum", "anyOf"),
        *("format", "minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength"),
        *("pattern", "nullable", "default"),
    }
)
_FORMATS: Final = frozenset({"enum", "date-time", "float", "double", "int32", "int64"})


def gemini_node(schema: Schema) -> Schema:
    """Convert the node itself; the schemas inside it are converted one by one."""
    node = without_one_of(schema)
    if "const" in node:
        node["enum"] = [node["const"]]
    _split_types(node)
    _only_text_enums(node)
    form = node.pop("format", None)
    if isinstance(form, str) and form in _FORMATS:
        node["format"] = form
    _complete_array(node)
    _complete_object(node)
    kept = {key: value for key, value in node.items() if key in _KEPT}
    return _alternatives_alone(kept)


def _split_types(node: Schema) -> None:
    """Turn a list of types into one type or alternatives, and null into `nullable`."""
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
    """Keep an enum of texts; Google's enums are nothing else."""
    values = node.pop("enum", None)
    texts = names_of(values)
    if texts and node.get("type", "string") == "string":
        node["type"], node["enum"] = "string", texts


def _complete_array(node: Schema) -> None:
    """Say what is in an array, which is required."""
    if node.get("type") != "array" or isinstance(node.get("items"), dict):
        return
    tuple_items = node.get("prefixItems", node.get("items"))
    several = isinstance(tuple_items, list) and tuple_items
    node["items"] = {"anyOf": tuple_items} if several else {"type": "string"}


def _complete_object(node: Schema) -> None:
    """Keep `properties` and `required` only where they say something and agree."""
    properties = as_schema(node.pop("properties", None))
    required = [name for name in names_of(node.pop("required", None)) if name in properties]
    if properties:
        node["type"], node["properties"] = "object", properties
    if required:
        node["required"] = required


def _alternatives_alone(node: Schema) -> Schema:
    """
    Reduce a node with alternatives to them.

    "When using any_of, it must be the only field set"; null is no alternative but `nullable`.
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
        return {**described, **gemini_node({**as_schema(real[0])}), **nullable}
    return {"anyOf": [{**described, **as_schema(each), **nullable} for each in real]}

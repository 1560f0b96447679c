"""
The structure of JSON schemas: subschemas, alternatives and references.

Only the position distinguishes a keyword from a property's name. `map_inner` visits subschemas and
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Schema = dict[str, Any]

MAPS: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords whose value maps names to schemas."""
LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
"""Keywords whose value is a list of schemas (`items` in older drafts)."""
SINGLES: Final = frozenset(
    {
        *("items", "additionalProperties", "propertyNames", "contains", "not", "if", "then"),
        *("else", "additionalItems", "unevaluatedItems", "unevaluatedProperties"),
    }
)
"""Keywords whose value is one schema."""

_MOST_REFERENCES: Final = 500
"""References that are inlined; a schema with more would grow without bound."""

_ANYTHING: Final = {"type": "object"}


def map_inner(schema: Schema, change: Callable[[object], object]) -> Schema:
    """Return *schema* with *change* applied to every schema directly inside it."""
    changed: Schema = {}
    for keyword, value in schema.items():
        if keyword in MAPS and isinstance(value, dict):
            changed[keyword] = {name: change(inner) for name, inner in value.items()}
        elif keyword in LISTS and isinstance(value, list):
            changed[keyword] = [change(inner) for inner in value]
        elif keyword in SINGLES and isinstance(value, dict):
            changed[keyword] = change(value)
        else:
            changed[keyword] = value
    return changed


def as_schema(value: object) -> Schema:
    """Return *value* if it is an object, else an empty schema."""
    return value if isinstance(value, dict) else {}


def names_of(value: object) -> list[str]:
    """Return the names in a `required` list."""
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def merge(whole: Schema, branches: list[Schema], *, all_hold: bool) -> Schema:
    """
    Merge the properties of *branches* into *whole*, whose own take precedence.

    A property is required if every branch requires it, or any if all branches apply (allOf).
    """
    properties: Schema = {}
    for branch in branches:
        properties |= as_schema(branch.get("properties"))
    properties |= as_schema(whole.get("properties"))
    lists = [set(names_of(branch.get("required"))) for branch in branches]
    required_names = set.union(set(), *lists) if all_hold or not lists else set.intersection(*lists)
    required = names_of(whole.get("required"))
    required += [name for name in properties if name in required_names and name not in required]
    result = {**whole, "properties": properties}
    return {**result, "required": required} if required else result


def without_one_of(schema: Schema) -> Schema:
    """Replace oneOf by anyOf, and allOf by one merged schema."""
    node = dict(schema)
    one_of = node.pop("oneOf", None)
    if isinstance(one_of, list) and "anyOf" not in node:
        node["anyOf"] = one_of
    all_of = node.pop("allOf", None)
    branches = [as_schema(each) for each in all_of] if isinstance(all_of, list) else []
    for branch in branches:
        node = {**branch, **node}
    if any("properties" in branch for branch in branches):
        node = merge(node, branches, all_hold=True)
    return node


def definitions_of(root: Schema) -> Schema:
    """Return the definitions in *root* by reference."""
    return {
        f"#/{keyword}/{name}": schema
        for keyword in ("definitions", "$defs")
        for name, schema in as_schema(root.get(keyword)).items()
    }


def target_of(schema: object, definitions: Mapping[str, Any]) -> Schema:
    """Return the schema that *schema* refers to, an empty one if there is none."""
    reference = as_schema(schema).get("$ref")
    return as_schema(definitions.get(reference)) if isinstance(reference, str) else {}


class Inliner:
    """Replaces references by their targets, a recursive one by an object without properties."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._left = _MOST_REFERENCES

    def inline(self, schema: object, *, path: frozenset[str] = frozenset()) -> object:
        """Return *schema* without references; `path` holds those that lead to it."""
        if not isinstance(schema, dict):
            return schema
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return map_inner(schema, lambda inner: self.inline(inner, path=path))
        self._left -= 1
        if reference in path or self._left < 0:
            return dict(_ANYTHING)
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        target = {**target_of(schema, self._definitions), **rest}
        return self.inline(target, path=path | {reference})

"""
The structure of a JSON schema: where the schemas inside it stand, and what references mean.

A keyword is told from a property's name by its place only. Whoever walks a schema through
`map_inner` sees schemas and nothing else.
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
"""So many references are written out; a schema with more would grow beyond any use."""

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
    """Return *value* if it is an object; `true`, null and nonsense say nothing."""
    return value if isinstance(value, dict) else {}


def names_of(value: object) -> list[str]:
    """Return the names in a `required` list."""
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


# Alternatives...


def merged(whole: Schema, branches: list[Schema], *, all_hold: bool) -> Schema:
    """
    Unite the properties of *branches* in *whole*, whose own go first.

    Required is what every branch requires, or any if all of them hold at once (allOf).
    """
    properties: Schema = {}
    for branch in branches:
        properties |= as_schema(branch.get("properties"))
    properties |= as_schema(whole.get("properties"))
    lists = [set(names_of(branch.get("required"))) for branch in branches]
    needed = set.union(set(), *lists) if all_hold or not lists else set.intersection(*lists)
    required = names_of(whole.get("required"))
    required += [name for name in properties if name in needed and name not in required]
    united = {**whole, "properties": properties}
    return {**united, "required": required} if required else united


def without_one_of(schema: Schema) -> Schema:
    """Say oneOf and allOf with what is known everywhere: anyOf, and one merged schema."""
    node = dict(schema)
    one_of = node.pop("oneOf", None)
    if isinstance(one_of, list) and "anyOf" not in node:
        node["anyOf"] = one_of
    all_of = node.pop("allOf", None)
    branches = [as_schema(each) for each in all_of] if isinstance(all_of, list) else []
    for branch in branches:
        node = {**branch, **node}
    if any("properties" in branch for branch in branches):
        node = merged(node, branches, all_hold=True)
    return node


# ...and references.


def definitions_of(root: Schema) -> Schema:
    """Return what the references in *root* may mean, by reference."""
    return {
        f"#/{keyword}/{name}": schema
        for keyword in ("definitions", "$defs")
        for name, schema in as_schema(root.get(keyword)).items()
    }


def target_of(schema: object, definitions: Mapping[str, Any]) -> Schema:
    """Return what *schema* refers to, nothing if it does not or refers to nothing."""
    reference = as_schema(schema).get("$ref")
    return as_schema(definitions.get(reference)) if isinstance(reference, str) else {}


class Inliner:
    """Writes references out; one inside its own meaning becomes "some object"."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._left = _MOST_REFERENCES

    def inlined(self, schema: object, *, inside: frozenset[str] = frozenset()) -> object:
        """Return *schema* without references; `inside` are those that lead to it."""
        if not isinstance(schema, dict):
            return schema
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return map_inner(schema, lambda inner: self.inlined(inner, inside=inside))
        self._left -= 1
        if reference in inside or self._left < 0:
            return dict(_ANYTHING)
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        meant = {**target_of(schema, self._definitions), **rest}
        return self.inlined(meant, inside=inside | {reference})

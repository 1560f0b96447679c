"""
JSON schemas of tools and structured output, in the dialects that providers accept.

Rules:
    1. A tool's parameters become an object with properties (OpenAI: "schema must be a JSON Schema
       of type object"); alternatives at the root are merged into one object.
    2. A name is removed only where it is a keyword: a property named `$schema` or `const` is kept.
    3. Constraints that a dialect cannot express are relaxed, never tightened: the model may send
       input that the tool refuses, but all valid input remains possible.

The dialects (`Quirks.schema`):
    plain    everything except `$schema`
    no_meta  without `$id`, `$schema`, `strict` and the like (Mistral)
    bare     the keywords that every implementation supports (Cerebras, Groq)
    gemini   Google's selection of OpenAPI 3.0, see `_gemini`
    kimi     Moonshot's MFJS, see `_kimi`
    inline   without references, which GLM 5.3 ignores
    grammar  the subset that llama.cpp (LM Studio, Ollama) compiles to a grammar, see `_grammar`
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from msgspec import Raw

from ccproxy.protocol.literals import ANY_JSON, is_object, read
from ccproxy.protocol.messages import MessagesRequest, OutputFormat

Schema = dict[str, Any]

MAPS: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords with a value that maps names to schemas."""
LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
"""Keywords with a list of schemas as their value (`items` in older drafts)."""
SINGLES: Final = frozenset(
    {
        *("items", "additionalProperties", "propertyNames", "contains", "not", "if", "then"),
        *("else", "additionalItems", "unevaluatedItems", "unevaluatedProperties"),
    }
)
"""Keywords with one schema as their value."""

_MOST_INLINED: Final = 1024 * 1024
"""Maximum bytes of JSON added by inlined references; nested ones could grow without bound."""

_ANYTHING: Final = {"type": "object"}

_META: Final = frozenset({"$schema"})
_MORE_META: Final = _META | {"$id", "$anchor", "$comment", "$vocabulary", "strict", "id"}
_BARE: Final = frozenset(
    {
        *("type", "description", "title", "properties", "required", "items", "enum", "anyOf"),
        *("additionalProperties", "$ref", "$defs", "definitions", "default", "const"),
    }
)
_DEFINITIONS: Final = frozenset({"$schema", "$defs", "definitions"})
_CONDITIONS: Final = frozenset({"if", "then", "else", "not"})
_NOT_IN_GRAMMAR: Final = frozenset({"pattern", "patternProperties", "propertyNames"})
_LARGEST_REPETITION: Final = 1_000
_LARGEST_NUMBER: Final = 2**53
_DEFAULT_TYPE: Final = "string"
_TYPE_NAMES: Final[dict[type, str]] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
    type(None): "null",
}
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
    if dialect in ("gemini", "inline"):
        root = as_schema(Inliner(definitions_of(root)).inline(root))
    elif dialect in ("grammar", "kimi"):
        root = as_schema(_without_dead_references(root, root))
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
            root = merge(root, resolved, all_hold=all_hold)
    return {**_without(_NOT_AT_ROOT, root), "type": "object"}


def _converted(schema: object, dialect: str) -> object:
    if not isinstance(schema, dict):
        # `true` and `false` are schemas, but some providers refuse them.
        if dialect == "kimi":
            return {"type": _DEFAULT_TYPE}
        return {} if dialect in ("gemini", "bare", "grammar") else schema
    return map_inner(_NODE[dialect](schema), lambda inner: _converted(inner, dialect))


def _without(keywords: Collection[str], schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key not in keywords}


def _bare(schema: Schema) -> Schema:
    return {key: value for key, value in without_one_of(schema).items() if key in _BARE}


def _kimi(schema: Schema) -> Schema:
    """
    Convert a node to Moonshot's MFJS.

    Every node has a type, except next to `anyOf`; tuples are in `prefixItems`; `required` names
    properties of the same node; boolean schemas and conditions are refused (vercel/ai#18921,
    MoonshotAI/kimi-cli#2030, can1357/oh-my-pi#5980). A node without any hint becomes a string, as
    in the vendor's own client.
    """
    node = without_one_of(_without(_META | _CONDITIONS, schema))
    if node.get("additionalProperties") == {}:
        node["additionalProperties"] = True
    if isinstance(node.get("items"), list):
        node["prefixItems"] = node.pop("items")
    if isinstance(node.get("items"), bool):
        del node["items"]
    properties = as_schema(node.get("properties"))
    if "required" in node:
        node["required"] = [name for name in names_of(node["required"]) if name in properties]
    branches = node.get("anyOf")
    if isinstance(branches, list):
        kind = node.pop("type", None)
        node["anyOf"] = [_of_type(kind, each) for each in branches] if kind else branches
    elif "type" not in node and "$ref" not in node:
        node["type"] = _inferred_type(node)
    return node


def _inferred_type(node: Schema) -> str | list[str]:
    """Return the type that the keywords of *node* imply."""
    if not node.keys().isdisjoint(("properties", "additionalProperties", "required")):
        return "object"
    if not node.keys().isdisjoint(("items", "prefixItems", "minItems", "maxItems")):
        return "array"
    values = node["enum"] if isinstance(node.get("enum"), list) else []
    values = [node["const"]] if "const" in node else values
    kinds = list(dict.fromkeys(_TYPE_NAMES.get(type(value), _DEFAULT_TYPE) for value in values))
    if not kinds:
        is_number = not node.keys().isdisjoint(("minimum", "maximum", "multipleOf"))
        return "number" if is_number else _DEFAULT_TYPE
    return kinds[0] if len(kinds) == 1 else kinds


def _grammar(schema: Schema) -> Schema:
    """
    Remove keywords for which llama.cpp's grammar compiler refuses the whole request.

    These are unanchored patterns (ggml-org/llama.cpp, json-schema-to-grammar); large bounds, which
    become repetitions in the grammar; empty lists of values or alternatives; and boolean `items`.
    """
    node = _without(_MORE_META | _NOT_IN_GRAMMAR, schema)
    for key in ("enum", "anyOf", "oneOf", "allOf", "type"):
        if node.get(key) == []:
            del node[key]
    for key in ("minLength", "maxLength", "minItems", "maxItems"):
        bound = node.get(key)
        if not isinstance(bound, int) or bound > _LARGEST_REPETITION:
            node.pop(key, None)
    for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        bound = node.get(key)
        if not isinstance(bound, (int, float)) or abs(bound) > _LARGEST_NUMBER:
            node.pop(key, None)
    if isinstance(node.get("items"), bool):
        del node["items"]
    return node


def _without_dead_references(schema: object, root: Schema) -> object:
    """Replace external and unresolvable references with a schema that allows anything."""
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str) and not _resolves(reference, root):
        schema = _without({"$ref"}, schema)
    return map_inner(schema, lambda inner: _without_dead_references(inner, root))


def _resolves(reference: str, root: Schema) -> bool:
    """Return True if *reference* is a JSON pointer to a schema in *root* (RFC 6901)."""
    if not reference.startswith("#/"):
        return False
    value: object = root
    for step in reference[2:].split("/"):
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and key.isdecimal() and len(key) < 6 and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            return False
    return isinstance(value, dict)


def _of_type(kind: object, branch: object) -> object:
    """Add the type that was next to anyOf to *branch*, unless it has its own."""
    if not isinstance(branch, dict) or not branch.keys().isdisjoint({"type", "anyOf", "$ref"}):
        return branch
    return {"type": kind, **branch}


def _gemini(schema: Schema) -> Schema:
    """
    Convert a node to Google's selection of OpenAPI 3.0.

    A node has one type and `nullable`, enums contain only strings, `anyOf` is alone in its node,
    and there are no additional or conditional properties (ai.google.dev, function calling; refusals
    collected in theopenco/llmgateway#1763 and router-for-me/CLIProxyAPI#97).
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
    """Replace a list of types with one type or alternatives, and null with `nullable`."""
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
    """Remove enums that are not enums of strings, because Google refuses them."""
    values = node.pop("enum", None)
    texts = names_of(values)
    if texts and node.get("type", "string") == "string":
        node["type"], node["enum"] = "string", texts


def _complete_array(node: Schema) -> None:
    """Add the keyword `items`, which Google requires."""
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
    Reduce a node with alternatives to its alternatives.

    "When using any_of, it must be the only field set"; null becomes `nullable`.
    """
    branches = node.get("anyOf")
    if not isinstance(branches, list):
        return _without({"anyOf"}, node)
    real: list[Any] = [each for each in branches if as_schema(each).get("type") != "null"]
    if "properties" in node or not real:
        return _without({"anyOf"}, node)
    nullable = {"nullable": True} if len(real) < len(branches) or node.get("nullable") else {}
    described = {"description": node["description"]} if "description" in node else {}
    if len(real) == 1:
        return {**described, **_gemini({**as_schema(real[0])}), **nullable}
    return {"anyOf": [{**described, **as_schema(each), **nullable} for each in real]}


_NODE: Final[Mapping[str, Callable[[Schema], Schema]]] = {
    "plain": partial(_without, _META),
    "no_meta": partial(_without, _MORE_META),
    "bare": _bare,
    "gemini": _gemini,
    "kimi": _kimi,
    "inline": partial(_without, _DEFINITIONS),
    "grammar": _grammar,
}


# The structure of schemas: subschemas, alternatives and references. Only its position distinguishes
# a keyword from a property name.


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
    Merge the properties of *branches* into *whole*; its own properties take precedence.

    A property is required if every branch requires it or, with *all_hold* (allOf), if any does.
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
    """Replace oneOf with anyOf, and allOf with one merged schema."""
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
    """Return the definitions in *root*, keyed by reference."""
    return {
        f"#/{keyword}/{name}": schema
        for keyword in ("definitions", "$defs")
        for name, schema in as_schema(root.get(keyword)).items()
    }


def target_of(schema: object, definitions: Mapping[str, Any]) -> Schema:
    """Return the schema that *schema* refers to, or an empty one."""
    reference = as_schema(schema).get("$ref")
    return as_schema(definitions.get(reference)) if isinstance(reference, str) else {}


class Inliner:
    """Replaces references with their targets, and recursive ones with an unrestricted object."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._sizes: dict[str, int] = {}
        self._left = _MOST_INLINED

    def inline(self, schema: object, *, path: frozenset[str] = frozenset()) -> object:
        """Return *schema* without references; *path* contains the references that lead to it."""
        if not isinstance(schema, dict):
            return schema
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return map_inner(schema, lambda inner: self.inline(inner, path=path))
        target = target_of(schema, self._definitions)
        if reference not in self._sizes:
            self._sizes[reference] = len(msgspec.json.encode(target))
        self._left -= self._sizes[reference]
        if reference in path or self._left < 0:
            return dict(_ANYTHING)
        merged = {**target, **_without({"$ref"}, schema)}
        return self.inline(merged, path=path | {reference})


# Structured output.

_FORMAT_NAME: Final = "answer"
"""Name of the schema; providers' APIs require one, the Messages API has none."""


def requested_format(request: MessagesRequest) -> OutputFormat | None:
    """Return the JSON schema format of *request*; `output_format` is the older field."""
    config = request.output_config
    chosen = (config and config.format) or request.output_format
    return chosen if chosen and chosen.type == "json_schema" and is_object(chosen.schema) else None


def format_instruction(schema: Raw) -> str:
    """Return a prompt instruction that requests JSON matching *schema*."""
    return (
        "Answer with one JSON object and nothing else: no prose, no code fence. "
        f"It must match this JSON schema:\n{str(memoryview(schema), 'utf-8')}"
    )


def named_schema(requested: OutputFormat) -> dict[str, Any]:
    """Return the name, the schema, and `strict` if the schema meets OpenAI's rules for it."""
    schema = requested.schema
    strict = {"strict": True} if _is_closed(read(ANY_JSON, schema, "output_config")) else {}
    return {"name": _FORMAT_NAME, "schema": schema, **strict}


def _is_closed(schema: object) -> bool:
    """Return True if every object in *schema* is closed and requires all of its properties."""
    if isinstance(schema, list):
        return all(_is_closed(each) for each in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict):
        required = schema.get("required")
        if schema.get("additionalProperties") is not False or not isinstance(required, list):
            return False
        names = {name for name in required if isinstance(name, str)}
        if not names.issuperset(properties):
            return False
    elif schema.get("type") == "object":
        return False
    return all(_is_closed(inner) for inner in schema.values())

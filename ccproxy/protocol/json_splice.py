"""
Replacement and removal of fields of a JSON object; all other bytes are preserved.

A pattern finds the candidates for a key but not their depth. Every candidate's value is therefore
replaced by a numbered marker, and the object is decoded once: the marker at the field's path
identifies the right candidate.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

import msgspec
from msgspec import Raw

STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
"""Pattern of JSON strings; possessive, because backtracking needs 120 times their memory."""
SCALAR: Final = rb"(?:%b|-?[0-9][0-9.eE+-]*|true|false|null)" % STRING
"""Pattern of JSON strings, numbers, booleans and null."""
_VALUE = rb"\s*:\s*(%b)" % SCALAR
_MARKER = b'"\\u0000ccproxy %d"'

NOT_JSON: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""Exceptions that decoding raises if data is not JSON, too deeply nested or of the wrong type."""

_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_DECODED_OBJECT = msgspec.json.Decoder(dict[str, Any])


def fields_of(body: bytes | Raw) -> dict[str, Raw] | None:
    """Return the undecoded fields of the object *body*, or None if it is not an object."""
    try:
        return _OBJECT.decode(body)
    except NOT_JSON:
        return None


def object_of(data: bytes | str) -> dict[str, Any] | None:
    """Return the decoded object *data*, or None if it is not an object."""
    try:
        return _DECODED_OBJECT.decode(data)
    except NOT_JSON:
        return None


def replace_value(body: bytes, path: tuple[str, ...], value: bytes) -> bytes:
    """
    Return *body* with the scalar at *path* replaced by the JSON *value*.

    *body* is returned unchanged if the field is missing or is an object or a list.
    """
    key = re.compile(b'"' + re.escape(path[-1].encode()) + b'"' + _VALUE)
    spans = {_MARKER % number: match.span(1) for number, match in enumerate(key.finditer(body))}
    marked: list[bytes] = []
    position = 0
    for marker, (start, end) in spans.items():
        marked += body[position:start], marker
        position = end
    marked.append(body[position:])
    span = spans.get(_value_at(b"".join(marked), path) or b"") if spans else None
    return body if span is None else body[: span[0]] + value + body[span[1] :]


def without_fields(body: bytes, names: Collection[str]) -> bytes:
    """Return the object *body* without the fields *names*; other values keep their bytes."""
    fields = fields_of(body)
    if fields is None or not any(name in fields for name in names):
        return body
    return msgspec.json.encode({name: raw for name, raw in fields.items() if name not in names})


def _value_at(body: bytes, path: tuple[str, ...]) -> bytes | None:
    value: bytes | Raw = body
    for name in path:
        fields = fields_of(value)
        if fields is None or name not in fields:
            return None
        value = fields[name]
    return bytes(value)

"""
Exchanging one value of a JSON object without_fields touching any other byte of it.

Whether a key that was found in the text is a key of the object itself, and not of something deep
inside it, is not scanned for but tried: a mark is put in its place, and a decoder is asked whether
the object's field is the mark now.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec
from msgspec import Raw

SCALAR = rb'(?:"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null)'
"""A pattern of JSON's strings, numbers and words."""
_VALUE = rb"\s*:\s*(%b)" % SCALAR
_MARK = b'"\\u0000ccproxy"'

_OBJECT = msgspec.json.Decoder(dict[str, Raw])


def fields_of(body: bytes | Raw) -> dict[str, Raw] | None:
    """Return the fields of the object *body* undecoded, None if it is not an object."""
    try:
        return _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def replace_value(body: bytes, path: tuple[str, ...], value: bytes) -> bytes:
    """
    Return *body* with the scalar at *path* exchanged for the JSON *value*.

    Without such a field, or where it holds an object or a list, *body* comes back as it was.
    """
    key = re.compile(b'"' + re.escape(path[-1].encode()) + b'"' + _VALUE)
    for found in key.finditer(body):
        before, after = body[: found.start(1)], body[found.end(1) :]
        if _at(before + _MARK + after, path) == _MARK:
            return before + value + after
    return body


def without_fields(body: bytes, names: Collection[str]) -> bytes:
    """Return the object *body* without the fields *names*; the other values keep their bytes."""
    fields = fields_of(body)
    if fields is None or not any(name in fields for name in names):
        return body
    kept = (
        b"%b:%b" % (msgspec.json.encode(name), raw)
        for name, raw in fields.items()
        if name not in names
    )
    return b"{" + b",".join(kept) + b"}"


def _at(body: bytes, path: tuple[str, ...]) -> bytes | None:
    value: bytes | Raw = body
    for name in path:
        fields = fields_of(value)
        if fields is None or name not in fields:
            return None
        value = fields[name]
    return bytes(value)

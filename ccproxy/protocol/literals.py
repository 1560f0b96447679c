"""
JSON literals that are copied without being decoded.

Most of a conversation is text that conversion does not need to interpret. Its JSON literals are
copied from the client's bytes into the provider's. `msgspec.Raw` holds a view of a literal; the
functions here test its first byte, join literals and add text around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import Raw

from ccproxy.errors import Problem

Decoded = TypeVar("Decoded")

ABSENT = Raw(b"")
"""The value of a field that the client omitted."""
EMPTY = Raw(b'""')
TRUE = Raw(b"true")
_NULL = Raw(b"null")
_NO_ARGUMENTS = Raw(b'"{}"')

QUOTE, BRACE, BRACKET = b'"{['
"""The first bytes of a string, an object and a list."""

_NAMES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "array": "list",
    "object": "dictionary",
}
"""msgspec's type names -> type names in the Messages API's error messages."""

ANY_JSON = msgspec.json.Decoder()
_STRING = msgspec.json.Decoder(str)
_encode = msgspec.json.Encoder().encode


def is_present(raw: Raw) -> bool:
    """Return True if there is a value other than null."""
    return raw is not ABSENT and raw != _NULL


def is_string(raw: Raw) -> bool:
    """Return True if the value is a string."""
    return raw is not ABSENT and memoryview(raw)[0] == QUOTE


def is_object(raw: Raw) -> bool:
    """Return True if the value is an object."""
    return raw is not ABSENT and memoryview(raw)[0] == BRACE


def text_of(raw: Raw) -> str:
    """Decode a string; any other value, including an absent one, becomes ""."""
    return _STRING.decode(raw) if is_string(raw) else ""


def literal(text: str) -> Raw:
    """Encode *text*, which must not contain lone surrogates."""
    return Raw(_encode(text))


def join_literals(separator: str, literals: Sequence[Raw]) -> Raw:
    """Join string literals; *separator* must already be escaped for JSON."""
    if len(literals) == 1:
        return literals[0]
    inner = separator.encode().join([memoryview(each)[1:-1] for each in literals])
    return Raw(b'"%b"' % inner)


def wrap_literal(before: str, raw: Raw, after: str = "") -> Raw:
    """Add text around a string literal; both strings must already be escaped for JSON."""
    return Raw(b"".join((b'"', before.encode(), memoryview(raw)[1:-1], after.encode(), b'"')))


def to_arguments(raw: Raw) -> Raw:
    """Return an object as a string that contains its JSON; other values become "{}"."""
    text = str(raw, "utf-8")
    return Raw(_encode(text)) if text[:1] == "{" else _NO_ARGUMENTS


def read(decoder: msgspec.json.Decoder[Decoded], raw: Raw | bytes, *path: str | int) -> Decoded:
    """
    Decode the value at *path* in the request.

    Raises:
        Problem: With the Messages API's wording, `messages.0.role: Input should be …`.
    """
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        complaint, inner_path = _complaint(str(error))
        raise invalid_request(complaint, *path, inner_path) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid_request(f"The request body is not valid JSON: {error}", *path) from error
    except RecursionError as error:
        raise invalid_request("The JSON is nested too deeply", *path) from error


def required_string(raw: Raw, field: str) -> Raw:
    """Return *raw* if it is a string, else raise a Problem about *field*."""
    if is_string(raw):
        return raw
    raise invalid_request(
        "Input should be a valid string" if is_present(raw) else "Field required", field
    )


def invalid_request(text: str, *path: str | int) -> Problem:
    """Return the error about the value at *path*; without a path, about the whole body."""
    where = ".".join(str(step) for step in path if step != "")
    return Problem("invalid_request_error", f"{where}: {text}" if where else text)


def with_path(problem: Problem, *path: str | int) -> Problem:
    """Return *problem* with its path prefixed by *path*."""
    return Problem(problem.kind, f"{'.'.join(map(str, path))}.{problem.message}")


def _complaint(message: str) -> tuple[str, str]:
    """Split msgspec's "Expected `int`, got `str` - at `$.a[0].b`" into the API's text and path."""
    complaint, _, location = message.partition(" - at `$")
    path = location.rstrip("`").replace("[", ".").replace("]", "").strip(".")
    if complaint.startswith("Object missing required field `"):
        field = complaint.split("`")[1]
        return "Field required", f"{path}.{field}" if path else field
    if complaint.startswith("Expected `"):
        expected = complaint.split("`")[1].removesuffix(" | null")
        return f"Input should be a valid {_NAMES.get(expected, expected)}", path
    return complaint, path

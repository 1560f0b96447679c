"""
Read the scalar fields at both ends of a Messages body without decoding the conversation.

Clients write the model first, and the other scalars directly after it or last. Decoding 148 KB for
three scalars would be most of the cost of direct mode, so the ends are tried first.

Rules:
    1. For valid JSON without repeated keys, the result equals that of a decoder, or is None if the
       whole body must be decoded.
    2. A body that is invalid in the middle is not detected; the provider refuses it.

Every key found this way belongs to the outermost object: the head is a run of scalars after the
opening brace, and decoding the tail as an object fails unless the last brace closes it.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from ccproxy.protocol.json_splice import NOT_JSON, SCALAR

_LONGEST: Final = 16 * 1024
"""The size of each end in bytes; fields such as thinking and metadata follow max_tokens."""

_MEMBER = rb'\s*"\w+"\s*:\s*%b\s*' % SCALAR
_BEGINNING = re.compile(rb"\s*\{%b(?=,)(?:,%b(?=,))*" % (_MEMBER, _MEMBER))


class Head(msgspec.Struct):
    """The fields of a request that direct mode reads."""

    model: str
    stream: bool | None = None
    max_tokens: int | None = None


_FIELDS = msgspec.json.Decoder(dict[str, object])
_HEAD = msgspec.json.Decoder(Head)


def head_of(body: bytes) -> Head:
    """
    Decode all of *body*.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: If it is not a Messages request.
    """
    return _HEAD.decode(body)


def head_at_ends(body: bytes) -> Head | None:
    """Return the fields at the ends of *body*, or None if any of them is missing there."""
    start = _BEGINNING.match(body, 0, _LONGEST)
    if start is None:
        return None
    try:
        fields = _FIELDS.decode(start[0] + b"}")
        for name in ("max_tokens", "stream"):
            if name not in fields:
                fields |= _from(body, name)
        return msgspec.convert(fields, Head)
    except (*NOT_JSON, ValueError):
        return None


def _from(body: bytes, name: str) -> dict[str, object]:
    """
    Return the last fields of *body*, starting with *name*.

    Raises:
        ValueError: If *name* is not near the end of *body*.
        msgspec.DecodeError: If the remaining bytes are not the end of the object.
    """
    at = body.rindex(b'"%b"' % name.encode(), max(0, len(body) - _LONGEST))
    return _FIELDS.decode(b"{" + body[at:])

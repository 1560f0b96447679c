"""
What a Messages body says at its two ends, without a look at the conversation between them.

Clients write the model first, and the switches behind it or last. Decoding 148 KB for three scalars
is most of what direct mode costs, so the ends are tried before.

Rules:
    1. Of a body that is JSON and names nothing twice, what is found is what a decoder finds; None:
       ask a decoder.
    2. A body that is broken in its middle is left to the provider, who refuses it.

How it is known that a key is one of the object's own: the beginning is a run of scalars behind its
brace; the end, from a key on, is decoded as an object by itself, which fails unless it is the very
last brace that closes it.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from ccproxy.protocol.json_splice import SCALAR

_LONGEST: Final = 16 * 1024
"""Bytes of an end; behind max_tokens stand thinking, metadata and the like."""

_MEMBER = rb'\s*"\w+"\s*:\s*%b\s*' % SCALAR
_BEGINNING = re.compile(rb"\s*\{%b(?=,)(?:,%b(?=,))*" % (_MEMBER, _MEMBER))


class Head(msgspec.Struct):
    """What direct mode must know of a request."""

    model: str
    stream: bool | None = None
    max_tokens: int | None = None


_FIELDS = msgspec.json.Decoder(dict[str, object])
_HEAD = msgspec.json.Decoder(Head)


def head_of(body: bytes) -> Head:
    """
    Decode all of *body*.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: If it is no Messages request.

    """
    return _HEAD.decode(body)


def head_at_ends(body: bytes) -> Head | None:
    """Return what the ends of *body* say, None if they do not say all of it."""
    begun = _BEGINNING.match(body, 0, _LONGEST)
    if begun is None:
        return None
    try:
        known = _FIELDS.decode(begun[0] + b"}")
        for name in ("max_tokens", "stream"):
            if name not in known:
                known |= _from(body, name)
        return msgspec.convert(known, Head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return None


def _from(body: bytes, name: str) -> dict[str, object]:
    """
    Return the fields from *name* on.

    Raises:
        ValueError: If *name* is not found near the end.
        msgspec.DecodeError: If what begins there is not the end of the object.

    """
    at = body.rindex(b'"%b"' % name.encode(), max(0, len(body) - _LONGEST))
    return _FIELDS.decode(b"{" + body[at:])

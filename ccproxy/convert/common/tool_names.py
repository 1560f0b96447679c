"""
Tool names and tool call IDs in the form that a provider accepts.

A valid name is unchanged. An invalid one becomes a readable prefix and a hash of the whole name:
equal names stay equal (for prompt caches), and long names with the same beginning stay distinct.
The conversion of the answer maps them back with a table.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from msgspec import Raw

from ccproxy.protocol.literals import literal, text_of

_INVALID = re.compile(r"[^a-zA-Z0-9_-]")
_FITS: dict[str, Callable[[bytes], object]] = {
    "any": (b'""').__ne__,
    "forty": re.compile(rb'".{1,40}"', re.DOTALL).fullmatch,
    "nine": re.compile(rb'"[a-zA-Z0-9]{9}"').fullmatch,
    "functions": (b'""').__ne__,
    "responses": re.compile(rb'"[a-zA-Z0-9_-]{1,64}"').fullmatch,
}
_HASH_LENGTH = 8
_CACHED_NAMES = 4096
_LONGEST_CACHED = 256
"""Characters; the API accepts names of up to 128."""


def tool_name(name: str, max_length: int) -> str:
    """Return a tool's name for the provider: `[a-zA-Z0-9_-]`, at most *max_length*."""
    make_name = _cached_name if len(name) <= _LONGEST_CACHED else _make_name
    return make_name(name, max_length)


def _make_name(name: str, max_length: int) -> str:
    if name and len(name) <= max_length and not _INVALID.search(name):
        return name
    head = _INVALID.sub("_", name)[: max_length - _HASH_LENGTH - 1]
    return f"{head}_{_digest(name.encode(), _HASH_LENGTH)}"


_cached_name = lru_cache(maxsize=_CACHED_NAMES)(_make_name)


def id_literal(raw: Raw) -> bytes:
    """Return the canonical JSON literal of an ID; a value that is not a string becomes `""`."""
    data = bytes(raw)
    if b"\\" not in data and data[:1] == b'"':
        return data
    return bytes(literal(text_of(raw)))


class ToolIds:
    """
    Assigns a unique ID to every tool call of a conversation; IDs are JSON literals.

    The client's ID is used if it is new and the provider accepts it. Some providers repeat
    `call_0` in every turn, and such histories may be sent to another provider later.
    """

    def __init__(self, form: str) -> None:
        self._form = form
        self._fits = _FITS[form]
        self._used: set[bytes] = set()
        # Where the search for a free ID continues; equal IDs would otherwise cost quadratic time.
        self._repetitions: dict[bytes, int] = {}

    def assign(self, client_id: bytes, name: str = "") -> bytes:
        """Return the ID for the next call, to the tool *name*; it depends only on earlier calls."""
        if self._form == "functions":
            self._used.add(new_id := b'"functions.%b:%d"' % (name.encode(), len(self._used)))
            return new_id
        new_id = client_id
        repetition = self._repetitions.get(client_id, 0)
        while new_id in self._used or not self._fits(new_id):
            new_id = self._derive(client_id, repetition)
            repetition += 1
        self._repetitions[client_id] = repetition
        self._used.add(new_id)
        return new_id

    def reserve(self, sent_ids: Iterable[bytes]) -> None:
        """Mark IDs that were assigned in an earlier turn as used."""
        self._used.update(sent_ids)

    def _derive(self, client_id: bytes, repetition: int) -> bytes:
        digest = _digest(b"%b %d" % (client_id, repetition), 24)
        text = digest[:9] if self._form == "nine" else f"call_{digest}"
        return f'"{text}"'.encode()


def _digest(data: bytes, length: int) -> str:
    return hashlib.sha256(data).hexdigest()[:length]

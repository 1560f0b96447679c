"""
Names and ids that a provider takes, made from those that the client chose.

A name that fits stays; one that does not becomes its readable head and a hash of the whole, so
that the same name always becomes the same one (the prompt cache lives on it) and two long names
with one beginning stay apart. The answer is mapped back with the table that the request yields.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from msgspec import Raw

from ccproxy.protocol.literals import literal, text_of

_STRANGE = re.compile(r"[^a-zA-Z0-9_-]")
_FITS: dict[str, Callable[[bytes], object]] = {
    "any": (b'""').__ne__,
    "forty": re.compile(rb'".{1,40}"', re.DOTALL).fullmatch,
    "nine": re.compile(rb'"[a-zA-Z0-9]{9}"').fullmatch,
    "responses": re.compile(rb'"[a-zA-Z0-9_-]{1,64}"').fullmatch,
}
_HASH_LENGTH = 8
_NAMES_KEPT = 4096
_LONGEST_KEPT = 256
"""Characters; the API itself takes names of 128."""


def tool_name(name: str, longest: int) -> str:
    """Return the tool's name as the provider gets it: `[a-zA-Z0-9_-]`, at most *longest*."""
    made = _kept_name if len(name) <= _LONGEST_KEPT else _name
    return made(name, longest)


def _name(name: str, longest: int) -> str:
    if name and len(name) <= longest and not _STRANGE.search(name):
        return name
    head = _STRANGE.sub("_", name)[: longest - _HASH_LENGTH - 1]
    return f"{head}_{_digest(name.encode(), _HASH_LENGTH)}"


_kept_name = lru_cache(maxsize=_NAMES_KEPT)(_name)


def id_literal(raw: Raw) -> bytes:
    """Return the JSON of an id in the one form that compares; what is no string has no id."""
    said = bytes(raw)
    if b"\\" not in said and said[:1] == b'"':
        return said
    return bytes(literal(text_of(raw)))


class ToolIds:
    """
    Gives every tool call of a conversation an id that occurs once.

    A client's id is kept where the provider takes it and it is new. Some providers repeat
    `call_0` in every turn, and such histories outlive a change of the provider. Ids are JSON
    literals here.
    """

    def __init__(self, form: str) -> None:
        self._form = form
        self._fits = _FITS[form]
        self._used: set[bytes] = set()

    def take(self, client_id: bytes) -> bytes:
        """Return the id for one more call; depends on nothing but the calls so far."""
        sent, again = client_id, 0
        while sent in self._used or not self._fits(sent):
            sent = self._made(client_id, again)
            again += 1
        self._used.add(sent)
        return sent

    def know(self, sent_ids: Iterable[bytes]) -> None:
        """Note ids that were taken in an earlier turn."""
        self._used.update(sent_ids)

    def _made(self, client_id: bytes, again: int) -> bytes:
        digest = _digest(b"%b %d" % (client_id, again), 24)
        made = digest[:9] if self._form == "nine" else f"call_{digest}"
        return f'"{made}"'.encode()


def _digest(data: bytes, length: int) -> str:
    return hashlib.sha256(data).hexdigest()[:length]

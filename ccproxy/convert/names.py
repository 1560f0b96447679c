"""
Names and ids that a provider takes, made from those that the client chose.

A name that fits stays; one that does not becomes its readable head and a hash of the whole, so
that the same name always becomes the same one (the prompt cache lives on it) and two long names
with one beginning stay apart. The answer is mapped back with the table that the request yields.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

_STRANGE = re.compile(r"[^a-zA-Z0-9_-]")
_FITS = {
    "any": re.compile(r".+", re.DOTALL),
    "forty": re.compile(r".{1,40}", re.DOTALL),
    "nine": re.compile(r"[a-zA-Z0-9]{9}"),
}
_HASH_LENGTH = 8


@lru_cache(maxsize=4096)
def chat_name(name: str, longest: int) -> str:
    """Return the tool's name as the provider gets it: `[a-zA-Z0-9_-]`, at most *longest*."""
    if name and len(name) <= longest and not _STRANGE.search(name):
        return name
    head = _STRANGE.sub("_", name)[: longest - _HASH_LENGTH - 1]
    return f"{head}_{_digest(name, _HASH_LENGTH)}"


class ToolIds:
    """
    Gives every tool call of a conversation an id that occurs once.

    A client's id is kept where the provider takes it and it is new. Some providers repeat
    `call_0` in every turn, and such histories outlive a change of the provider.
    """

    def __init__(self, form: str) -> None:
        self._form = form
        self._used: set[str] = set()

    def take(self, client_id: str) -> str:
        """Return the id for one more call; depends on nothing but the calls so far."""
        sent, again = client_id, 0
        while sent in self._used or not _FITS[self._form].fullmatch(sent):
            sent = self._made(client_id, again)
            again += 1
        self._used.add(sent)
        return sent

    def _made(self, client_id: str, again: int) -> str:
        digest = _digest(f"{client_id} {again}", 24)
        return digest[:9] if self._form == "nine" else f"call_{digest}"


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]

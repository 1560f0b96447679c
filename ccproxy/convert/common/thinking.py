"""
A provider's reasoning as thinking blocks, and the data that must be returned with them.

Rules:

* The text of the reasoning becomes the text of the thinking block and is read from there when the
  client sends it back.
* Data without text (Gemini's thought signatures, encrypted reasoning details) is carried inside the
  block's signature. Clients return signatures verbatim, so no server state is needed, and every
  worker of the fleet can read the signatures of all other workers.
* Signatures are authenticated: `Signer.open` returns None for a foreign, modified or truncated one.
* If a provider sends the same reasoning in two forms, only one of them is read.

Keys of `Origin.carried`, all optional:

    thought_signatures    tool call id -> extra_content.google.thought_signature of that call
    reasoning_details     OpenRouter's and MiniMax's entries, packed by `pack_details`
    reasoning_opaque      Copilot's encrypted reasoning
    hidden_text           the reasoning, if the client requests thinking blocks without text
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ccproxy.errors import BadAnswer

PREFIX = "ccproxy1."
"""Prefix of ccproxy's signatures; the number is the version of the format."""
THOUGHT_SIGNATURES = "thought_signatures"
REASONING_DETAILS = "reasoning_details"
REASONING_OPAQUE = "reasoning_opaque"
HIDDEN_TEXT = "hidden_text"

_MAX_DETAILS = 1000
"""Maximum number of carried entries; a hostile answer can contain millions."""

_TAG_BYTES = 16
_TEXT_FIELDS = ("text", "summary")
_READABLE = (*_TEXT_FIELDS, "thinking", "content")
_LABELS = frozenset({"type", "index", "format", "id"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The model that produced the thinking, and the data to return to it with the thinking."""

    provider: str
    model: str
    carried: Mapping[str, Any] = field(default_factory=dict)


class Signer:
    """Turns an origin into a signature and back; the *key* is shared by the whole fleet."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def mint(self, origin: Origin) -> str:
        """
        Return the signature of *origin*; the same origin yields the same signature.

        Raises:
            BadAnswer: If the carried data is nested too deeply.
        """
        content = [origin.provider, origin.model, dict(origin.carried)]
        try:
            body = json.dumps(content, separators=(",", ":")).encode()
        except RecursionError as error:
            raise BadAnswer("The provider's reasoning is nested too deeply") from error
        return PREFIX + base64.urlsafe_b64encode(self._tag(body) + body).decode().rstrip("=")

    def open(self, signature: object) -> Origin | None:
        """Return the origin in *signature*, or None if this fleet did not write it."""
        if not isinstance(signature, str) or not signature.startswith(PREFIX):
            return None
        text = signature[len(PREFIX) :]
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        body = sealed[_TAG_BYTES:]
        if not hmac.compare_digest(sealed[:_TAG_BYTES], self._tag(body)):
            return None
        provider, model, carried = json.loads(body)  # the tag proves that ccproxy wrote it
        return Origin(provider=provider, model=model, carried=carried)

    def _tag(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)[:_TAG_BYTES]


# Reading


class ReasoningReader:
    """
    Reads the reasoning from the deltas of one answer.

    OpenRouter sends the same text as `reasoning` and in `reasoning_details`. After the first plain
    field, the details are carried but not read.
    """

    def __init__(self) -> None:
        self.plain_seen = False
        """True: a plain field was seen; the same reasoning in another form is not read."""

    def read(self, plain: Sequence[object], details: Sequence[Mapping[str, Any]]) -> str:
        """Return the new text from the first *plain* field that has any, or else from *details*."""
        for value in plain:
            text = value if isinstance(value, str) else plain_text(value)
            if text:
                self.plain_seen = True
                return text
        return "" if self.plain_seen else "".join(map(text_of_detail, details))


def plain_text(value: object) -> str:
    """Return the text of a reasoning field that is an object or a list of objects."""
    if isinstance(value, dict):
        return text_of_detail(value)
    items = value if isinstance(value, list) else ()
    return "".join(text_of_detail(item) for item in items if isinstance(item, dict))


def text_of_detail(detail: Mapping[str, Any]) -> str:
    """Return the text of a reasoning detail or thinking block; an encrypted one has none."""
    return next((detail[key] for key in _READABLE if isinstance(detail.get(key), str)), "")


class GrowingText:
    """
    Finds the new part of text that is sent as growing snapshots (MiniMax).

    The pieces are snapshots if the second one begins with the first.
    """

    def __init__(self) -> None:
        self.is_plain = False
        """True: the pieces are not snapshots."""
        self._text = ""

    def new_part(self, piece: str) -> str:
        """Return the part of *piece* that is new."""
        if self.is_plain or not piece:
            return piece
        if not self._text:
            self._text = piece
            return piece
        if not piece.startswith(self._text):
            self.is_plain = True
            return piece
        start, self._text = len(self._text), piece
        return piece[start:]


def merge_detail(details: list[dict[str, Any]], new: Mapping[str, Any]) -> None:
    """
    Add the fragment *new* to *details*, or append it to the last entry if it continues that entry.

    A stream sends one entry in many fragments, but entries must be returned whole (OpenRouter,
    "Preserving reasoning blocks").
    """
    last = details[-1] if details else None
    if last is None or not _continues(last, new):
        if len(details) < _MAX_DETAILS:
            details.append(dict(new))
        return
    for key, value in new.items():
        if key in _TEXT_FIELDS and isinstance(value, str):
            # Without a second reference the text grows in place; there may be thousands of
            # fragments.
            text = last.pop(key, None)
            if isinstance(text, str):
                text += value
            else:
                text = value
            last[key] = text
        elif value is not None:
            last[key] = value


def has_content(detail: Mapping[str, Any]) -> bool:
    """Return True if *detail* contains more than labels and therefore needs its own block."""
    return any(value for key, value in detail.items() if key not in _LABELS)


def is_opaque(detail: Mapping[str, Any]) -> bool:
    """Return True if *detail* contains encrypted data, which cannot be replaced."""
    return bool(detail.get("data") or detail.get("signature"))


def _continues(last: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if "data" in last or "data" in new:
        return False
    has_other_id = last.get("id") and new.get("id") and last["id"] != new["id"]
    return not has_other_id and all(last.get(key) == new.get(key) for key in ("type", "index"))


# Returning


def pack_details(details: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return *details* with each text replaced by its length; the text is in the block."""
    return [
        {
            key: len(value) if key in _TEXT_FIELDS and isinstance(value, str) else value
            for key, value in detail.items()
        }
        for detail in details
    ]


def unpack_details(packed: Sequence[Mapping[str, Any]], thinking: str) -> list[dict[str, Any]]:
    """
    Return the details as the provider sent them, with their text from *thinking*.

    If the lengths in *packed* do not add up to that of *thinking* (the client changed the block),
    the first entry with text gets all of it and the others get none.
    """
    lengths = [_packed_length(detail) for detail in packed]
    if sum(lengths) != len(thinking):
        first = next((i for i, length in enumerate(lengths) if length), None)
        lengths = [len(thinking) if i == first else 0 for i in range(len(lengths))]
    details, at = [], 0
    for detail, length in zip(packed, lengths, strict=True):
        text, at = thinking[at : at + length], at + length
        details.append(
            {
                key: text if key in _TEXT_FIELDS and isinstance(value, int) else value
                for key, value in detail.items()
            }
        )
    return details


def _packed_length(detail: Mapping[str, Any]) -> int:
    return next((detail[key] for key in _TEXT_FIELDS if isinstance(detail.get(key), int)), 0)
